"""Events in Redis: all of a batch or nothing, duplicates told from reuse, lanes woken when they must be."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from hookcast_app.events.store import REUSED, STORED, EventStore, Publication
from hookcast_app.redis import Keys
from tests.support.channels import shards

KEYS = Keys()


def publication(
    ref: str, *lanes: str, given: bytes | None = None, channels: tuple[str, ...] = (), payload: bytes = b""
) -> Publication:
    return Publication(ref, given, b'{"id":"1"}', b'{"body":1}', lanes, channels, payload)


@pytest.fixture
def store(redis: Redis) -> EventStore:
    return EventStore(redis, KEYS, shards(redis), retention_seconds=100, dedup_seconds=50)


async def lane(redis: Redis, uid: str) -> list[str]:
    entries: Any = await redis.xrange(KEYS.lane(uid, "waiting"))
    return [fields[b"e"].decode() for _, fields in entries]


async def test_an_event_and_its_deliveries_are_stored_together(store: EventStore, redis: Redis) -> None:
    """One reference in each matching lane, one body, and the lanes want attention."""
    verdicts = await store.publish([publication("a", "u1", "u2"), publication("b", "u2"), publication("c")])

    assert verdicts == [STORED] * 3
    assert await lane(redis, "u1") == ["a"]
    assert await lane(redis, "u2") == ["a", "b"]
    event = await redis.hgetall(KEYS.event("a"))
    assert event == {b"m": b'{"id":"1"}', b"b": b'{"body":1}', b"n": b"2", b"s": b"u1 u2"}
    assert set(await redis.zrange(KEYS.ring, 0, -1)) == {b"u1", b"u2"}


async def test_only_an_event_without_deliveries_expires_at_once(store: EventStore, redis: Redis) -> None:
    """What somebody still has to get stays, however long that takes."""
    await store.publish([publication("a", "u1"), publication("c")])

    assert await redis.ttl(KEYS.event("a")) == -1
    assert 0 < await redis.ttl(KEYS.event("c")) <= 100


async def test_the_same_again_is_a_duplicate_and_stores_nothing(store: EventStore, redis: Redis) -> None:
    """Its answer says how many subscriptions matched the first time; another body under the id is refused."""
    first, other = b"1" * 16, b"2" * 16

    assert await store.publish([publication("a", "u1", "u2", given=first)]) == [STORED]
    assert await store.publish([publication("a", "u1", given=first)]) == [2]
    assert await store.publish([publication("a", "u1", given=other)]) == [REUSED]

    assert await lane(redis, "u1") == ["a"]
    assert await redis.hkeys(KEYS.remembered) == [b"a"]


async def test_duplicates_within_a_batch_are_found(store: EventStore, redis: Redis) -> None:
    """The first wins."""
    first, other = b"1" * 16, b"2" * 16

    verdicts = await store.publish(
        [publication("a", "u1", given=first), publication("a", "u1", given=first), publication("a", given=other)]
    )

    assert verdicts == [STORED, 1, REUSED]
    assert await lane(redis, "u1") == ["a"]


async def test_an_id_is_known_as_long_as_its_event_is_kept(store: EventStore, redis: Redis) -> None:
    """After the dedup window a repetition of an event that still waits must not overwrite it."""
    await store.publish([publication("a", "u1", given=b"1" * 16)])
    await redis.delete(KEYS.remembered)

    assert await store.publish([publication("a", "u1", given=b"1" * 16)]) == [1]
    assert await lane(redis, "u1") == ["a"]


async def test_publications_go_out_with_the_write(store: EventStore, redis: Redis) -> None:
    """Subscribers of the event's channels hear it; a duplicate is not heard again."""
    where = shards(redis)
    channels = [where.of(name).key("pub", name) for name in ("x", "y")]
    async with redis.pubsub() as heard:
        await heard.subscribe(*channels)
        event = publication("a", given=b"1" * 16, channels=("x", "y"), payload=b"hello")
        await store.publish([event])
        await store.publish([event])
        await redis.publish(channels[0], "end")
        messages: list[tuple[bytes, bytes]] = []
        while not messages or messages[-1][1] != b"end":
            message = await heard.get_message(ignore_subscribe_messages=True, timeout=5)
            if message:
                messages.append((message["channel"], message["data"]))

    assert messages == [
        (channels[0].encode(), b"hello"),
        (channels[1].encode(), b"hello"),
        (channels[0].encode(), b"end"),
    ]


async def test_a_dispatcher_is_woken_only_when_nobody_reads_the_lane(store: EventStore, redis: Redis) -> None:
    """The first delivery of a lane wakes; the next ones do not, until its reader said that it reached the end."""
    async with redis.pubsub() as heard:
        await heard.subscribe(KEYS.wake)
        await store.publish([publication("a", "u1")])
        await store.publish([publication("b", "u1")])
        await redis.sadd(KEYS.hungry, "u1")
        await store.publish([publication("c", "u1")])
        await store.publish([publication("d", "u1")])
        await redis.publish(KEYS.wake, "end")
        woken: list[str] = []
        while "end" not in woken:
            message = await heard.get_message(ignore_subscribe_messages=True, timeout=5)
            if message:
                woken.append(message["data"].decode())

    assert woken == ["u1", "u1", "end"]


@pytest.mark.parametrize(
    "key",
    [
        KEYS.ring,
        KEYS.hungry,
        KEYS.events,
        KEYS.stored,
        KEYS.remembered,
        KEYS.remembered_order,
        KEYS.lane("u1", "waiting"),
        KEYS.event("a"),
    ],
)
async def test_a_key_of_a_wrong_type_leaves_nothing_half_written(store: EventStore, redis: Redis, key: str) -> None:
    """Everything is read before anything is written, so a spoilt key fails the whole batch."""
    # A stream is wrong everywhere but where streams belong; there a list is.
    streams = {KEYS.events, KEYS.remembered_order, KEYS.lane("u1", "waiting")}
    await (redis.rpush(key, "x") if key in streams else redis.xadd(key, {"x": "y"}))

    with pytest.raises(RedisError):
        await store.publish([publication("b", "u1"), publication("a", "u1", given=b"1" * 16)])

    assert await redis.keys("*") == [key.encode()]


async def test_concurrent_writers_of_one_id_store_it_once(store: EventStore, redis: Redis) -> None:
    """Fifty at once: one is stored, the others are duplicates."""
    verdicts = await asyncio.gather(*(store.publish([publication("a", "u1", given=b"1" * 16)]) for _ in range(50)))

    assert sorted(verdicts) == [[STORED]] + [[1]] * 49
    assert await lane(redis, "u1") == ["a"]


async def test_scripts_are_loaded_again_after_redis_forgot_them(store: EventStore, redis: Redis) -> None:
    """A restarted Redis knows no scripts."""
    await store.publish([publication("a", "u1")])
    await redis.script_flush()

    assert await store.publish([publication("b", "u1")]) == [STORED]
