"""The dispatcher under faults: Redis away, leases lost, events gone, defects, and an orderly end."""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from hookcast_app.configuration import CurrentConfiguration
from hookcast_app.delivery.attempt import Attempted, Attempts, Target
from hookcast_app.delivery.models import Attempt, Place
from hookcast_app.delivery.outcome import Delivered
from hookcast_app.delivery.store import FAR, Fetched, LaneStore, Loaded, Result, Turn
from hookcast_app.events import Stored
from hookcast_app.health import PATIENCE_SECONDS
from hookcast_core.configuration import Configuration
from hookcast_core.errors import Unavailable
from tests.support.app import eventually
from tests.support.dispatching import NEVER, configuration, dispatching, settled
from tests.support.lanes import KEYS, RECORD, Publish
from tests.support.receiver import Receiver, Reply


class FaultyStore(LaneStore):
    """A lane store that a test can make fail, before or after Redis did the work."""

    fail_before = 0
    fail_after = 0
    fail_load = 0
    fail_due = 0
    after_turn: Callable[[Sequence[Turn]], None] = staticmethod(lambda _: None)

    async def turn(self, turns: Sequence[Turn]) -> list[Fetched | None]:
        if self.fail_before:
            self.fail_before -= 1
            raise Unavailable("before")
        answer = await super().turn(turns)
        self.after_turn(turns)
        if self.fail_after:
            self.fail_after -= 1
            raise Unavailable("after")
        return answer

    async def due(self, limit: int, horizon_ms: int = 0) -> list[str]:
        if self.fail_due:
            self.fail_due -= 1
            raise Unavailable("due")
        return await super().due(limit, horizon_ms)

    async def load(self, wanted: Any) -> list[Loaded | None]:
        if self.fail_load:
            self.fail_load -= 1
            raise Unavailable("load")
        return await super().load(wanted)


class HeldAttempts(Attempts):
    """Attempts that begin and end only when a test says so."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.go = asyncio.Event()

    async def make(self, target: Target, delivery: Loaded, now_ms: int) -> Attempted:  # noqa: ARG002  the real one's signature
        self.begun.append(delivery.ref)
        await self.go.wait()
        attempt = Attempt(1, 0, 1, 200)
        record = delivery.record.after(attempt, Place.DELIVERED, None, None)
        return Attempted(Delivered(), attempt, Result(delivery.entry, delivery.ref, "delivered", 0, record))


def lane_store(redis: Redis, token: str = "ours", lease_seconds: float = 30) -> FaultyStore:
    return FaultyStore(
        redis, KEYS, token=token, lease_seconds=lease_seconds, retention_seconds=100, dead_letter_retention_seconds=100
    )


async def test_a_redis_that_fails_for_a_while_loses_and_doubles_nothing(
    redis: Redis, publish: Publish, receiver: Receiver
) -> None:
    """Turns and loads fail, with and without their effect: each delivery is attempted and settled once."""
    store = lane_store(redis)
    store.fail_before, store.fail_load = 2, 2
    await publish(*(f"r{number}" for number in range(50)))
    async with dispatching(store, configuration(receiver.url)) as dispatcher:
        await receiver.wait_for(20)
        store.fail_after, store.fail_load = 2, 1
        await settled(redis, 50)
        await eventually(lambda: dispatcher.in_flight == 0)

    assert sorted(receiver.bodies()) == sorted(json.dumps(f"r{number}").encode() for number in range(50))
    assert await redis.xlen(KEYS.lane("u", "waiting")) == 0


async def test_results_after_a_lost_lease_are_dropped_and_counted(redis: Redis, publish: Publish) -> None:
    """Another dispatcher took over meanwhile: what this one still learns changes nothing."""
    attempts = HeldAttempts()
    await publish("a")
    async with dispatching(lane_store(redis), configuration("http://127.0.0.1:9"), attempts) as dispatcher:
        await eventually(lambda: attempts.begun)
        await redis.set(KEYS.lane("u", "lease"), "somebody else", px=60_000)
        attempts.go.set()
        await eventually(lambda: dict(dispatcher.dropped()).get("lease_lost"))

    assert await redis.xlen(KEYS.lane("u", "waiting")) == 1
    assert await redis.xlen(KEYS.lane("u", "delivered")) == 0


async def test_lanes_that_redis_thinks_are_ours_are_taken_when_it_may_know_less(
    redis: Redis, publish: Publish, receiver: Receiver
) -> None:
    """A lane that was given back on the Redis of before: nobody else may take it until the lease ends."""
    async with dispatching(lane_store(redis), configuration(receiver.url)) as dispatcher:
        await eventually(lambda: dispatcher.check(asyncio.get_running_loop().time()) is None)
        dispatcher.pause()
        await publish("a")
        await redis.set(KEYS.lane("u", "lease"), "ours", px=60_000)
        await redis.zadd(KEYS.ring, {"u": FAR})
        dispatcher.resume()

        dispatcher.start_over()

        await receiver.wait_for(1)


async def test_the_end_waits_for_attempts_and_gives_lanes_back(redis: Redis, publish: Publish) -> None:
    """Drain: nothing new starts, what is in flight is settled, and another may lease the lane at once."""
    attempts = HeldAttempts()
    current = configuration("http://127.0.0.1:9", maxInFlight=1)
    await publish("a", "b")
    async with dispatching(lane_store(redis), current, attempts) as dispatcher:
        await eventually(lambda: attempts.begun == ["a"])
        draining = asyncio.create_task(dispatcher.drain(10))
        await asyncio.sleep(0)
        attempts.go.set()
        await draining

        assert attempts.begun == ["a"]
        assert dispatcher.lanes_held == 0
    assert await redis.xlen(KEYS.lane("u", "delivered")) == 1
    assert await lane_store(redis, "next").turn([Turn("u", "take", want=1)]) != [None]


async def test_the_end_is_bounded(redis: Redis, publish: Publish) -> None:
    """An attempt that does not end does not hold the process up; it will be made again."""
    attempts = HeldAttempts()
    await publish("a")
    async with dispatching(lane_store(redis), configuration("http://127.0.0.1:9"), attempts) as dispatcher:
        await eventually(lambda: attempts.begun)
        await dispatcher.drain(0.05)

    assert await redis.xlen(KEYS.lane("u", "waiting")) == 1


async def test_a_successor_with_the_same_token_takes_over_at_once(
    redis: Redis, publish: Publish, receiver: Receiver
) -> None:
    """The embedded Redis serves one process: what a killed one left leased does not wait for the lease's end."""
    await publish("a")
    await lane_store(redis).turn([Turn("u", "take", want=1)])

    async with dispatching(lane_store(redis), configuration(receiver.url)):
        await settled(redis, 1)


