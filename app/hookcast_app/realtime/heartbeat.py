"""What is here of things that expire in Redis: said again every few seconds, and soon said to be gone when it is."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from hookcast_app.realtime.shards import Shard, Shards
from hookcast_core.errors import Unavailable

EXPIRY_SECONDS = 60
"""After so long nothing is believed to be there whose process has not said so again."""
BEAT_SECONDS = 20.0
AT_ONCE = 500
"""Entries in one script call."""
GONE = b""
"""What is said of an entry that is here no longer."""

Entry = tuple[str, str]
"""A name, which decides the shard, and who is there under it."""
Said = Sequence[tuple[Entry, bytes]]
"""Entries of one shard and what is kept of each, or GONE."""
Say = Callable[[Shard, Said], Awaitable[Sequence[bool]]]
"""Tells Redis; returns for each whether it holds. Raises Unavailable."""

_log = structlog.get_logger("hookcast.realtime")


class Heartbeat:
    """Lives as long as the app; `run` is its one task. `on_lost` is told of entries that are found not to hold."""

    def __init__(
        self,
        name: str,
        shards: Shards,
        say: Say,
        *,
        beat_seconds: float = BEAT_SECONDS,
        on_lost: Callable[[Entry], None] = lambda _: None,
    ) -> None:
        self.here: dict[Entry, bytes] = {}
        self._name = name
        self._shards = shards
        self._say = say
        self._beat_seconds = beat_seconds
        self._on_lost = on_lost
        self._left: list[Entry] = []
        self._has_left = asyncio.Event()

    async def enter(self, entry: Entry, kept: bytes) -> bool:
        """It is here from now on, until it leaves; whether it holds. Raises Unavailable: Redis may not know it then."""
        self.here[entry] = kept
        (holds,) = await self._say(self._shards.of(entry[0]), [(entry, kept)])
        return holds

    def leave(self, entry: Entry) -> None:
        """It is here no longer, if it was; Redis hears of it soon."""
        if self.here.pop(entry, None) is not None:
            self._left.append(entry)
            self._has_left.set()

    async def run(self) -> None:
        """Says what is here and what has left until cancelled, through every absence of Redis."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._beat(), name=f"realtime-{self._name}")
            tasks.create_task(self._tell_leaving(), name=f"realtime-{self._name}-leaving")

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._beat_seconds)
            await self._say_all(list(self.here.items()))

    async def _tell_leaving(self) -> None:
        while True:
            await self._has_left.wait()
            self._has_left.clear()
            left, self._left = self._left, []
            # What came again by now is here; what cannot be said to have left is forgotten once its time is up.
            await self._say_all([(entry, GONE) for entry in left if entry not in self.here])

    async def _say_all(self, entries: Said) -> None:
        by_shard: dict[Shard, list[tuple[Entry, bytes]]] = {}
        for entry, kept in entries:
            by_shard.setdefault(self._shards.of(entry[0]), []).append((entry, kept))
        try:
            for shard, some in by_shard.items():
                for start in range(0, len(some), AT_ONCE):
                    await self._say_some(shard, some[start : start + AT_ONCE])
        except Unavailable as error:
            _log.debug(f"{self._name}.unavailable", detail=error.detail)

    async def _say_some(self, shard: Shard, some: Said) -> None:
        # What has left since the list was made is not said to be here again.
        said = [(entry, kept) for entry, kept in some if kept == GONE or entry in self.here]
        if said:
            for (entry, _), holds in zip(said, await self._say(shard, said), strict=True):
                if not holds and self.here.pop(entry, None) is not None:
                    self._on_lost(entry)
