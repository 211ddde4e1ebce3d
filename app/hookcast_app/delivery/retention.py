"""Keeps what the index of events spans within HOOKCAST_RETENTION_BYTES: the oldest events go first."""

from collections.abc import Callable
from typing import NamedTuple, cast

from redis.asyncio import Redis

from hookcast_app.redis import Keys, Script, translated

PAGE = 500
"""Events of one script: some 2 ms of Redis."""
LANES = 1_000
"""Lanes whose lists are cut in one script."""
CUT = ("delivered", "discarded")

_retire = Script("hookcast_app.delivery", "retire.lua")
_trim = Script("hookcast_app.delivery", "trim.lua")


class Indexed(NamedTuple):
    """An entry of the index: an event, and the bytes that all events up to it took."""

    id: str
    ref: str
    stored: int

    @property
    def accepted_ms(self) -> int:
        """When Redis took the event, in epoch ms."""
        return int(self.id.partition("-")[0])


class Retention:
    """The index of one partition; lives as long as the app.

    `spanned` is how many bytes it spanned when it was last looked at, `oldest_ms` when its first event was accepted
    (epoch ms), or None if it has none.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        most_bytes: int,
        retention_seconds: int,
        parts: Callable[[], int] = lambda: 1,
    ) -> None:
        """`most_bytes` are those of all partitions, of which there are `parts`; 0 is any number."""
        self._redis = redis
        self._keys = keys
        self._all_bytes = most_bytes
        self._parts = parts
        self._retention_seconds = retention_seconds
        self._lanes: set[str] = set()
        self.spanned = 0
        self.oldest_ms: int | None = None

    @property
    def _most_bytes(self) -> int:
        return self._all_bytes // self._parts()

    def age_ms(self, now_ms: int) -> int:
        """For how long the oldest event that is listed has been there; 0 if there is none."""
        return max(now_ms - self.oldest_ms, 0) if self.oldest_ms else 0

    async def make_room(self) -> int:
        """Takes events out of the index until it spans no more than it may; how many. Raises Unavailable."""
        taken, last = 0, None
        while await self._look():
            if page := await self._beyond():  # else another process was faster
                await self._take_out(page)
                taken, last = taken + len(page), page[-1]
        if last is not None:
            await self._cut(last.accepted_ms)
        return taken

    async def _look(self) -> bool:
        """Whether the index spans too much."""
        total, entries = await self._read(1)
        self.spanned = total - entries[0].stored if entries else 0
        self.oldest_ms = entries[0].accepted_ms if entries else None
        return self._all_bytes > 0 and self._most_bytes < self.spanned

    async def _beyond(self) -> list[Indexed]:
        """The oldest events, those of a page that there is no room for."""
        total, entries = await self._read(PAGE)
        return [entry for entry in entries if total - entry.stored > self._most_bytes]

    async def _read(self, count: int) -> tuple[int, list[Indexed]]:
        """The bytes that all events took, and so many of the oldest entries."""
        pipeline = self._redis.pipeline()
        pipeline.get(self._keys.stored)
        pipeline.xrange(self._keys.events, count=count)
        with translated("look at the index of events"):
            total, found = await pipeline.execute()
        entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", found)
        return int(total or 0), [
            # One of an older version has no count: what was stored since then is spanned from it on.
            Indexed(entry.decode(), fields[b"e"].decode(), int(fields.get(b"b", 0)))
            for entry, fields in entries
        ]

    async def _take_out(self, page: list[Indexed]) -> None:
        keys = [self._keys.mark, self._keys.events, *(self._keys.event(entry.ref) for entry in page)]
        with translated("make room"):
            lanes: list[bytes] = await _retire(
                self._redis, keys, [self._retention_seconds, *(entry.id for entry in page)]
            )
        self._lanes.update(uid.decode() for uid in lanes)

    async def _cut(self, until_ms: int) -> None:
        """Cuts the lists of settled deliveries of events that were deleted.

        A delivery that ended before `until_ms` is of an event that was accepted before it.
        """
        while self._lanes:
            uids = [self._lanes.pop() for _ in range(min(LANES, len(self._lanes)))]
            keys = [self._keys.mark, *(self._keys.lane(uid, place) for uid in uids for place in CUT)]
            with translated("make room"):
                await _trim(self._redis, keys, [until_ms])
