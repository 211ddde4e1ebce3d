"""Whose a client id is, in Redis: each process says every few seconds which are held here, and by whom."""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog

from hookcast_app.realtime.shards import Shard, Shards
from hookcast_app.redis import Script, translated
from hookcast_core.errors import Unavailable

EXPIRY_SECONDS = 60
"""After so long nobody holds a client id whose process has not said so again."""
BEAT_SECONDS = 20.0
AT_ONCE = 500
"""Client ids in one script call."""

_claim = Script("hookcast_app.realtime", "claim.lua")
_log = structlog.get_logger("hookcast.realtime")

_Holding = tuple[str, str]
"""A client id and a connection."""


class _Held(NamedTuple):
    owner: str
    on_lost: Callable[[], None]


class Claims:
    """Lives as long as the app; `run` is its one task.

    An owner may hold a client id by several connections, in several processes; it is free when all of them have gone.
    """

    def __init__(self, shards: Shards, beat_seconds: float = BEAT_SECONDS) -> None:
        self._shards = shards
        self._beat_seconds = beat_seconds
        self._here: dict[_Holding, _Held] = {}
        self._left: list[_Holding] = []
        self._has_left = asyncio.Event()

    async def claim(self, client: str, owner: str, connection: str, on_lost: Callable[[], None]) -> bool:
        """Holds a client id for `owner`, unless it is another one's; returns whether it is held.

        `on_lost` is called if it is found to be another one's later, after Redis had forgotten. `release` ends it, also
        after this was cancelled or has raised Unavailable.
        """
        holding = client, connection
        self._here[holding] = _Held(owner, on_lost)
        (is_held,) = await self._say(self._shards.of(client), [(holding, owner)])
        if not is_held:
            self._here.pop(holding, None)
        return is_held

    def release(self, client: str, connection: str) -> None:
        """A connection holds a client id no longer, if it did; Redis hears of it soon."""
        if self._here.pop((client, connection), None) is not None:
            self._left.append((client, connection))
            self._has_left.set()

    async def is_held(self, client: str) -> bool:
        """Whether anybody holds a client id, wherever. Raises Unavailable."""
        shard = self._shards.of(client)
        with translated("be asked for a client id"):
            return bool(await shard.redis.exists(shard.key("claim", client)))

    async def run(self) -> None:
        """Says what is held here and what no longer until cancelled, through every absence of Redis."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._beat(), name="realtime-claims")
            tasks.create_task(self._tell_leaving(), name="realtime-releases")

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._beat_seconds)
            try:
                await self._say_all([(holding, held.owner) for holding, held in self._here.items()])
            except Unavailable as error:
                _log.debug("claims.unavailable", detail=error.detail)

    async def _tell_leaving(self) -> None:
        while True:
            await self._has_left.wait()
            self._has_left.clear()
            left, self._left = self._left, []
            try:
                await self._say_all([(holding, "") for holding in left])
            except Unavailable as error:  # then their time runs out
                _log.debug("claims.unavailable", detail=error.detail)

    async def _say_all(self, said: Sequence[tuple[_Holding, str]]) -> None:
        by_shard: dict[Shard, list[tuple[_Holding, str]]] = {}
        for holding, owner in said:
            by_shard.setdefault(self._shards.of(holding[0]), []).append((holding, owner))
        for shard, some in by_shard.items():
            for start in range(0, len(some), AT_ONCE):
                # What was released since the list was made is not said to be held again.
                valid = [(h, owner) for h, owner in some[start : start + AT_ONCE] if not owner or h in self._here]
                answers = await self._say(shard, valid)
                for (holding, _), is_held in zip(valid, answers, strict=True):
                    if not is_held and (lost := self._here.pop(holding, None)):
                        lost.on_lost()

    async def _say(self, shard: Shard, said: Sequence[tuple[_Holding, str]]) -> list[bool]:
        if not said:
            return []
        keys = [key for (client, _), _ in said for key in (shard.key("claim", client), shard.key("holders", client))]
        args: list[str | int] = [EXPIRY_SECONDS]
        for (_, connection), owner in said:
            args += (owner, connection)
        with translated("be told who holds a client id"):
            answers: list[int] = await _claim(shard.redis, keys, args)
        return [bool(answer) for answer in answers]
