"""Lanes in Redis: leases, the places of deliveries, and that every move is whole and fenced."""

from typing import Any

import pytest
from redis.asyncio import Redis

from hookcast_app.delivery.models import Attempt, Place, Record
from hookcast_app.delivery.store import FAR, DisabledStore, LaneStore, Result, ScriptOutcome, Turn
from tests.support.lanes import KEYS, Publish, lane_store
from tests.support.partitions import partitions


def settle(entry: bytes, ref: str, outcome: ScriptOutcome, delay_ms: int = 0) -> Turn:
    place = {"delivered": Place.DELIVERED, "dead": Place.DEAD, "later": Place.LATER}.get(outcome, Place.WAITING)
    record = Record(place=place, made=1, attempts=(Attempt(1, 0, 5, 200),))
    return Turn("u", "hold", after=entry, want=10, results=[Result(entry, ref, outcome, delay_ms, record)])


async def taken(store: LaneStore, want: int = 10) -> list[tuple[bytes, str]]:
    (fetched,) = await store.turn([Turn("u", "take", want=want)])
    assert fetched is not None
    return fetched.entries


async def refs(redis: Redis, place: str) -> list[str]:
    entries: Any = await redis.xrange(KEYS.lane("u", place))
    return [fields[b"e"].decode() for _, fields in entries]


async def test_a_lane_is_read_in_the_order_of_publishing(store: LaneStore, publish: Publish) -> None:
    """And from where the reader is, not again from the start."""
    await publish("a", "b", "c")

    first = await taken(store, want=2)
    (second,) = await store.turn([Turn("u", "hold", after=first[-1][0], want=2)])

    assert [ref for _, ref in first] == ["a", "b"]
    assert second is not None
    assert [ref for _, ref in second.entries] == ["c"]


async def test_only_one_dispatcher_holds_a_lane(store: LaneStore, publish: Publish, redis: Redis) -> None:
    """Another is refused, learns when to look again, and gets it once it is given back."""
    other = lane_store(redis, "theirs")
    await publish("a")
    await taken(store)

    assert await other.turn([Turn("u", "take", want=1)]) == [None]
    assert await other.due(10) == []
    assert await other.due(10, horizon_ms=31_000) == ["u"]

    await store.turn([Turn("u", "release")])
    assert await other.due(10) == ["u"]
    assert len(await taken(other)) == 1


async def test_a_lease_that_ran_out_is_taken_over(publish: Publish, redis: Redis) -> None:
    """What its former holder still wants to settle is refused: the result is dropped, nothing moves."""
    late = lane_store(redis, "late", lease_seconds=0.05)
    await publish("a")
    ((entry, ref),) = await taken(late)
    other = lane_store(redis, "other")
    while (await other.turn([Turn("u", "take", want=1)]))[0] is None:
        pass

    assert await late.turn([settle(entry, ref, "delivered")]) == [None]
    assert await refs(redis, "waiting") == ["a"]
    assert await refs(redis, "delivered") == []


async def test_a_lease_that_nobody_took_is_lost_all_the_same(publish: Publish, redis: Redis) -> None:
    """A dispatcher that was paused past its lease starts afresh instead of trusting what it remembers."""
    late = lane_store(redis, "late", lease_seconds=0.02)
    await publish("a")
    ((entry, ref),) = await taken(late)
    while await redis.exists(KEYS.lane("u", "lease")):
        pass

    assert await late.turn([settle(entry, ref, "delivered")]) == [None]
    assert await late.due(10) == ["u"]


@pytest.mark.parametrize("outcome", ["delivered", "dead", "discarded"])
async def test_a_settled_delivery_is_in_its_place_alone(
    store: LaneStore, publish: Publish, redis: Redis, outcome: ScriptOutcome
) -> None:
    """It leaves the lane, keeps its attempts, and its event expires when no delivery needs it any more."""
    await publish("a", lanes=("u", "v"))
    ((entry, ref),) = await taken(store)

    await store.turn([settle(entry, ref, outcome)])

    assert await refs(redis, "waiting") == []
    assert await refs(redis, outcome) == ["a"]
    assert await redis.ttl(KEYS.event("a")) == -1
    ((entry, ref),) = (await store.turn([Turn("v", "take", want=1)]))[0].entries  # type: ignore[union-attr]
    last = Turn("v", "hold", results=[Result(entry, ref, "delivered", 0, Record(place=Place.DELIVERED, made=1))])
    await store.turn([last])
    kept = 1_000 if outcome == "dead" else 100
    assert kept - 2 <= await redis.ttl(KEYS.event("a")) <= kept


async def test_settling_twice_is_settling_once(store: LaneStore, publish: Publish, redis: Redis) -> None:
    """A turn whose answer was lost is sent again."""
    await publish("a", lanes=("u", "v"))
    ((entry, ref),) = await taken(store)

    await store.turn([settle(entry, ref, "delivered")])
    await store.turn([settle(entry, ref, "delivered")])

    assert await refs(redis, "delivered") == ["a"]
    assert await redis.hget(KEYS.event("a"), "n") == b"1"


