"""Partitions over a Redis that a test has a client for."""

from redis.asyncio import Redis

from hookcast_app.redis import Partition, Partitions
from tests.support.lanes import KEYS


class OneServer:
    """All partitions are on one Redis."""

    is_cluster = False

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def of(self, _tag: int) -> Redis:
        """The client."""
        return self._redis


def partitions(redis: Redis) -> Partitions:
    """One, or as many as `open` is asked for."""
    return Partitions(OneServer(redis))


def home(redis: Redis) -> Partition:
    """The one that there is."""
    return Partition(redis, KEYS)
