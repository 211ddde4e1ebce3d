"""Several partitions: which there are, where events and their ids go, and that their number grows."""

import asyncio
from collections import Counter
from collections.abc import Sequence

import msgspec
import pytest
from redis.asyncio import Redis

from hookcast_app.events.placing import Placed, Placing
from hookcast_app.events.store import ELSEWHERE, REUSED, STORED, EventStore, Publication
from hookcast_app.redis import Keys, Partition, Partitions
from hookcast_app.redis.servers import slot_of, tags_of
from hookcast_app.references import reference
from hookcast_core.errors import InvalidInput
from tests.support.lanes import RECORD
from tests.support.partitions import partitions
from tests.support.serving import COMMAND


@pytest.mark.parametrize("masters", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("of_each", [1, 2, 5])
def test_partitions_are_spread_evenly_over_masters(masters: int, of_each: int) -> None:
    """Of masters that share the slots evenly each gets as many."""
    count = masters * of_each
    slots = Counter(slot_of(tag) * masters // 16_384 for tag in tags_of(count))

    assert slots == dict.fromkeys(range(masters), of_each)
    assert 0 in tags_of(count)


async def test_there_never_come_to_be_fewer(redis: Redis) -> None:
    """What is asked for first holds; later more, never fewer; data of before there were any are in one."""
    first = partitions(redis)
    await first.open(2)
    assert tuple(each.keys.tag for each in first.active) == tags_of(2)

    second = partitions(redis)
    await second.open(6)
    assert (second.counts, second.epoch) == ((2, 6), 1)
    assert {each.keys.tag for each in second.all} == {*tags_of(2), *tags_of(6)}
    with pytest.raises(InvalidInput, match="the data of this Redis are in 6; they can become more, never fewer") as no:
        await partitions(redis).open(3)
    assert no.value.field == "partitions"

    await first.refresh()
    assert first.counts == (2, 6)
    assert tuple(each.keys.tag for each in first.active) == tags_of(6)


async def test_what_was_published_before_there_were_partitions_is_in_one(redis: Redis) -> None:
    """A Redis that an earlier version used says nothing of partitions."""
    await redis.xadd(Keys().events, {"e": "a"})
    later = partitions(redis)

    await later.open(4)

    assert later.counts == (1, 4)


def stored_in(redis: Redis, among: Partitions) -> tuple[Placing, dict[int, EventStore]]:
    """Where events go, and the stores of all partitions."""
    stores = {
        partition.keys.tag: EventStore(redis, partition.keys, retention_seconds=100, dedup_seconds=50)
        for partition in among.all
    }
    return Placing(among, stores, 50, lambda: 0), stores


def keyed(number: int, given: bytes = b"1" * 16) -> Publication:
    """An event with an ordering key, whose publisher chose its id."""
    return Publication(reference(f"e{number}", f"k{number}"), given, RECORD, b"{}", ("u",), (), b"")


async def known(placing: Placing, stores: dict[int, EventStore], events: Sequence[Publication]) -> list[int]:
    """What becomes of events after one change of the layout."""
    placed = await placing.place(events)
    return [
        where if isinstance(where, int) else (await stores[where.keys.tag].publish([event], 1))[0]
        for event, where in zip(events, placed, strict=True)
    ]


def tags(placed: Sequence[Placed]) -> list[int]:
    """Of the partitions that events go to."""
    return [where.keys.tag for where in placed if isinstance(where, Partition)]


async def test_an_id_that_was_only_reserved_holds_no_event_back(redis: Redis) -> None:
    """It was to go elsewhere by the layout of before and never did: it goes where its key goes, and is known then."""
    before, after, other = partitions(redis), partitions(redis), partitions(redis)
    await before.open(3)
    events = [keyed(number) for number in range(20)]
    was = tags(await stored_in(redis, before)[0].place(events))
    await after.open(7)
    placing, stores = stored_in(redis, after)

    now = tags(await placing.place(events))
    fresh = tags(await placing.place([msgspec.structs.replace(event, given=None) for event in events]))
    verdicts = [(await stores[tag].publish([event], 1))[0] for event, tag in zip(events, now, strict=True)]
    held_back = {at for at, verdict in enumerate(verdicts) if verdict == ELSEWHERE}
    assert tags(await placing.place(events, held_back)) == now
    for at in held_back:
        assert await stores[now[at]].publish([events[at]], 1) == [STORED]
    assert set(verdicts) == {STORED, ELSEWHERE}

    assert now == fresh != was
    await other.open(7)
    again, stores = stored_in(redis, other)
    assert await known(again, stores, events) == [1] * 20
    assert await known(again, stores, [keyed(number, b"2" * 16) for number in range(20)]) == [REUSED] * 20


async def test_what_came_by_the_layout_of_before_is_known(redis: Redis) -> None:
    """Wherever its key and its id belong now."""
    before, after = partitions(redis), partitions(redis)
    await before.open(3)
    events = [keyed(number) for number in range(20)]
    placing, stores = stored_in(redis, before)
    for event, tag in zip(events, tags(await placing.place(events)), strict=True):
        assert await stores[tag].publish([event]) == [STORED]

    await after.open(7)
    placing, stores = stored_in(redis, after)

    assert await known(placing, stores, events) == [1] * 20


async def checked(url: str) -> tuple[int, str]:
    """The status of `hookcast check`, and what it says."""
    process = await asyncio.create_subprocess_exec(
        COMMAND, "check", "--redis-url", url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    return process.returncode or 0, (out + err).decode()


async def test_a_command_proves_that_nothing_is_lost(redis: Redis, redis_url: str) -> None:
    """In all partitions; it tells what is wrong where, and writes nothing."""
    among = partitions(redis)
    await among.open(3)
    placing, stores = stored_in(redis, among)
    events = [keyed(number) for number in range(20)]
    for event, tag in zip(events, tags(await placing.place(events)), strict=True):
        await stores[tag].publish([event])
    keys = await redis.dbsize()

    assert await checked(redis_url) == (0, "20 events; 20 waiting; 0 violations\n")
    assert await redis.dbsize() == keys
    await redis.delete(among.active[1].keys.lane("u", "waiting"))
    status, said = await checked(redis_url)
    assert status == 1
    assert "has not ended, and is nowhere\n" in said
    assert (await checked("redis://127.0.0.1:1"))[0] == 1
    assert await checked("http://") == (
        2,
        "hookcast: --redis-url: cannot be read as redis://[user:password@]host:port[/database]\n",
    )
