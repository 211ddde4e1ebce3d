"""Lanes in a real Redis, as tests of a dispatcher's parts begin with them."""

import json
from collections.abc import Awaitable, Callable

from redis.asyncio import Redis

from hookcast_app.delivery.store import LaneStore
from hookcast_app.events.store import EventStore, Publication
from hookcast_app.redis import Keys
from hookcast_app.references import reference
from tests.support.channels import shards

KEYS = Keys()
RECORD = b'{"id":"1","source":"/s","type":"a","time":"t","accepted_ms":0}'
Publish = Callable[..., Awaitable[None]]
"""Takes refs, as `lanes` those to which each is published, and as `ordering_key` that of all of them."""


def lane_store(redis: Redis, token: str = "ours", lease_seconds: float = 30) -> LaneStore:
    """One dispatcher's."""
    return LaneStore(
        redis,
        KEYS,
        token=token,
        lease_seconds=lease_seconds,
        retention_seconds=100,
        dead_letter_retention_seconds=1_000,
    )


def publisher(redis: Redis) -> Publish:
    """Publishes events whose data is their ref."""
    events = EventStore(redis, KEYS, shards(redis), retention_seconds=100, dedup_seconds=50)

    async def publish(*refs: str, lanes: tuple[str, ...] = ("u",), ordering_key: str | None = None) -> None:
        await events.publish(
            [
                Publication(reference(ref, ordering_key), None, RECORD, json.dumps(ref).encode(), lanes, (), b"")
                for ref in refs
            ]
        )

    return publish
