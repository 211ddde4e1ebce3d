"""Where a channel is in Redis: on a cluster channels are spread over its masters, and stay there whatever grows."""

from functools import cache
from typing import Any
from zlib import crc32

from redis.asyncio import Redis

from hookcast_app.realtime.channels import ChannelRules
from hookcast_app.redis import Clients, Keys, server_version, tags_of, translated

SHARDS = 16
"""Hash tags that channels are spread over. Another number would move every channel."""
SHARDED_SINCE = (7, 0, 0)
POSITION_SECONDS = 604_800
"""For how long it is known where a channel stands on which nothing is published and to which nobody comes."""


class Shard:
    """Channels of one hash tag: the client for them and the names of what is theirs."""

    def __init__(self, redis: Redis, tag: int) -> None:
        self.redis = redis
        self.tag = tag
        self.prefix = prefix_of(tag)

    def key(self, kind: str, channel: str) -> str:
        """`position`, `history`, `present` or `expiries` of a channel, or `pub`, the Redis channel that carries it."""
        return f"{self.prefix}{kind}:{channel}"


class Shards:
    """All of them, and what scripts are told of a channel; lives as long as the app."""

    def __init__(self, servers: Clients, rules: ChannelRules) -> None:
        self._rules = rules
        self._is_cluster = servers.is_cluster
        self.all = tuple(Shard(servers.of(tag), tag) for tag in tags_of(SHARDS))
        self.is_sharded = False

    async def open(self) -> None:
        """Learns how channels are published here. Raises Unavailable."""
        if self._is_cluster:
            with translated("be asked for its version"):
                info: dict[str, Any] = await self.all[0].redis.info("server")
            self.is_sharded = server_version(info) >= SHARDED_SINCE

    @property
    def servers(self) -> tuple[Shard, ...]:
        """One shard for each of the connections that all channels need."""
        return self.all if self._is_cluster else self.all[:1]

    def server_of(self, channel: str) -> Shard:
        """The one of `servers` whose connection a channel's publications come by."""
        return self.of(channel) if self._is_cluster else self.all[0]

    @property
    def verb(self) -> str:
        """How a script publishes: to everybody, or within the shard of a cluster that can (Redis 7)."""
        return "SPUBLISH" if self.is_sharded else "PUBLISH"

    def of(self, channel: str) -> Shard:
        """The shard of a channel."""
        return self.all[crc32(channel.encode()) % SHARDS]

    def route(self, channel: str) -> tuple[str, str, int, int]:
        """What `publish_on` is told: prefix, channel, size and seconds of its history."""
        options = self._rules.options(channel)
        return self.of(channel).prefix, channel, options.history_size, options.history_ttl // 1000


@cache
def prefix_of(tag: int) -> str:
    """What begins all keys of a tag's channels."""
    return f"{Keys(tag).prefix}channel:"
