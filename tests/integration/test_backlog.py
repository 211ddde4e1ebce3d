"""How much is to be delivered and how old it is, as metrics tell it: on a real Redis."""

import asyncio
import time

import pytest
from prometheus_client.exposition import generate_latest
from redis.asyncio import Redis

from hookcast_app.configuration import CurrentConfiguration
from hookcast_app.delivery.backlog import LANES_AT_ONCE, Backlog
from hookcast_app.delivery.models import Place, Record
from hookcast_app.delivery.store import Result, Turn
from hookcast_app.observability import Metrics
from hookcast_core.configuration import Configuration
from hookcast_core.errors import Unavailable
from tests.support.app import eventually
from tests.support.lanes import Publish, lane_store
from tests.support.operator import entry


class Looked:
    """A backlog with a clock that is ahead of Redis' by `ahead_ms`, and what it tells Prometheus."""

    def __init__(self, redis: Redis) -> None:
        self.ahead_ms = 0
        self.current = CurrentConfiguration()
        self.store = lane_store(redis)
        self._metrics = Metrics()
        clock = lambda: time.time_ns() // 1_000_000 + self.ahead_ms  # noqa: E731
        self.backlog = Backlog(lambda: [self.store], self.current, clock, self._metrics)

    async def tells(self) -> tuple[int, int, int]:
        """Deliveries waiting and later, and whole seconds that the oldest has been due."""
        await self.backlog.look()
        text = generate_latest(self._metrics.registry).decode()
        lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("hookcast_"))
        names = (
            'hookcast_deliveries{state="waiting"}',
            'hookcast_deliveries{state="later"}',
            "hookcast_oldest_delivery_age_seconds",
        )
        waiting, later, oldest = (int(float(lines[name])) for name in names)
        return waiting, later, oldest


@pytest.fixture
def looked(redis: Redis) -> Looked:
    return Looked(redis)


async def test_nothing_is_nothing(looked: Looked) -> None:
    """Of an empty Redis."""
    assert await looked.tells() == (0, 0, 0)


async def test_what_is_due_is_counted_and_its_age_told(looked: Looked, publish: Publish) -> None:
    """Also what an attempt is being made of; not what has ended."""
    await publish("a", lanes=("u", "v"))
    await publish("b")
    looked.ahead_ms = 120_000

    assert await looked.tells() == (3, 0, 120)

    for uid in ("u", "v"):
        (fetched,) = await looked.store.turn([Turn(uid, "take", want=10)])
        assert fetched is not None
        results = [
            Result(each, ref, "delivered", 0, Record(place=Place.DELIVERED, made=1)) for each, ref in fetched.entries
        ]
        await looked.store.turn([Turn(uid, "release", results=results)])
    assert await looked.tells() == (0, 0, 0)


async def test_what_is_tried_again_later_is_not_due(looked: Looked, publish: Publish) -> None:
    """Its age begins when it is: the schedule wants it to wait."""
    await publish("a")
    (fetched,) = await looked.store.turn([Turn("u", "take", want=10)])
    assert fetched is not None
    ((each, ref),) = fetched.entries
    failed = Result(each, ref, "later", 60_000, Record(place=Place.LATER, made=1))
    await looked.store.turn([Turn("u", "release", results=[failed])])
    looked.ahead_ms = 120_000

    assert await looked.tells() == (0, 1, 0)


async def test_a_suspended_subscription_is_not_late(looked: Looked, publish: Publish) -> None:
    """What waits for it is counted all the same."""
    await publish("a", lanes=("held", "unknown"))
    suspended = entry("held", "https://shop.example/", suspend=True)
    looked.current.swap(Configuration(sequence=1, entries=(suspended,)))
    looked.ahead_ms = 120_000
    assert await looked.tells() == (2, 0, 120), "nobody wants the unknown one to wait"

    unknown = entry("unknown", "https://shop.example/", suspend=True)
    looked.current.swap(Configuration(sequence=2, entries=(suspended, unknown)))
    assert await looked.tells() == (2, 0, 0)


async def test_a_clock_behind_that_of_redis_makes_no_negative_age(looked: Looked, publish: Publish) -> None:
    """Two machines never agree wholly."""
    await publish("a")
    looked.ahead_ms = -5_000

    assert await looked.tells() == (1, 0, 0)


async def test_many_lanes_are_looked_at_in_pieces(looked: Looked, publish: Publish) -> None:
    """All of them."""
    lanes = tuple(f"u{number}" for number in range(2 * LANES_AT_ONCE + 1))
    await publish("a", lanes=lanes)

    waiting, _, _ = await looked.tells()

    assert waiting == len(lanes)


async def test_it_goes_on_when_redis_was_away(
    looked: Looked, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was seen last stays meanwhile."""
    await publish("a")
    await looked.backlog.look()
    lists, failures = looked.store.due, 2

    async def due(limit: int, horizon_ms: int = 0) -> list[str]:
        nonlocal failures
        if failures:
            failures -= 1
            assert looked.backlog.totals.waiting == 1
            raise Unavailable("Redis is away")
        return await lists(limit, horizon_ms)

    monkeypatch.setattr(looked.store, "due", due)
    await publish("b")
    task = asyncio.create_task(looked.backlog.run(0.01))
    try:
        await eventually(lambda: looked.backlog.totals.waiting == 2)
    finally:
        await cancelled(task)
    assert failures == 0


async def cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
