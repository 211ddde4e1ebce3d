"""The dispatcher under faults: Redis away, leases lost, events gone, defects, and an orderly end."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any, cast

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from hookcast_app.configuration import CurrentConfiguration
from hookcast_app.delivery.attempt import Attempted, Attempts, Target
from hookcast_app.delivery.disabling import Disabling, Report
from hookcast_app.delivery.dispatcher import Dispatcher
from hookcast_app.delivery.models import Attempt, Place
from hookcast_app.delivery.outcome import Delivered
from hookcast_app.delivery.store import FAR, Fetched, LaneStore, Loaded, Result, Turn
from hookcast_app.delivery.targets import Targets
from hookcast_app.events import Stored
from hookcast_app.health import PATIENCE_SECONDS
from hookcast_app.outgoing import HttpClient
from hookcast_core.configuration import Configuration, Entry, SigningKey
from hookcast_core.egress import EgressPolicy
from hookcast_core.errors import Unavailable
from hookcast_core.subscription import Subscription
from tests.support.app import SIGNING_SECRET, eventually
from tests.support.lanes import KEYS, RECORD, Publish, publisher
from tests.support.receiver import Receiver, Reply

NEVER = {"failures": 10_000}
"""A circuit breaker that stays closed."""


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


def configuration(url: str, **delivery: object) -> CurrentConfiguration:
    current = CurrentConfiguration()
    content = {"endpoint": {"url": url}, "events": {"types": ["*"]}, "delivery": delivery}
    spec = Subscription.model_validate(content)
    keys = (SigningKey(algorithm="HMAC", secret=SecretStr(SIGNING_SECRET)),)
    entry = Entry(uid="u", generation=1, namespace="d", name="n", source="files", spec=spec, url=url, signing_keys=keys)
    current.swap(Configuration(sequence=1, entries=(entry,)))
    return current


async def unreported(_type: str, _data: dict[str, object]) -> None:
    """A report that nobody reads."""


@asynccontextmanager
async def dispatching(
    store: LaneStore,
    current: CurrentConfiguration,
    attempts: Attempts | None = None,
    *,
    clock: Callable[[], int] = lambda: 0,
    report: Report = unreported,
    disable_after_seconds: int = 0,
) -> AsyncIterator[Dispatcher]:
    client = HttpClient(EgressPolicy(["127.0.0.0/8"]))
    targets = Targets(current, "1", clock, 60)
    made = attempts or Attempts(client, clock, lambda: 0.5)
    disabling = Disabling(store, current, clock, report, after_seconds=disable_after_seconds)
    dispatcher = Dispatcher(store, current, targets, made, disabling, clock, lambda _uid, _attempted: None)
    task = asyncio.create_task(dispatcher.run())
    try:
        yield dispatcher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.close()


@pytest.fixture
def publish(redis: Redis) -> Publish:
    return publisher(redis)


async def settled(redis: Redis, count: int) -> None:
    async with asyncio.timeout(15):
        while await redis.xlen(KEYS.lane("u", "delivered")) < count:
            await asyncio.sleep(0.02)


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


# FIFO


async def test_fifo_holds_one_key_and_lets_the_others_go(redis: Redis, publish: Publish, receiver: Receiver) -> None:
    """One key's head fails: what is behind it waits, and the other keys' deliveries arrive in their order."""
    current = configuration(receiver.url, ordering="FIFO", retry={"schedule": ["1h"]})
    receiver.behaviour = lambda request: Reply(500 if request.body == b'"bad-0"' else 200)
    for number in range(20):
        for key in ("bad", "good", "better"):
            await publish(f"{key}-{number}", ordering_key=key)

    async with dispatching(lane_store(redis), current):
        await settled(redis, 40)

    bodies = [json.loads(body) for body in receiver.bodies()]
    for key in ("good", "better"):
        assert [body for body in bodies if body.startswith(key + "-")] == [f"{key}-{number}" for number in range(20)]
    assert [body for body in bodies if body.startswith("bad-")] == ["bad-0"]
    assert await redis.xlen(KEYS.lane("u", "waiting")) == 20


async def test_fifo_goes_on_when_its_head_dies(redis: Redis, publish: Publish, receiver: Receiver) -> None:
    """Also after retries: the head is attempted again before the next of its key, until it has ended."""
    current = configuration(receiver.url, ordering="FIFO", retry={"schedule": ["0s", "0s"]}, circuitBreaker=NEVER)
    receiver.behaviour = lambda request: Reply(500 if request.body == b'"a"' else 200)
    await publish("a", "b", "c", ordering_key="k")

    async with dispatching(lane_store(redis), current):
        await settled(redis, 2)

    assert receiver.bodies() == [b'"a"', b'"a"', b'"a"', b'"b"', b'"c"']
    assert await redis.xlen(KEYS.lane("u", "dead")) == 1


async def test_fifo_is_kept_when_dispatchers_die(redis: Redis, publish: Publish, receiver: Receiver) -> None:
    """Each is cancelled amid its work: what is sent again begins with what was under way, never before or after it."""
    refs = [f"{number % 4}-{number}" for number in range(120)]
    current = configuration(receiver.url, ordering="FIFO")
    for ref in refs:
        await publish(ref, ordering_key=ref.split("-")[0])
    for lives in range(1, 10):
        async with dispatching(lane_store(redis), current):  # the same token: a successor takes over at once
            await receiver.wait_for(lives * 11)
    async with dispatching(lane_store(redis), current):
        await settled(redis, len(refs))

    for key in "0123":
        numbers = [
            int(json.loads(body).split("-")[1]) for body in receiver.bodies() if json.loads(body).startswith(key + "-")
        ]
        first_seen = list(dict.fromkeys(numbers))
        assert first_seen == sorted(first_seen)
        assert all(again - before in {0, 4} or again <= before for before, again in pairwise(numbers))


# The breaker


async def test_a_breaker_stays_open_for_the_next_dispatcher(redis: Redis, publish: Publish, receiver: Receiver) -> None:
    """Nothing is attempted after a restart until its time has come; then one tries, and all of them go."""
    current = configuration(
        receiver.url, retry={"schedule": ["0s"] * 20}, circuitBreaker={"failures": 3, "open": "60s"}, maxInFlight=1
    )
    now = 1_000_000
    receiver.behaviour = lambda _request: Reply(503)
    await publish("a", "b", "c", "d", "e")
    async with dispatching(lane_store(redis), current, clock=lambda: now) as dispatcher:
        await eventually(lambda: dispatcher.breakers_open == 1)
        await eventually(lambda: dispatcher.in_flight == 0)
        await dispatcher.drain(5)
    made = len(receiver.bodies())
    receiver.behaviour = lambda _request: Reply()

    async with dispatching(lane_store(redis, "next"), current, clock=lambda: now) as dispatcher:
        await eventually(lambda: dispatcher.breakers_open == 1)
        assert len(receiver.bodies()) == made
        now += 60_000
        (lane,) = dispatcher._lanes.values()
        dispatcher._work.feed(lane)
        lane.not_before = 0
        dispatcher._work.feed(lane)
        await settled(redis, 5)
        await eventually(lambda: dispatcher.breakers_open == 0)
        await dispatcher.drain(5)

    assert made == 3
    assert not await redis.exists(KEYS.failing)


async def test_an_endpoint_that_fails_for_days_is_disabled_and_reported(
    redis: Redis, publish: Publish, receiver: Receiver
) -> None:
    """Failing since days ago, as the dispatcher before remembered it; one more failure and that is that."""
    reports: list[tuple[str, Any]] = []

    async def report(event_type: str, data: dict[str, object]) -> None:
        reports.append((event_type, data))

    day = 86_400_000
    now = 100 * day
    current = configuration(receiver.url, retry={"schedule": ["0s"]})
    receiver.behaviour = lambda _request: Reply(400)
    await publish("a")
    async with dispatching(lane_store(redis), current, clock=lambda: now, report=report) as dispatcher:
        await receiver.wait_for(1)
        await eventually(lambda: dispatcher.in_flight == 0)
        await dispatcher.drain(5)
    now += 5 * day
    await publish("b", "c")

    async with dispatching(
        lane_store(redis), current, clock=lambda: now, report=report, disable_after_seconds=5 * 86_400
    ):
        async with asyncio.timeout(10):
            while not await redis.hexists(KEYS.disabled, "u"):
                await asyncio.sleep(0.02)

    subscription = {"uid": "u", "namespace": "d", "name": "n"}
    assert reports[0] == ("hookcast.subscription.disabled", {"subscription": subscription, "reason": "EndpointFailing"})
    assert len(reports) == 1


# The backlog


@pytest.mark.parametrize("suspended", [False, True])
async def test_the_oldest_beyond_the_backlog_die(
    redis: Redis, publish: Publish, receiver: Receiver, *, suspended: bool
) -> None:
    """Suspended, or with an endpoint that hangs: what is waiting is cut to its limit, and can be replayed."""
    current = configuration(receiver.url, maxBacklog={"count": 100}, maxInFlight=1)
    entry = current.entries["u"]
    spec = entry.spec.model_copy(update={"suspend": suspended})
    current.swap(Configuration(sequence=2, entries=(entry.model_copy(update={"spec": spec}),)))
    go = asyncio.Event()

    async def hang(_request: Any) -> Reply:
        await go.wait()
        return Reply()

    receiver.behaviour = hang
    refs = [f"r{number}" for number in range(700)]
    await publish(*refs)
    async with dispatching(lane_store(redis), current):
        async with asyncio.timeout(15):
            while await redis.xlen(KEYS.lane("u", "dead")) < 600:
                await asyncio.sleep(0.02)
        go.set()

    dead = [fields[b"e"].decode() for _, fields in cast("Any", await redis.xrange(KEYS.lane("u", "dead")))]
    assert dead == refs[:600]
    assert b'"reason":"BacklogFull"' in cast("bytes", await redis.hget(KEYS.event(dead[0]), "d:u"))
