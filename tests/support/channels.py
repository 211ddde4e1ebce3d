"""Channels over a Redis that a test has a client for."""

from typing import Any

from redis.asyncio import Redis

from hookcast_app.realtime import ChannelRules, Shards
from hookcast_app.settings import ChannelOptions


class OneServer:
    """Everything is on one Redis."""

    is_cluster = False

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def of(self, _tag: int) -> Redis:
        """The client."""
        return self._redis


def rules(namespaces: dict[str, dict[str, Any]] | None = None) -> ChannelRules:
    """Options by namespace."""
    return ChannelRules({name: ChannelOptions(**options) for name, options in (namespaces or {}).items()})


def shards(redis: Redis, namespaces: dict[str, dict[str, Any]] | None = None) -> Shards:
    """Where channels are."""
    return Shards(OneServer(redis), rules(namespaces))
