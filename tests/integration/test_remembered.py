"""Ids that publishers gave are remembered for a time or within some memory, whichever is less."""

import struct
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from hookcast_app.events import Remembered
from hookcast_app.events.remembered import FORGOTTEN_AT_ONCE, ID_BYTES
from hookcast_app.events.store import REUSED, STORED, EventStore, Publication
from hookcast_app.redis import Mark, Phase, swap_mark
from hookcast_app.references import reference
from hookcast_core.errors import Unavailable
from tests.support.channels import shards
from tests.support.lanes import KEYS, RECORD

SECONDS = 50
DIGEST = b"1" * 16


@pytest.fixture
def store(redis: Redis) -> EventStore:
    return EventStore(redis, KEYS, shards(redis), retention_seconds=100, dedup_seconds=SECONDS)


def given(*refs: str, digest: bytes = DIGEST, ordering_key: str | None = None) -> list[Publication]:
    return [Publication(reference(ref, ordering_key), digest, RECORD, b"{}", (), (), b"") for ref in refs]


def remembered(redis: Redis, most_bytes: int = 0) -> Remembered:
    return Remembered(redis, KEYS, seconds=SECONDS, most_bytes=most_bytes)


async def age(redis: Redis, seconds: int, *refs: str) -> None:
    """Makes what is remembered of these ids older, as if so much time had passed; and their events are gone."""
    entries = cast("Any", await redis.xrange(KEYS.remembered_order))
    await redis.delete(KEYS.remembered_order)
    for entry, fields in entries:
        at_second, ref = struct.unpack(">I", fields[b"e"][:4])[0], fields[b"e"][4:]
        if ref.decode() in refs:
            aged = struct.pack(">I", at_second - seconds)
            value = cast("bytes", await redis.hget(KEYS.remembered, ref.decode()))
            await redis.hset(KEYS.remembered, ref.decode(), aged + value[4:])
            await redis.delete(KEYS.event(ref.decode()))
            fields[b"e"] = aged + ref
        await redis.xadd(KEYS.remembered_order, fields, id=entry)


async def known(redis: Redis) -> list[str]:
    """What is remembered, the oldest first."""
    refs = [fields[b"e"][4:].decode() for _, fields in cast("Any", await redis.xrange(KEYS.remembered_order))]
    assert set(cast("list[bytes]", await redis.hkeys(KEYS.remembered))) == {ref.encode() for ref in refs}
    return refs


async def test_an_id_is_known_after_its_event_is_gone(store: EventStore, redis: Redis) -> None:
    """For as long as ids are remembered; afterwards it is a new one."""
    await store.publish(given("young", "old"))
    await age(redis, SECONDS - 5, "young")
    await age(redis, SECONDS + 1, "old")

    assert await store.publish(given("young", "old")) == [0, STORED]
    assert await store.publish(given("young", "old", digest=b"2" * 16)) == [REUSED, REUSED]


async def test_an_ordering_key_makes_no_other_id(store: EventStore, redis: Redis) -> None:
    """The same id with another key is another event under the same id."""
    await store.publish(given("a", ordering_key="k"))
    await redis.delete(KEYS.event("a"))

    assert await store.publish(given("a", ordering_key="l")) == [0]
    assert await known(redis) == ["a"]


async def test_what_is_too_old_is_forgotten(store: EventStore, redis: Redis) -> None:
    """More than one script's worth, and nothing that is not."""
    refs = [f"r{number}" for number in range(FORGOTTEN_AT_ONCE + 10)]
    await store.publish(given(*refs))
    await age(redis, SECONDS + 1, *refs[:-3])

    assert await remembered(redis).forget() == len(refs) - 3

    assert await known(redis) == refs[-3:]


async def test_beyond_the_bytes_the_oldest_are_forgotten(store: EventStore, redis: Redis) -> None:
    """And the window in effect says so, until there are fewer again."""
    await store.publish(given(*"abcdefghij"))
    await age(redis, 20, *"abcdefg")
    await age(redis, 10, "h")
    ids = remembered(redis, 3 * ID_BYTES)

    assert await ids.forget() == 7

    assert await known(redis) == ["h", "i", "j"]
    assert 10 <= ids.window_seconds <= 15
    assert await ids.forget() == 0
    assert 10 <= ids.window_seconds <= 15
    await age(redis, SECONDS + 1, "h", "i")
    await ids.forget()
    assert ids.window_seconds == SECONDS


async def test_an_id_that_was_given_again_is_not_forgotten_with_its_first_time(store: EventStore, redis: Redis) -> None:
    """It was too old when it was given again, and not forgotten yet."""
    await store.publish(given("again"))
    await age(redis, SECONDS + 1, "again")
    assert await store.publish(given("again")) == [STORED]

    assert await remembered(redis).forget() == 1

    assert await known(redis) == ["again"]
    await redis.delete(KEYS.event("again"))
    assert await store.publish(given("again")) == [0]


async def test_forgetting_needs_no_memory(store: EventStore, redis: Redis) -> None:
    """A full Redis gets room by it."""
    await store.publish(given("a", "b", "c"))
    await redis.config_set("maxmemory", "1mb")

    assert await remembered(redis, ID_BYTES).forget() == 2

    await redis.config_set("maxmemory", "0")
    assert await known(redis) == ["c"]


async def test_nothing_is_forgotten_while_the_data_are_moved(store: EventStore, redis: Redis) -> None:
    """What is copied must hold still."""
    await store.publish(given("a", "b"))
    await swap_mark(redis, None, Mark(Phase.COPYING, "run", "i", 0, "peer"))

    with pytest.raises(Unavailable, match="being moved"):
        await remembered(redis, ID_BYTES).forget()

    assert await known(redis) == ["a", "b"]


async def test_bytes_are_memory(store: EventStore, redis: Redis) -> None:
    """An id takes what is counted for it, within a fifth."""
    count = 30_000
    chosen = [f"{number:026}" for number in range(count)]
    for first in range(0, count, 1_000):
        await store.publish(given(*chosen[first : first + 1_000]))

    used = [await redis.memory_usage(key, samples=0) or 0 for key in (KEYS.remembered, KEYS.remembered_order)]

    assert 0.8 < sum(used) / count / ID_BYTES < 1.2
