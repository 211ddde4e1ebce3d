"""Several partitions: which there are, where events and their ids go, and that their number grows."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from redis.asyncio import Redis

from hookcast_app.events.placing import Placed, Placing
from hookcast_app.events.store import ELSEWHERE, REUSED, STORED, EventStore, Publication
from hookcast_app.redis import Keys, LayoutChanged, Partition, Partitions, create_redis
from hookcast_app.redis.servers import slot_of, tags_of
from hookcast_app.references import reference
from hookcast_core.errors import InvalidInput, Unavailable
from tests.support.app import RunningApp, eventually, running_app, settings_for
from tests.support.channels import OneServer, shards
from tests.support.lanes import RECORD
from tests.support.partitions import partitions
from tests.support.receiver import Receiver, Reply
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
        partition.keys.tag: EventStore(redis, partition.keys, shards(redis), retention_seconds=100, dedup_seconds=50)
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


async def test_an_id_that_was_reserved_in_vain_may_have_another_body(redis: Redis) -> None:
    """Its event was never acknowledged; once one was, its body counts."""
    among = partitions(redis)
    await among.open(5)
    placing, stores = stored_in(redis, among)
    await placing.place([keyed(number) for number in range(20)])

    others = [keyed(number, b"2" * 16) for number in range(20)]
    for event, tag in zip(others, tags(await placing.place(others)), strict=True):
        assert await stores[tag].publish([event]) == [STORED]

    for given, expected in ((b"2" * 16, 1), (b"1" * 16, REUSED)):
        (where,) = placed = await placing.place([keyed(3, given)])
        assert where == expected or await stores[tags(placed)[0]].publish([keyed(3, given)]) == [expected]


async def test_a_reservation_by_a_layout_that_is_not_known_yet_is_no_defect(redis: Redis) -> None:
    """Whoever finds one looks for the layout first."""
    behind, ahead = partitions(redis), partitions(redis)
    await redis.set(Keys().layout, "1")
    await behind.open(3)
    placing, _ = stored_in(redis, behind)
    await ahead.open(7)
    newer, _ = stored_in(redis, ahead)
    events = [keyed(number) for number in range(60)]
    await newer.place(events)

    for event in events:
        with contextlib.suppress(LayoutChanged):
            await placing.place([event])


async def test_what_is_known_once_may_be_lost(redis: Redis) -> None:
    """The others still know how often there came to be more: whoever starts first takes it from them."""
    await redis.set(Keys().layout, "1")
    await partitions(redis).open(3)
    await redis.delete(*[key async for key in redis.scan_iter(match=f"{Keys().prefix}*")])

    found = partitions(redis)
    await found.open(3)
    await found.renew()

    placing, stores = stored_in(redis, found)
    events = [keyed(number) for number in range(20)]
    for event, tag in zip(events, tags(await placing.place(events)), strict=True):
        assert await stores[tag].publish([event], found.epoch) == [STORED]


class PartlyAway(OneServer):
    """Servers of which those with some partitions cannot be reached."""

    def __init__(self, redis: Redis, away: set[int]) -> None:
        super().__init__(redis)
        self.away = away
        self.nothing = create_redis("redis://127.0.0.1:1")

    def of(self, tag: int) -> Redis:
        """The client."""
        return self.nothing if tag in self.away else super().of(tag)


async def test_no_more_partitions_than_can_be_reached(redis: Redis) -> None:
    """Else those that are reached would take nothing until the others are there."""
    now = partitions(redis)
    await now.open(2)

    with pytest.raises(Unavailable):
        await Partitions(PartlyAway(redis, {tags_of(5)[3]})).open(5)

    assert await redis.get(now.home.keys.layout) == b"2"


async def test_a_disabled_subscription_stays_so_in_new_partitions(
    redis_url: str, redis: Redis, tmp_path: Path, receiver: Receiver
) -> None:
    """And in one that came back empty."""
    receiver.behaviour = lambda _request: Reply(410)
    async with running_app(settings_for(redis_url, tmp_path)) as app:
        uid = await app.subscribe(receiver.url)
        await app.publish()
        await receiver.wait_for(1)
        await eventually(lambda: redis.hexists(Keys().disabled, uid))
        among = app.application._partitions
        assert among is not None

        await among.open(6)
        for number in range(30):
            await app.publish(data=number)

        assert [await redis.hexists(each.keys.disabled, uid) for each in among.all] == [True] * 6
        await redis.delete(among.active[1].keys.disabled)
        await app.application._restore()
        assert await redis.hexists(among.active[1].keys.disabled, uid)
        await eventually(lambda: is_waiting(app, uid, 30))
    assert len(receiver.requests) == 1


async def is_waiting(app: RunningApp, uid: str, count: int) -> bool:
    """Whether so many deliveries of a subscription wait."""
    stats = (await app.client.get(f"/api/v1/webhook-subscriptions/{uid}/stats")).json()
    return bool(stats["deliveries"]["waiting"] == count)


async def test_a_listing_goes_on_over_a_growth(
    redis_url: str, redis: Redis, tmp_path: Path, receiver: Receiver
) -> None:
    """What waits for its next attempt is listed once, wherever partitions come in their order."""
    receiver.behaviour = lambda _request: Reply(503)
    async with running_app(settings_for(redis_url, tmp_path, partitions=2)) as app:
        uid = await app.subscribe(
            receiver.url, delivery={"retry": {"schedule": ["1h"]}, "circuitBreaker": {"failures": 99}}
        )
        for number in range(12):
            await app.publish(data=number)
        among = app.application._partitions
        assert among is not None
        laters = [each.keys.lane(uid, "later") for each in among.all]

        async def all_wait() -> bool:
            return sum([await redis.zcard(later) for later in laters]) == 12

        await eventually(all_wait)
        path = f"/api/v1/webhook-subscriptions/{uid}/deliveries"
        first = (await app.client.get(path, params={"status": "later", "limit": 5})).json()
        await among.open(5)
        rest = (await app.client.get(path, params={"status": "later", "limit": 50, "cursor": first["next"]})).json()

    assert len({item["id"] for item in first["items"] + rest["items"]}) == 12 == len(first["items"] + rest["items"])


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


async def test_an_id_that_was_forgotten_may_be_used_in_another_partition(
    redis_url: str, redis: Redis, tmp_path: Path, receiver: Receiver
) -> None:
    """While its former event is kept both are listed as what they are, and the id names the newer."""
    async with running_app(settings_for(redis_url, tmp_path, partitions=5)) as app:
        uid = await app.subscribe(receiver.url)
        among = app.application._partitions
        assert among is not None
        answers = []
        for key in range(8):
            event = {"type": "order.created", "id": "same", "source": "/s", "orderingkey": str(key)}
            answers.append((await app.client.post("/api/v1/events", json=event)).status_code)
            for each in among.all:
                await redis.delete(each.keys.remembered, each.keys.remembered_order)
        listed = (await app.client.get("/api/v1/events")).json()["items"]
        newest = (await app.client.get("/api/v1/events/same", params={"source": "/s"})).json()
        found = (await app.client.get(f"/api/v1/deliveries/{listed[0]['deliveries'][0]['id']}")).json()
        keys = [each["event"]["orderingkey"] for each in listed]

    assert set(answers) == {202, 409}, "in its own partition an event that is kept is known"
    assert len(set(keys)) == len(keys) == answers.count(202) > 1
    assert newest == listed[0]
    assert found["subscription"] == uid
    assert found["acceptedAt"] == listed[0]["acceptedAt"]
