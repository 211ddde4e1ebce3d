"""Several dispatchers over one Redis: they share lanes evenly, and hand them over as they come and go."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis

from hookcast_app.delivery.dispatcher import Dispatcher
from hookcast_app.delivery.sharing import LEFT_ALONE_SECONDS, LeftAlone, Part, surplus
from hookcast_app.delivery.store import Share
from tests.support.app import eventually
from tests.support.dispatching import configuration, sharing
from tests.support.lanes import KEYS, Publish, lane_store
from tests.support.receiver import Receiver, Reply

UIDS = tuple(f"u{number}" for number in range(30))


def held(*dispatchers: Dispatcher) -> list[int]:
    return [dispatcher.lanes_held for dispatcher in dispatchers]


async def under_load(publish: Publish, until: asyncio.Event) -> int:
    """Publishes to every lane until it is told to stop; how many events that were."""
    number = 0
    while not until.is_set():
        await publish(f"e{number}", lanes=UIDS)
        number += 1
        await asyncio.sleep(0.01)
    return number


async def loaded(publish: Publish, scene: Callable[[], Awaitable[None]]) -> int:
    """Plays a scene under load."""
    done = asyncio.Event()
    load = asyncio.create_task(under_load(publish, done))
    try:
        await scene()
    finally:
        done.set()
    return await load


async def test_dispatchers_share_lanes_as_they_come_and_go(redis: Redis, publish: Publish, receiver: Receiver) -> None:
    """A second one gets its half, and gives it back when it ends: nothing is lost, and nothing is sent twice."""
    current = configuration(receiver.url, uids=UIDS)

    async with sharing(lane_store(redis, "first"), current) as (first, _):

        async def scene() -> None:
            await eventually(lambda: held(first) == [30])
            async with sharing(lane_store(redis, "second"), current) as (second, balance):
                await eventually(lambda: max(held(first, second)) <= 17 and sum(held(first, second)) == 30)
                await balance.stop()
                await second.drain(5)
            await eventually(lambda: held(first) == [30])

        events = await loaded(publish, scene)
        await receiver.wait_for(events * len(UIDS))

    sent = Counter(json.loads(body) for body in receiver.bodies())
    assert sent == {f"e{number}": len(UIDS) for number in range(events)}


async def test_a_dispatcher_that_was_killed_is_forgotten(redis: Redis, publish: Publish, receiver: Receiver) -> None:
    """It is believed to be there for a few seconds; what it leased is free when the lease ends."""
    current = configuration(receiver.url, uids=UIDS)
    await publish("a", lanes=UIDS)
    async with sharing(lane_store(redis, "killed", lease_seconds=2), current) as (killed, _):
        await eventually(lambda: held(killed) == [30])
    await publish("b", lanes=UIDS)

    async with sharing(lane_store(redis, "next"), current) as (following, _):
        await eventually(lambda: held(following) == [30])
        await receiver.wait_for(60)
        async with asyncio.timeout(10):
            while await redis.hkeys(KEYS.dispatchers) != [b"next"]:
                await asyncio.sleep(0.02)


async def test_a_hand_over_waits_for_what_is_under_way(redis: Redis, publish: Publish, receiver: Receiver) -> None:
    """An attempt that hangs is settled by whoever began it; the other one gets the lane then, and no attempt twice."""
    current = configuration(receiver.url, uids=UIDS)
    go = asyncio.Event()

    async def hang(_request: object) -> Reply:
        await go.wait()
        return Reply()

    receiver.behaviour = hang
    await publish("a", "b", lanes=UIDS)
    async with sharing(lane_store(redis, "first"), current) as (first, _):
        await receiver.wait_for(60)
        async with sharing(lane_store(redis, "second"), current) as (second, _):
            await eventually(lambda: sum(lane.leaving for lane in first._lanes.values()) >= 13)
            go.set()
            await publish("c", lanes=UIDS)
            await eventually(lambda: max(held(first, second)) <= 17)
            await receiver.wait_for(90)

    assert Counter(json.loads(body) for body in receiver.bodies()) == {"a": 30, "b": 30, "c": 30}


@pytest.mark.parametrize(
    ("dispatchers", "lanes", "ours", "expected"),
    [
        (1, 30, 30, 0),
        (2, 30, 30, 15),
        (2, 30, 16, 0),
        (2, 30, 17, 2),
        (2, 6, 4, 1),
        (2, 3, 2, 0),
        (3, 1, 1, 0),
        (2, 0, 0, 0),
        (4, 1000, 275, 0),
    ],
)
def test_a_share_is_even_but_for_a_tenth(dispatchers: int, lanes: int, ours: int, expected: int) -> None:
    """Small differences move no lanes; a dispatcher that is alone passes nothing on."""
    assert surplus(Share(dispatchers, lanes), ours) == expected


def test_what_was_passed_on_is_left_alone_for_a_while() -> None:
    """Else the signal that another should hear would bring it back."""
    passed_on = LeftAlone()

    passed_on.add("a", 100.0)

    assert passed_on.has("a", 100.0 + LEFT_ALONE_SECONDS - 0.1)
    assert not passed_on.has("a", 100.0 + LEFT_ALONE_SECONDS)
    assert not passed_on.has("c", 100.0)


@pytest.mark.parametrize(
    ("limit", "parts", "expected"), [(16, 1, [16]), (16, 3, [6, 5, 5]), (2, 3, [1, 1, 1]), (3, 3, [1, 1, 1])]
)
def test_lanes_of_one_subscription_divide_its_limits(limit: int, parts: int, expected: list[int]) -> None:
    """Together they have as much as it allows, but each one at the least."""
    assert [Part(number, parts).count(limit) for number in range(parts)] == expected