async def test_a_later_delivery_comes_back_when_it_is_due(store: LaneStore, publish: Publish, redis: Redis) -> None:
    """It waits outside the lane, delays nothing behind it, and joins the tail when its time comes."""
    await publish("a", "b")
    (entry, ref), (second, _) = await taken(store)

    (fetched,) = await store.turn([settle(entry, ref, "later", delay_ms=60_000)])
    assert fetched is not None
    assert fetched.due_ms is not None
    assert 59_000 < fetched.due_ms <= 60_000
    assert await refs(redis, "waiting") == ["b"]

    (fetched,) = await store.turn([Turn("u", "hold", after=second, want=10, horizon_ms=60_000)])
    assert fetched is not None
    assert [ref for _, ref in fetched.entries] == ["a"]
    assert fetched.due_ms is None
    assert await redis.zcard(KEYS.lane("u", "later")) == 0
    (loaded,) = await store.load([("u", *fetched.entries[0])])
    assert loaded is not None
    assert loaded.record.made == 1


async def test_a_held_delivery_keeps_its_place(store: LaneStore, publish: Publish, redis: Redis) -> None:
    """FIFO: its attempt is remembered, the order is not touched."""
    await publish("a", "b")
    (entry, ref), _ = await taken(store)

    await store.turn([settle(entry, ref, "held", delay_ms=60_000)])

    assert await refs(redis, "waiting") == ["a", "b"]
    (loaded,) = await store.load([("u", entry, ref)])
    assert loaded is not None
    assert loaded.record.made == 1


async def test_an_event_that_is_gone_leaves_the_lane(store: LaneStore, publish: Publish, redis: Redis) -> None:
    """A reference to nothing is removed, and no ghost of an event appears."""
    await publish("a")
    ((entry, ref),) = await taken(store)
    await redis.delete(KEYS.event("a"))

    assert await store.load([("u", entry, ref)]) == [None]
    await store.turn([settle(entry, ref, "missing")])

    assert await refs(redis, "waiting") == []
    assert not await redis.exists(KEYS.event("a"))


async def test_a_released_lane_comes_back_when_it_must(store: LaneStore, publish: Publish) -> None:
    """Empty: never by itself. With waiting deliveries: at once, or once its parking is over. With later ones: then."""
    await publish("a")
    ((entry, ref),) = await taken(store)
    await store.turn([Turn("u", "release", park_ms=5_000)])
    assert await store.due(10) == []
    assert await store.due(10, horizon_ms=5_000) == ["u"]

    await taken(store)
    await store.turn([settle(entry, ref, "later", delay_ms=60_000)])
    await store.turn([Turn("u", "release")])
    assert await store.due(10, horizon_ms=50_000) == []
    assert await store.due(10, horizon_ms=61_000) == ["u"]

    (fetched,) = await store.turn([Turn("u", "take", want=10, horizon_ms=FAR)])
    assert fetched is not None
    await store.turn([settle(*fetched.entries[0], "delivered")])
    await store.turn([Turn("u", "release")])
    assert await store.due(10, horizon_ms=FAR) == []


async def test_parking_leaves_another_holder_alone(store: LaneStore, publish: Publish, redis: Redis) -> None:
    """Only a lane that nobody works can be put aside."""
    other = lane_store(redis, "theirs")
    await publish("a")
    await taken(other)

    await store.turn([Turn("u", "park", park_ms=5_000)])
    assert await redis.get(KEYS.lane("u", "lease")) == b"theirs"

    await other.turn([Turn("u", "release")])
    await store.turn([Turn("u", "park", park_ms=5_000)])
    assert await store.due(10) == []


async def test_what_disabled_a_lane_is_told_at_every_turn(redis: Redis, store: LaneStore, publish: Publish) -> None:
    """Until it is enabled; then the lane is looked at, at once."""
    disabled = DisabledStore(partitions(redis))
    await publish("a")
    await disabled.disable("u", b"why")

    (fetched,) = await store.turn([Turn("u", "take", want=1)])
    assert fetched is not None
    assert fetched.disabled == b"why"
    await store.turn([Turn("u", "release", park_ms=5_000)])
    await disabled.enable("u")

    assert await store.due(10) == ["u"]
    (fetched,) = await store.turn([Turn("u", "take", want=1)])
    assert fetched is not None
    assert fetched.disabled == b""


async def test_lanes_have_their_turns_together(store: LaneStore, publish: Publish) -> None:
    """One script for many lanes; one that is lost does not disturb the others."""
    await publish("a", lanes=("u", "v", "w"))
    await store.turn([Turn("v", "release")])

    answers = await store.turn([Turn("u", "take", want=1), Turn("v", "hold", want=1), Turn("w", "take", want=1)])

    assert [answer is not None for answer in answers] == [True, False, True]
