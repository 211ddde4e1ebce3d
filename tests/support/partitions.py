"""Partitions over a Redis that a test has a client for."""

from redis.asyncio import Redis

from hookcast_app.redis import Partition, Partitions
from tests.support.channels import OneServer
from tests.support.lanes import KEYS


def partitions(redis: Redis) -> Partitions:
    """One, or as many as `open` is asked for."""
    return Partitions(OneServer(redis))


def home(redis: Redis) -> Partition:
    """The one that there is."""
    return Partition(redis, KEYS)
