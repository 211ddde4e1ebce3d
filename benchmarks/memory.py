"""Memory of Redis for each thing that is kept: `python -m benchmarks.memory`; docs/operations.md has what it found.

`used_memory` of a Valkey before and after, for events with 256 B of data that match one subscription.
"""

import argparse
import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable

import msgspec
from redis.asyncio import Redis

from benchmarks.processes import LOAD_CPU, valkey
from hookcast_app.delivery.models import Attempt, Place, Record
from hookcast_app.delivery.store import LaneStore, Result, ScriptOutcome, Turn
from hookcast_app.events import Event, stored, structured, uuid7
from hookcast_app.events.store import EventStore, Publication
from hookcast_app.realtime import ChannelRules, Shards
from hookcast_app.redis import Keys, Servers, create_redis
from hookcast_core.errors import Reason

KEYS = Keys()
BATCH = 500
BODY_BYTES = 256
FOR_EVER = 10**6
HOLDER = "bench"
UIDS = tuple(str(uuid.UUID(int=number)) for number in range(1, 4))


def publication(number: int, lanes: tuple[str, ...], *, with_id: bool) -> Publication:
    """An event as it comes in over HTTP."""
    now_ms = time.time_ns() // 1_000_000
    event = Event(
        id=f"order-{number}" if with_id else uuid7(),
        source="/keys/bench",
        type="order.created",
        time="2026-01-31T12:00:00.000Z",
        datacontenttype="application/json",
        data=msgspec.json.encode("x" * (BODY_BYTES - 2)),
        given=number.to_bytes(16, "big") if with_id else None,
    )
    body, data_at = structured(event)
    record = msgspec.json.encode(stored(event, data_at, now_ms, uuid.uuid4().hex))
    return Publication(event.ref, event.given, record, body, lanes, (), b"")


class Measured:
    """One empty Redis and what is put into it."""

    def __init__(self, redis: Redis, shards: Shards, count: int) -> None:
        self.redis = redis
        self.count = count
        self._events = EventStore(redis, KEYS, shards, retention_seconds=FOR_EVER, dedup_seconds=FOR_EVER)
        self._lanes = LaneStore(
            redis,
            KEYS,
            token=HOLDER,
            lease_seconds=600,
            retention_seconds=FOR_EVER,
            dead_letter_retention_seconds=FOR_EVER,
        )

    async def used(self) -> int:
        """Bytes in use now."""
        used: int = (await self.redis.info("memory"))["used_memory"]
        return used

    async def publish(self, lanes: tuple[str, ...], *, with_id: bool = False) -> None:
        """Stores all events."""
        for first in range(0, self.count, BATCH):
            numbers = range(first, min(first + BATCH, self.count))
            await self._events.publish([publication(number, lanes, with_id=with_id) for number in numbers])

    async def settle(self, outcome: ScriptOutcome, attempt: Attempt, uid: str) -> None:
        """Ends every delivery of a lane after one attempt."""
        reason = attempt.reason
        record = Record(place=Place(outcome), made=1, reason=reason, attempts=(attempt,))
        after, results = b"-", list[Result]()
        while True:
            (fetched,) = await self._lanes.turn([Turn(uid, "take", after, 256, results=results)])
            assert fetched is not None
            if not fetched.entries:
                return
            after = fetched.entries[-1][0]
            results = [Result(entry, ref, outcome, 0, record) for entry, ref in fetched.entries]


async def bytes_each(count: int, fill: Callable[[Measured], Awaitable[None]]) -> int:
    """What each of `count` takes in a Redis of its own."""
    with valkey(LOAD_CPU) as (_, url):
        redis = create_redis(url)
        measured = Measured(redis, Shards(Servers(url), ChannelRules({})), count)
        before = await measured.used()
        await fill(measured)
        each = round((await measured.used() - before) / count)
        await redis.aclose()
        return each


async def waiting(measured: Measured) -> None:
    """Events with one delivery that waits."""
    await measured.publish(UIDS[:1])


async def waiting_three(measured: Measured) -> None:
    """Events with three deliveries that wait."""
    await measured.publish(UIDS)


async def unmatched(measured: Measured) -> None:
    """Events that no subscription wants."""
    await measured.publish(())


async def delivered(measured: Measured) -> None:
    """Events with one delivery that arrived."""
    await measured.publish(UIDS[:1])
    await measured.settle("delivered", Attempt(1, 1_769_860_800_000, 12, 200), UIDS[0])


async def dead(measured: Measured) -> None:
    """Events with one dead letter, refused with some words."""
    await measured.publish(UIDS[:1])
    attempt = Attempt(1, 1_769_860_800_000, 12, 400, Reason.BAD_STATUS, "", '{"error": "no such order"}')
    await measured.settle("dead", attempt, UIDS[0])


async def identified(measured: Measured) -> None:
    """Ids that are remembered, after their events are gone."""
    await measured.publish((), with_id=True)
    keys = [key async for key in measured.redis.scan_iter(KEYS.event("*"), count=BATCH)]
    for first in range(0, len(keys), BATCH):
        await measured.redis.delete(*keys[first : first + BATCH])
    await measured.redis.delete(KEYS.events)


async def run(count: int) -> dict[str, int]:
    """Bytes each."""
    fills = (waiting, waiting_three, unmatched, delivered, dead, identified)
    return {fill.__name__: await bytes_each(count, fill) for fill in fills}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200_000)
    print(json.dumps(asyncio.run(run(parser.parse_args().count))))