async def test_a_missing_event_is_passed_over(redis: Redis, publish: Publish, receiver: Receiver) -> None:
    """Somebody deleted its key: the lane goes on."""
    await publish("a", "b")
    await redis.delete(KEYS.event("a"))

    async with dispatching(lane_store(redis), configuration(receiver.url)):
        await settled(redis, 1)

    assert receiver.bodies() == [b'"b"']
    assert await redis.xlen(KEYS.lane("u", "waiting")) == 0


async def test_a_defect_in_one_attempt_stops_nothing(redis: Redis, publish: Publish, receiver: Receiver) -> None:
    """The delivery is tried again by its schedule, and its record says that the fault was ours."""
    await publish("a", "b")
    bad = Stored(id="1", source="/s", type="\u20ac", time="t", accepted_ms=0)
    await redis.hset(KEYS.event("a"), "m", json.dumps({**json.loads(RECORD), "type": bad.type}))

    async with dispatching(lane_store(redis), configuration(receiver.url, retry={"schedule": ["1h"]})):
        await settled(redis, 1)
        async with asyncio.timeout(10):
            while await redis.zcard(KEYS.lane("u", "later")) == 0:
                await asyncio.sleep(0.02)

    assert receiver.bodies() == [b'"b"']
    assert b'"reason":"Internal"' in cast("bytes", await redis.hget(KEYS.event("a"), "d:u"))


async def test_a_blip_of_redis_leaves_the_process_ready(redis: Redis) -> None:
    """It is unready until Redis was reached once, and again when it has not been for as long as the watch allows."""
    loop, store = asyncio.get_running_loop(), lane_store(redis)
    store.fail_due = 1_000
    async with dispatching(store, CurrentConfiguration()) as dispatcher:
        await eventually(lambda: store.fail_due < 1_000)
        assert dispatcher.check(loop.time()) is not None
        store.fail_due = 0
        dispatcher.look()
        await eventually(lambda: dispatcher.check(loop.time()) is None)

        store.fail_due = 1_000
        dispatcher.look()
        await eventually(lambda: store.fail_due < 1_000)

        assert dispatcher.check(loop.time()) is None
        assert dispatcher.check(loop.time() + PATIENCE_SECONDS) is not None


async def test_a_lane_without_a_subscription_is_left_alone(redis: Redis, publish: Publish) -> None:
    """Nobody knows yet where its deliveries go: they wait, unleased."""
    await publish("a")

    async with dispatching(lane_store(redis), CurrentConfiguration()) as dispatcher:
        await eventually(lambda: dispatcher.check(asyncio.get_running_loop().time()) is None)
        async with asyncio.timeout(10):
            while await lane_store(redis, "x").due(10):
                await asyncio.sleep(0.02)
        await eventually(lambda: dispatcher.lanes_held == 0)

    assert not await redis.exists(KEYS.lane("u", "lease"))
    assert await redis.xlen(KEYS.lane("u", "waiting")) == 1
    assert await lane_store(redis, "x").due(10, FAR) == ["u"]


