"""Nothing of a subscription that is gone is kept for ever."""

from typing import Any, cast

import pytest
from redis.asyncio import Redis

from hookcast_app.delivery.leftovers import Leftovers
from hookcast_app.delivery.models import Place, Record
from hookcast_app.delivery.store import DisabledStore, LaneStore, Result, ScriptOutcome, Turn
from hookcast_app.redis import Mark, Phase, swap_mark
from hookcast_core.errors import Unavailable
from tests.support.lanes import KEYS, Publish
from tests.support.partitions import partitions

PLACES = ("waiting", "delivered", "dead", "discarded")


def leftovers(redis: Redis, *gone: str) -> Leftovers:
    return Leftovers(redis, KEYS, gone.__contains__, retention_seconds=100, dead_letter_retention_seconds=1_000)


async def settle(store: LaneStore, uid: str, outcome: ScriptOutcome, *, release: bool = True) -> None:
    """Ends one waiting delivery of a lane that turned out to fail."""
    (fetched,) = await store.turn([Turn(uid, "take", want=1)])
    assert fetched is not None
    ((entry, ref),) = fetched.entries
    result = Result(entry, ref, outcome, 0, Record(place=Place(outcome), made=1))
    await store.turn([Turn(uid, "hold", after=entry, want=1, results=[result], failing=b"{}")])
    if release:
        await store.turn([Turn(uid, "release")])


async def age(redis: Redis, uid: str, place: str, seconds: int) -> None:
    """Makes what ended in a place of a lane older."""
    key = KEYS.lane(uid, place)
    entries = cast("Any", await redis.xrange(key))
    await redis.delete(key)
    for entry, fields in entries:
        await redis.xadd(key, fields, id=f"{int(entry.partition(b'-')[0]) - seconds * 1_000}-0")


async def known(redis: Redis, uid: str) -> set[str]:
    """Where a lane is known."""
    found = {name for name in ("hungry", "buried") if await redis.sismember(getattr(KEYS, name), uid)}
    found |= {name for name in ("disabled", "failing") if await redis.hexists(getattr(KEYS, name), uid)}
    return found | {place for place in PLACES if await redis.exists(KEYS.lane(uid, place))}


async def test_a_lane_is_forgotten_once_nothing_of_it_is_kept(store: LaneStore, publish: Publish, redis: Redis) -> None:
    """What is known of its endpoint at once, what it delivered in its time, its dead letters in theirs."""
    await publish("a", "b")
    await settle(store, "u", "delivered")
    await settle(store, "u", "dead")
    await DisabledStore(partitions(redis)).disable("u", b"{}")
    gone = leftovers(redis, "u")

    assert await gone.clear() == 0
    assert await known(redis, "u") == {"hungry", "buried", "waiting", "delivered", "dead"}

    await age(redis, "u", "dead", 900)
    await age(redis, "u", "delivered", 101)
    assert await gone.clear() == 0
    assert await known(redis, "u") == {"hungry", "buried", "waiting", "delivered", "dead"}
    assert await redis.xlen(KEYS.lane("u", "delivered")) == 0

    await age(redis, "u", "dead", 101)
    assert await gone.clear() == 1
    assert await known(redis, "u") == set()
    assert not [key async for key in redis.scan_iter(KEYS.lane("u", "*"))]


async def test_a_lane_that_has_deliveries_is_left_alone(store: LaneStore, publish: Publish, redis: Redis) -> None:
    """They are discarded by whoever leases it; also one that is leased, or waits for a later attempt."""
    await publish("a", "b", lanes=("waits", "later", "leased"))
    for uid in ("waits", "later", "leased"):
        await settle(store, uid, "delivered")
        await age(redis, uid, "delivered", 101)
    await settle(store, "leased", "delivered", release=False)
    ((entry, ref),) = (await store.turn([Turn("later", "take", want=1)]))[0].entries  # type: ignore[union-attr]
    held = Result(entry, ref, "later", 60_000, Record(place=Place.LATER, made=1))
    await store.turn([Turn("later", "release", results=[held])])
    await redis.sadd(KEYS.hungry, "waits", "later", "leased")

    assert await leftovers(redis, "waits", "later", "leased").clear() == 0

    for uid in ("waits", "later", "leased"):
        assert {"hungry", "failing", "delivered"} <= await known(redis, uid)


async def test_a_subscription_that_is_there_keeps_everything(store: LaneStore, publish: Publish, redis: Redis) -> None:
    """However long ago it delivered anything."""
    await publish("a")
    await settle(store, "u", "delivered")
    await DisabledStore(partitions(redis)).disable("u", b"{}")
    await age(redis, "u", "delivered", 101)

    assert await leftovers(redis, "v").clear() == 0

    assert await known(redis, "u") == {"hungry", "disabled", "failing", "waiting", "delivered"}


async def test_a_forgotten_lane_is_woken_when_it_is_published_to(
    store: LaneStore, publish: Publish, redis: Redis
) -> None:
    """A subscription of the same UID may come back."""
    await publish("a")
    await settle(store, "u", "delivered")
    await age(redis, "u", "delivered", 101)
    assert await leftovers(redis, "u").clear() == 1

    await publish("b")

    assert await store.due(10) == ["u"]


async def test_nothing_is_forgotten_while_the_data_are_moved(store: LaneStore, publish: Publish, redis: Redis) -> None:
    """What is copied must hold still."""
    await publish("a")
    await settle(store, "u", "delivered")
    await swap_mark(redis, None, Mark(Phase.DRAINING, "run", "i", 0, "peer"))

    with pytest.raises(Unavailable, match="being moved"):
        await leftovers(redis, "u").clear()

    assert "hungry" in await known(redis, "u")
