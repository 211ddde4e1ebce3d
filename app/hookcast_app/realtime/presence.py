"""Who is on which channel, in Redis: each process says every few seconds which clients are still here."""

from hookcast_app.realtime.heartbeat import BEAT_SECONDS, EXPIRY_SECONDS, Heartbeat, Said
from hookcast_app.realtime.shards import Shard, Shards
from hookcast_app.redis import Script, translated

_presence = Script("hookcast_app.realtime", "presence.lua")
_present = Script("hookcast_app.realtime", "present.lua")


class Presence:
    """Lives as long as the app; `run` is its one task."""

    def __init__(self, shards: Shards, beat_seconds: float = BEAT_SECONDS) -> None:
        self._shards = shards
        self._beat = Heartbeat("presence", shards, _say, beat_seconds=beat_seconds)
        self.run = self._beat.run

    async def enter(self, channel: str, client: str, info: bytes) -> None:
        """A client is there; `info` is its encoded `ClientInfo`. Raises Unavailable: nobody may know it then."""
        await self._beat.enter((channel, client), info)

    def leave(self, channel: str, client: str) -> None:
        """A client is there no longer; Redis hears of it soon."""
        self._beat.leave((channel, client))

    async def present(self, channel: str) -> dict[str, bytes]:
        """Who is there, wherever: by client its encoded `ClientInfo`. Raises Unavailable."""
        shard = self._shards.of(channel)
        with translated("be asked who is present"):
            found: list[bytes] = await _present(shard.redis, _keys(shard, channel), [])
        return dict(zip(map(bytes.decode, found[::2]), found[1::2], strict=True))


async def _say(shard: Shard, said: Said) -> list[bool]:
    keys = [key for (channel, _), _ in said for key in _keys(shard, channel)]
    args: list[str | bytes | int] = [EXPIRY_SECONDS]
    for (_, client), info in said:
        args += (client, info)
    with translated("be told who is present"):
        await _presence(shard.redis, keys, args)
    return [True] * len(said)


def _keys(shard: Shard, channel: str) -> list[str]:
    return [shard.key("present", channel), shard.key("expiries", channel)]
