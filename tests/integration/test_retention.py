"""What events take in Redis stays within a bound: the oldest that have ended go first, and nothing that has not."""

import asyncio
import json
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from hookcast_app.delivery.history import History
from hookcast_app.delivery.models import Attempt, Place, Record
from hookcast_app.delivery.moves import Moves, again
from hookcast_app.delivery.retention import PAGE, Retention
from hookcast_app.delivery.store import LaneStore, Result, ScriptOutcome, Turn
from hookcast_app.events.store import EventStore, Publication
from hookcast_app.redis import Mark, Phase, swap_mark
from hookcast_core.errors import Unavailable
from tests.support.channels import shards
from tests.support.lanes import KEYS, RECORD, Publish
from tests.support.partitions import home, partitions

PLACES = {"delivered": Place.DELIVERED, "dead": Place.DEAD, "discarded": Place.DISCARDED}


def retention(redis: Redis, most_bytes: int) -> Retention:
    return Retention(redis, KEYS, most_bytes=most_bytes, retention_seconds=100)


async def settle(store: LaneStore, outcome: ScriptOutcome = "delivered", *refs: str, uid: str = "u") -> None:
    """Ends the waiting deliveries of a lane, of these events or of all."""
    after, results = b"-", list[Result]()
    record = Record(place=PLACES[outcome], made=1, attempts=(Attempt(1, 1_700_000_000_000, 5, 200),))
    while True:
        (fetched,) = await store.turn([Turn(uid, "take", after, 256, results=results)])
        assert fetched is not None
        if not fetched.entries:
            return
        after = fetched.entries[-1][0]
        results = [Result(entry, ref, outcome, 0, record) for entry, ref in fetched.entries if not refs or ref in refs]


async def indexed(redis: Redis) -> list[str]:
    return [fields[b"e"].decode() for _, fields in cast("Any", await redis.xrange(KEYS.events))]


async def kept(redis: Redis) -> set[str]:
    prefix = KEYS.event("")
    return {key.decode().removeprefix(prefix) async for key in redis.scan_iter(f"{prefix}*", count=1_000)}


async def test_the_oldest_go_until_the_rest_fits(store: LaneStore, publish: Publish, redis: Redis) -> None:
    """Over more than one page; the index, the events and the lists of what was delivered end at the same one."""
    refs = [f"r{number:04}" for number in range(2 * PAGE + 10)]
    await publish(*refs[:PAGE])
    await settle(store)
    await publish(*refs[PAGE:])
    await settle(store)
    one = len(RECORD) + len(json.dumps(refs[0])) + 450 + 270
    bound = retention(redis, 4 * one)

    assert await bound.make_room() == len(refs) - 5

    assert await indexed(redis) == refs[-5:]
    assert await kept(redis) == set(refs[-5:])
    assert bound.spanned == 4 * one
    delivered = [fields[b"e"].decode() for _, fields in cast("Any", await redis.xrange(KEYS.lane("u", "delivered")))]
    assert delivered == refs[PAGE:]  # of those it is known that they ended before the last one that went was accepted
    assert await bound.make_room() == 0


async def test_within_the_bound_or_without_one_everything_stays(
    store: LaneStore, publish: Publish, redis: Redis
) -> None:
    """A bound of 0 is none."""
    await publish("a", "b", "c")
    await settle(store)

    assert await retention(redis, 0).make_room() == 0
    assert await retention(redis, 1_000_000).make_room() == 0
    assert await kept(redis) == {"a", "b", "c"}


async def test_what_has_not_ended_and_dead_letters_stay(store: LaneStore, publish: Publish, redis: Redis) -> None:
    """They only lose their places in the index, so that they do not hold back what is behind them."""
    await publish("open", lanes=("u", "v"))
    await publish("dead", "ended", "unmatched-before", "last")
    await publish("unmatched", lanes=())
    await settle(store, "dead", "dead")
    await settle(store, "delivered", "open", "ended")

    await retention(redis, 1).make_room()

    assert await indexed(redis) == ["unmatched"]
    assert await kept(redis) == {"open", "dead", "unmatched-before", "last", "unmatched"}
    assert await redis.hget(KEYS.event("open"), "n") == b"1"
    assert await redis.ttl(KEYS.event("open")) == -1
    assert await redis.ttl(KEYS.event("dead")) > 900
    assert [ref for _, ref in (await store.turn([Turn("u", "hold", want=9)]))[0].entries] == [  # type: ignore[union-attr]
        "unmatched-before",
        "last",
    ]


async def test_what_there_was_no_room_for_goes_when_it_ends(store: LaneStore, publish: Publish, redis: Redis) -> None:
    """At once, whatever else was of its deliveries; as a dead letter it stays as long as those do."""
    await publish("both", "dies", lanes=("u", "v"))
    await publish("last", lanes=())
    await retention(redis, 1).make_room()

    await settle(store)
    assert await kept(redis) == {"both", "dies", "last"}
    await settle(store, "delivered", "both", uid="v")
    await settle(store, "dead", "dies", uid="v")

    assert await kept(redis) == {"dies", "last"}
    assert await redis.xlen(KEYS.lane("v", "delivered")) == 0
    assert 900 < await redis.ttl(KEYS.event("dies")) <= 1_000