async def test_a_change_while_a_lane_is_being_parked_takes_effect_at_once(
    redis: Redis, publish: Publish, receiver: Receiver
) -> None:
    """Not after the half minute for which nobody looks at a parked lane."""
    store, current = lane_store(redis), configuration(receiver.url)
    resumed = current.entries["u"]
    suspended = resumed.model_copy(update={"spec": resumed.spec.model_copy(update={"suspend": True})})
    current.swap(Configuration(sequence=2, entries=(suspended,)))

    def resume(turns: Sequence[Turn]) -> None:
        """Redis has parked it, and the dispatcher does not know yet."""
        if any(turn.park_ms for turn in turns):
            current.swap(Configuration(sequence=3, entries=(resumed,)))

    store.after_turn = resume
    await publish("a")
    async with dispatching(store, current):
        await receiver.wait_for(1)


async def test_fifo_waits_for_its_head_after_a_restart(redis: Redis, publish: Publish, receiver: Receiver) -> None:
    """The head's next attempt is due in an hour: a new dispatcher starts nothing before it."""
    await publish("a", "b")
    current = configuration(receiver.url, ordering="FIFO", retry={"schedule": ["1h"]})
    receiver.behaviour = lambda _request: Reply(500)
    async with dispatching(lane_store(redis), current) as dispatcher:
        await receiver.wait_for(1)
        await eventually(lambda: dispatcher.in_flight == 0)
        await dispatcher.drain(5)

    async with dispatching(lane_store(redis, "next"), current) as dispatcher:
        await eventually(lambda: dispatcher.lanes_held == 1)
        async with asyncio.timeout(10):
            while await redis.get(KEYS.lane("u", "lease")) != b"next":
                await asyncio.sleep(0.02)
        await dispatcher.drain(5)

    assert receiver.bodies() == [b'"a"']


async def test_many_that_become_due_together_are_not_forgotten(
    redis: Redis, publish: Publish, receiver: Receiver
) -> None:
    """However the times of turns, loads and retries fall: no lane waits for its lease's renewal to notice."""
    refs = [f"r{number}" for number in range(60)]
    failed: set[bytes] = set()

    def once(request: Any) -> Reply:
        if request.body in failed:
            return Reply()
        failed.add(request.body)
        return Reply(503)

    receiver.behaviour = once
    await publish(*refs)
    loop = asyncio.get_running_loop()
    async with dispatching(
        lane_store(redis), configuration(receiver.url, retry={"schedule": ["1s"]}, circuitBreaker=NEVER)
    ):
        await eventually(lambda: len(failed) == 60)
        first_done = loop.time()
        await settled(redis, 60)

    assert loop.time() - first_done < 8


async def test_a_redis_that_is_full_is_delivered_from(redis: Redis, publish: Publish, receiver: Receiver) -> None:
    """Nothing more is taken in, and what waits goes out, retries too: else a full Redis would stay full."""
    refs = [f"r{number}" for number in range(20)]
    replies = iter([Reply(503)] * 20)
    receiver.behaviour = lambda _: next(replies, Reply())
    await publish(*refs)
    await redis.config_set("maxmemory", "1mb")
    try:
        with pytest.raises(Unavailable, match="memory"):
            await publish("one too many")

        async with dispatching(
            lane_store(redis), configuration(receiver.url, retry={"schedule": ["0s"]}, circuitBreaker=NEVER)
        ):
            await settled(redis, 20)
    finally:
        await redis.config_set("maxmemory", "0")

    assert {json.loads(body) for body in receiver.bodies()} == set(refs)


async def test_a_subscription_that_goes_between_two_attempts_stops_nothing(redis: Redis, publish: Publish) -> None:
    """The configuration is swapped in the very tick in which its workers start: its deliveries stay in the lane."""
    current = configuration("http://127.0.0.1:9")
    await publish("a", "b")
    store = lane_store(redis)
    async with dispatching(store, current) as dispatcher:
        feed = dispatcher._turns._feed

        def feed_and_swap(lane: Any) -> None:
            feed(lane)
            if lane.in_flight:
                current.swap(Configuration(sequence=2))

        dispatcher._turns._feed = feed_and_swap
        await eventually(lambda: not current.entries)
        await eventually(lambda: dispatcher.lanes_held == 0)

    assert await redis.xlen(KEYS.lane("u", "waiting")) == 2


async def test_gone_from_a_url_that_was_corrected_meanwhile_disables_nothing(
    redis: Redis, publish: Publish, receiver: Receiver
) -> None:
    """The answer concerned the specification before; the corrected one gets what follows."""
    current = configuration(f"{receiver.url}/old")
    answered = asyncio.Event()

    async def gone(request: Any) -> Reply:
        if request.path == "/new":
            return Reply()
        await answered.wait()
        return Reply(410)

    receiver.behaviour = gone
    await publish("a")
    async with dispatching(lane_store(redis), current):
        await receiver.wait_for(1)
        changed = configuration(f"{receiver.url}/new").configuration
        assert changed is not None
        current.swap(changed)
        answered.set()
        await publish("b")
        await settled(redis, 1)

    assert not await redis.exists(KEYS.disabled)
    assert await redis.xlen(KEYS.lane("u", "dead")) == 1
