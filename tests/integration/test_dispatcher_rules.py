"""What a dispatcher keeps to for each subscription: order, breaker, backlog; also over restarts."""

import asyncio
import json
from itertools import pairwise
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from hookcast_core.configuration import Configuration
from tests.support.app import eventually
from tests.support.dispatching import NEVER, configuration, dispatching, settled
from tests.support.lanes import KEYS, Publish, lane_store
from tests.support.receiver import Receiver, Reply

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


async def test_a_corrected_specification_does_not_wait_for_the_breaker_of_before(
    redis: Redis, publish: Publish, receiver: Receiver
) -> None:
    """Its deliveries go on at once, from the lane that is held."""
    breaker = {"failures": 2, "open": "1h"}
    current = configuration(
        f"{receiver.url}/old", retry={"schedule": ["0s"] * 9}, circuitBreaker=breaker, maxInFlight=1
    )
    receiver.behaviour = lambda request: Reply(503 if request.path == "/old" else 200)
    await publish("a", "b")
    async with dispatching(lane_store(redis), current) as dispatcher:
        await eventually(lambda: dispatcher.breakers_open == 1)
        corrected = configuration(f"{receiver.url}/new", circuitBreaker=breaker).configuration
        assert corrected is not None
        current.swap(corrected)
        await settled(redis, 2)
