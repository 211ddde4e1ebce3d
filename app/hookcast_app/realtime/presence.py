"""Who is on which channel, in Redis: each process says every few seconds which clients are still here."""

import asyncio
from collections.abc import Sequence

import structlog

from hookcast_app.realtime.shards import Shard, Shards
from hookcast_app.redis import Script, translated
from hookcast_core.errors import Unavailable

EXPIRY_SECONDS = 60
"""After so long nobody is believed to be there whose process has not said so again."""
BEAT_SECONDS = 20.0
AT_ONCE = 500
"""Clients in one script call."""

_presence = Script("hookcast_app.realtime", "presence.lua")
_present = Script("hookcast_app.realtime", "present.lua")
_log = structlog.get_logger("hookcast.realtime")

_Entry = tuple[str, str]
"""A channel and a client."""


class Presence:
    """Lives as long as the app; `run` is its one task."""

    def __init__(self, shards: Shards, beat_seconds: float = BEAT_SECONDS) -> None:
        self._shards = shards
        self._beat_seconds = beat_seconds
        self._here: dict[_Entry, bytes] = {}
        self._left: list[_Entry] = []
        self._has_left = asyncio.Event()

    async def enter(self, channel: str, client: str, info: bytes) -> None:
        """A client is there; `info` is its encoded `ClientInfo`. Raises Unavailable: nobody may know it then."""
        self._here[channel, client] = info
        await self._say(self._shards.of(channel), [((channel, client), info)])

    def leave(self, channel: str, client: str) -> None:
        """A client is there no longer; Redis hears of it soon."""
        if self._here.pop((channel, client), None) is not None:
            self._left.append((channel, client))
            self._has_left.set()

    async def present(self, channel: str) -> dict[str, bytes]:
        """Who is there, wherever: by client its encoded `ClientInfo`. Raises Unavailable."""
        shard = self._shards.of(channel)
        with translated("be asked who is present"):
            found: list[bytes] = await _present(shard.redis, _keys(shard, channel), [])
        return dict(zip(map(bytes.decode, found[::2]), found[1::2], strict=True))

    async def run(self) -> None:
        """Says who is here and who has left until cancelled, through every absence of Redis."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._beat(), name="realtime-presence")
            tasks.create_task(self._tell_leaving(), name="realtime-leaving")

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._beat_seconds)
            try:
                await self._say_all(list(self._here.items()))
            except Unavailable as error:
                _log.debug("presence.unavailable", detail=error.detail)

    async def _tell_leaving(self) -> None:
        while True:
            await self._has_left.wait()
            self._has_left.clear()
            left, self._left = self._left, []
            try:
                # Who came again by now is there.
                await self._say_all([(entry, b"") for entry in left if entry not in self._here])
            except Unavailable as error:  # then their time runs out
                _log.debug("presence.unavailable", detail=error.detail)

    async def _say_all(self, entries: Sequence[tuple[_Entry, bytes]]) -> None:
        by_shard: dict[Shard, list[tuple[_Entry, bytes]]] = {}
        for entry, info in entries:
            by_shard.setdefault(self._shards.of(entry[0]), []).append((entry, info))
        for shard, some in by_shard.items():
            for start in range(0, len(some), AT_ONCE):
                # Who has left since the list was made is not said to be here again.
                said = [
                    (entry, info) for entry, info in some[start : start + AT_ONCE] if not info or entry in self._here
                ]
                await self._say(shard, said)

    async def _say(self, shard: Shard, said: Sequence[tuple[_Entry, bytes]]) -> None:
        if said:
            keys = [key for (channel, _), _ in said for key in _keys(shard, channel)]
            args: list[str | bytes | int] = [EXPIRY_SECONDS]
            for (_, client), info in said:
                args += (client, info)
            with translated("be told who is present"):
                await _presence(shard.redis, keys, args)


def _keys(shard: Shard, channel: str) -> list[str]:
    return [shard.key("present", channel), shard.key("expiries", channel)]
