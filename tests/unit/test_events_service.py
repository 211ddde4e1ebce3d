"""Publishing many events, or costly ones: the loop stays free for others."""

import asyncio
import json
from collections.abc import Sequence
from typing import cast

from redis.asyncio import Redis

from hookcast_app.configuration import CurrentConfiguration
from hookcast_app.events.models import Accepted, Event
from hookcast_app.events.service import Events
from hookcast_app.events.store import STORED, EventStore, Publication
from hookcast_app.observability import Metrics
from hookcast_core.configuration import Configuration, Entry
from hookcast_core.subscription import parse_subscription
from tests.support.partitions import partitions

URL = "https://shop.example/hooks"
COSTLY = "data.a.all(x, data.a == data.a)"
"""10 ms for the event below."""
DATA = json.dumps({"a": list(range(400)), "p": "x" * 2_200}).encode()


class Store(EventStore):
    """Stores nothing and says that it did."""

    def __init__(self) -> None:
        self.stored: list[Publication] = []

    async def publish(self, batch: Sequence[Publication], _epoch: int = 0) -> list[int]:
        self.stored += batch
        return [STORED] * len(batch)


def configuration(**filters: str) -> CurrentConfiguration:
    """Subscriptions to everything, by name."""
    entries = [
        Entry(
            uid=name, generation=1, namespace="d", name=name, source="files", url=URL,
            spec=parse_subscription({"endpoint": {"url": URL}, "events": {"types": ["*"], "filter": text}}),
        )
        for name, text in filters.items()
    ]  # fmt: skip
    current = CurrentConfiguration()
    current.swap(Configuration(sequence=1, entries=tuple(entries)))
    return current


async def published(current: CurrentConfiguration, count: int, data: bytes) -> tuple[list[Publication], int]:
    """What is stored of `count` events published together, and how often others had their turn meanwhile."""
    store = Store()
    alone = partitions(cast("Redis", None))
    events = Events(alone, lambda _: store, current, lambda: 0, Metrics(), dedup_seconds=1)
    writer = asyncio.create_task(events.run())
    made = [Event(id=str(number), source="/s", type="a", time="t", data=data) for number in range(count)]
    publishing = asyncio.create_task(events.publish(made, "c"))
    turns = 0
    while not publishing.done():
        turns += 1
        await asyncio.sleep(0)
    writer.cancel()
    assert all(isinstance(answer, Accepted) for answer in publishing.result())
    return store.stored, turns


async def test_others_have_their_turn_between_costly_evaluations() -> None:
    """However small the events are in bytes."""
    stored, turns = await published(configuration(costly=COSTLY), 20, DATA)

    assert [publication.lanes for publication in stored] == [["costly"]] * 20
    assert turns > 15


async def test_a_batch_is_bounded_in_what_its_filters_cost() -> None:
    """A filter that would take seconds on it has no verdict, which is counted; another one has all of its own."""
    current = configuration(costly=COSTLY, cheap="has(data.a)")

    stored, _ = await published(current, 300, DATA)

    assert [publication.lanes for publication in stored] == [["cheap"]] * 300
    assert current.filter_errors == {"costly": 300}


async def test_a_large_batch_gives_others_their_turns() -> None:
    """Also without any filter."""
    _, turns = await published(configuration(), 1_000, b"1")

    assert turns > 10