async def test_a_retried_dead_letter_is_seen_to_be_delivered(store: LaneStore, publish: Publish, redis: Redis) -> None:
    """Though there was no room for it in the index any more: for an hour, or as long as anything is kept."""
    await publish("dies", "last")
    await settle(store, "dead", "dies")
    await retention(redis, 1).make_room()
    (found,) = await History(partitions(redis)).found(home(redis), "u", ["dies"])

    await Moves(retention_seconds=7_200, dead_letter_retention_seconds=9_000).move(home(redis), [again(found)])
    await settle(store, "delivered", "dies")

    assert 3_590 < await redis.ttl(KEYS.event("dies")) <= 3_600
    assert await redis.xlen(KEYS.lane("u", "delivered")) == 1


async def test_a_cancelled_delivery_is_seen_to_be_cancelled(store: LaneStore, publish: Publish, redis: Redis) -> None:
    """Whoever asked for it can look at it, room or not."""
    await publish("later", "last")
    ((entry, ref),) = (await store.turn([Turn("u", "take", want=1)]))[0].entries  # type: ignore[union-attr]
    record = Record(place=Place.LATER, made=1, due=10**13)
    await store.turn([Turn("u", "hold", results=[Result(entry, ref, "later", 10**6, record)])])
    await retention(redis, 1).make_room()
    (found,) = await History(partitions(redis)).found(home(redis), "u", ["later"])

    assert await Moves(retention_seconds=7_200, dead_letter_retention_seconds=9_000).cancel(found)

    assert 3_590 < await redis.ttl(KEYS.event("later")) <= 3_600


async def test_several_do_it_at_once(store: LaneStore, publish: Publish, redis: Redis) -> None:
    """Every dispatcher does; together they delete no more than one would."""
    refs = [f"r{number:04}" for number in range(1_500)]
    await publish(*refs)
    await settle(store)
    bounds = [retention(redis, 200_000) for _ in range(5)]

    await asyncio.gather(*(bound.make_room() for bound in bounds))

    left = await indexed(redis)
    assert left == refs[-len(left) :]
    assert await kept(redis) == set(left)
    assert all(199_000 < bound.spanned <= 200_000 for bound in bounds)


async def test_a_late_one_does_not_take_what_came_under_the_same_id(redis: Redis, publish: Publish) -> None:
    """An event that expired leaves its entry for a while; another may have its id by now."""
    await redis.xadd(KEYS.events, {"e": "again", "b": 0}, id="5-5")
    await publish("again", "last", lanes=())
    late = retention(redis, 10**6)
    _, entries = await late._read(10)
    late._all_bytes = 1

    await late._take_out(entries[:1])

    assert await kept(redis) == {"again", "last"}
    assert await redis.hget(KEYS.event("again"), "o") is None
    assert await late.make_room() == 1
    await publish("again", "newest", lanes=())
    await late._take_out(entries[1:2])  # as it was before
    assert await kept(redis) == {"again", "last", "newest"}


async def test_entries_of_an_older_version_go_first(store: LaneStore, publish: Publish, redis: Redis) -> None:
    """They say nothing of bytes."""
    await publish("old")
    ((entry, _),) = cast("Any", await redis.xrange(KEYS.events))
    await redis.delete(KEYS.events)
    await redis.xadd(KEYS.events, {"e": "old"}, id=entry)
    await publish("new")
    await settle(store)

    await retention(redis, 1_000).make_room()

    assert await kept(redis) == {"new"}


async def test_a_full_redis_gets_room(store: LaneStore, publish: Publish, redis: Redis) -> None:
    """Deleting needs no memory, nor does marking what has to stay."""
    await publish(*(f"r{number}" for number in range(100)))
    await settle(store, "delivered", *(f"r{number}" for number in range(50)))
    await redis.config_set("maxmemory", "1mb")

    assert await retention(redis, 1).make_room() == 99

    await redis.config_set("maxmemory", "0")
    assert await kept(redis) == {f"r{number}" for number in range(50, 100)}


async def test_nothing_goes_while_the_data_are_moved(store: LaneStore, publish: Publish, redis: Redis) -> None:
    """What is copied must hold still."""
    await publish("a", "b")
    await settle(store)
    await swap_mark(redis, None, Mark(Phase.DRAINING, "run", "i", 0, "peer"))

    with pytest.raises(Unavailable, match="being moved"):
        await retention(redis, 1).make_room()

    assert await kept(redis) == {"a", "b"}
    assert await indexed(redis) == ["a", "b"]


@pytest.mark.parametrize(("size", "lanes"), [(300, 1), (300, 3), (300, 0), (5_000, 1)])
async def test_bytes_are_memory(store: LaneStore, redis: Redis, size: int, lanes: int) -> None:
    """What the index is said to span is what Redis uses for it, within a fifth."""
    uids = [f"{number}0e1f2a3-0000-0000-0000-000000000000" for number in range(lanes)]
    events = EventStore(redis, KEYS, shards(redis), retention_seconds=100, dedup_seconds=50)
    count = 3_000
    before = (await redis.info("memory"))["used_memory"]
    for first in range(0, count, 500):
        refs = [f"{number:026}" for number in range(first, first + 500)]
        await events.publish([Publication(ref, None, RECORD * 4, b"x" * size, uids, (), b"") for ref in refs])
    for uid in uids:
        await settle(store, uid=uid)

    bound = retention(redis, 0)
    await bound.make_room()

    used = (await redis.info("memory"))["used_memory"] - before
    assert 0.8 < bound.spanned / used < 1.2
