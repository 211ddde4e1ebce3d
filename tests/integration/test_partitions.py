"""Several partitions: over one Redis and over the masters of a cluster, and more of them while everything runs."""

import asyncio
import json
import signal
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import yaml
from redis.asyncio import Redis

from hookcast_app.delivery.checker import check_all
from hookcast_app.events.placing import Placed, Placing
from hookcast_app.events.store import ELSEWHERE, REUSED, STORED, EventStore, Publication
from hookcast_app.redis import Keys, Partition, Partitions, Servers
from hookcast_app.redis.servers import slot_of, tags_of
from hookcast_app.references import reference
from hookcast_core.errors import InvalidInput
from tests.support.app import API_KEY, RunningApp, eventually, running_app, settings_for
from tests.support.lanes import RECORD
from tests.support.partitions import partitions
from tests.support.receiver import Receiver, Reply, Request
from tests.support.redis_cluster import RedisCluster, running_redis_cluster
from tests.support.serving import COMMAND, Serving, is_taken, serving

FIFO = {"ordering": "FIFO", "circuitBreaker": {"failures": 10_000}, "retry": {"schedule": ["1s"] * 30}}
KEYS = 12
"""Ordering keys."""


@pytest.fixture
async def cluster() -> AsyncIterator[RedisCluster]:
    """Three masters and their replicas."""
    async with running_redis_cluster() as running:
        yield running


# What is where


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


# An app


async def opened(url: str) -> Partitions:
    """The partitions of a deployment, to be looked at."""
    found = Partitions(Servers(url))
    await found.learn()
    return found


async def is_sound(url: str, places: dict[str, int]) -> bool:
    """Whether all deliveries are where they should be, and so many in each place; fails at what is wrong."""
    found = await opened(url)
    report = await check_all(found.all)
    for partition in found.all:
        await partition.redis.aclose()
    return not report.violations and report.places == places


async def pages(app: RunningApp, path: str, **params: Any) -> list[dict[str, Any]]:
    """All items of a listing, a few at a time."""
    items: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        answer = (await app.client.get(path, params={"limit": 7, **params, **cursor})).json()
        items += answer["items"]
        if answer["next"] is None:
            return items
        cursor = {"cursor": answer["next"]}


def sequences(requests: Sequence[Request]) -> dict[str, list[int]]:
    """By ordering key the numbers of its events in the order of their first arrivals."""
    found: dict[str, list[int]] = defaultdict(list)
    for request in requests:
        key, _, number = json.loads(request.body)["data"].partition(" ")
        if int(number) not in found[key]:
            found[key].append(int(number))
    return found


@pytest.mark.timeout(180)
async def test_everything_works_on_a_cluster(cluster: RedisCluster, tmp_path: Path, receiver: Receiver) -> None:
    """Webhooks in order, live publications, listings, replays, and ids that are used twice, over three masters."""
    receiver.behaviour = lambda request: Reply(400 if request.path == "/broken" else 200)
    async with running_app(settings_for(cluster.url, tmp_path, partitions=6)) as app:
        await app.subscribe(f"{receiver.url}/order", name="fifo", delivery=FIFO)
        broken = await app.subscribe(f"{receiver.url}/broken", name="broken")
        heard: list[Any] = []
        listening = asyncio.create_task(listen(app, "news", heard))
        await eventually(lambda: heard)

        for number in range(60):
            await app.publish(
                id=f"e{number}", source="/s", data=f"k{number % KEYS} {number // KEYS}", channel="news",
                **({"orderingkey": f"k{number % KEYS}"} if number % 2 else {}),
            )  # fmt: skip
        again = await app.publish(id="e7", source="/s", data="k7 0", channel="news", orderingkey="k7")
        other = await app.client.post(
            "/api/v1/events", json={"type": "order.created", "id": "e7", "source": "/s", "orderingkey": "another"}
        )
        await receiver.wait_for(120, 30)
        await eventually(lambda: len(heard) == 61)
        await eventually(lambda: is_sound(cluster.url, {"delivered": 60, "dead": 60}))

        assert (again["duplicate"], again["matched"], other.status_code) == (True, 2, 409)
        order = sequences([request for request in receiver.requests if request.path == "/order"])
        assert order == {f"k{key}": list(range(5)) for key in range(KEYS)}
        assert Counter(each["id"] for each in heard[1:]) == {f"e{number}": 1 for number in range(60)}

        events = [item["event"]["id"] for item in await pages(app, "/api/v1/events")]
        assert sorted(events) == sorted(f"e{number}" for number in range(60))
        for listing in (
            pages(app, "/api/v1/dead-letters"),
            pages(app, f"/api/v1/webhook-subscriptions/{broken}/deliveries"),
        ):
            assert len({item["id"] for item in await listing}) == 60
        stats = (await app.client.get(f"/api/v1/webhook-subscriptions/{broken}/stats")).json()
        assert stats["deliveries"]["dead"] == 60

        receiver.behaviour = lambda _request: Reply()
        asked = (await app.client.post("/api/v1/dead-letters/replay", json={})).json()
        await eventually(lambda: is_sound(cluster.url, {"delivered": 120}))
        done = (await app.client.get(f"/api/v1/replays/{asked['id']}")).json()
        assert (done["state"], done["moved"]) == ("done", 60)
        listening.cancel()
    assert {len(await waiting(cluster, node)) > 0 for node in range(3)} == {True}


async def waiting(cluster: RedisCluster, node: int) -> list[bytes]:
    """The streams of lanes that one master has."""
    async with cluster.client(node) as client:
        return [key async for key in client.scan_iter(match="hookcast:*:lane:*:delivered")]


async def listen(app: RunningApp, channel: str, heard: list[Any]) -> None:
    """Collects what comes on a channel by SSE, behind a word that it is subscribed."""
    async with httpx.AsyncClient(timeout=None) as client, client.stream("GET", f"{app.url}/sse/{channel}") as stream:  # noqa: S113
        assert stream.status_code == 200
        heard.append("subscribed")
        async for name, _, value in (line.partition(":") async for line in stream.aiter_lines()):
            heard += [json.loads(value)] if name == "data" else []


# Processes of their own


def write_subscriptions(directory: Path, **endpoints: str) -> None:
    """One subscription for each, to everything; those whose name begins with `fifo` in order."""
    directory.mkdir()
    documents = []
    for name, url in endpoints.items():
        delivery = FIFO if name.startswith("fifo") else FIFO | {"ordering": "Unordered"}
        secret = {"kind": "Secret", "metadata": {"name": name}, "stringData": {"s": "whsec_" + "A" * 32}}
        spec = {
            "endpoint": {"url": url},
            "events": {"types": ["*"]},
            "signing": {"keys": [{"secretRef": {"name": name, "key": "s"}}]},
            "delivery": delivery,
        }
        kind = {"apiVersion": "hookcast.dev/v1alpha1", "kind": "WebhookSubscription", "metadata": {"name": name}}
        documents += [{"apiVersion": "v1", **secret}, {**kind, "spec": spec}]
    (directory / "all.yaml").write_text(yaml.safe_dump_all(documents))


@contextmanager
def deployment(directory: Path, url: str, **settings: str) -> Iterator[Callable[..., Serving]]:
    """Starts processes of one deployment: `start(role, partitions)`."""
    common = {
        "REDIS_URL": url,
        "MANIFESTS": str(directory / "manifests"),
        "API_KEYS": json.dumps([{"name": "t", "key": API_KEY, "scopes": ["admin"]}]),
        "ENCRYPTION_KEYS": "x" * 43 + "=",
        "JWT_SECRET": "y" * 40,
        "DRAIN_DELAY": "0",
        "DRAIN": "5",
        **settings,
    }
    with ExitStack() as stack:
        count = iter(range(100))

        def start(role: str, partitions: int) -> Serving:
            place = directory / f"process-{next(count)}"
            place.mkdir()
            server = stack.enter_context(serving(place, ROLE=role, PARTITIONS=str(partitions), **common))
            server.start()
            return server

        yield start


class Load:
    """Publishes events of every ordering key, each until it is acknowledged, one after the other of each key."""

    def __init__(self, url: str, keys: int = KEYS) -> None:
        self.url = url
        self.acknowledged: dict[str, int] = {f"k{key}": 0 for key in range(keys)}
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Until it is told to end."""
        async with httpx.AsyncClient(base_url=self.url, headers={"X-API-Key": API_KEY}, timeout=30) as client:
            await asyncio.gather(*(self._publish(client, key) for key in self.acknowledged))

    async def goes_on(self, count: int) -> None:
        """Waits until so many more events were acknowledged."""
        before = self.total
        await eventually(lambda: self.total > before + count, 60)

    def end(self) -> None:
        """No more events."""
        self._over.set()

    @property
    def total(self) -> int:
        """Events acknowledged."""
        return sum(self.acknowledged.values())

    async def _publish(self, client: httpx.AsyncClient, key: str) -> None:
        while not self._over.is_set():
            number = self.acknowledged[key]
            event = {
                "type": "a.b",
                "id": f"{key}-{number}",
                "source": "/s",
                "data": f"{key} {number}",
                "orderingkey": key,
            }
            if await is_taken(client, event):
                self.acknowledged[key] += 1
                await asyncio.sleep(0.02)
            else:
                await asyncio.sleep(0.05)


def missing(load: Load, requests: Sequence[Request], path: str) -> dict[str, set[int]]:
    """What was acknowledged and did not arrive there."""
    order = sequences([request for request in requests if request.path == path])
    lacks = {key: set(range(count)) - set(order[key]) for key, count in load.acknowledged.items()}
    return {key: numbers for key, numbers in lacks.items() if numbers}


async def test_partitions_grow_under_load(redis_url: str, tmp_path: Path, receiver: Receiver) -> None:
    """From one to three and from three to seven: nothing is lost or overtaken, and ids that were used are known.

    Events come all the time, and an endpoint fails now and then.
    """
    failing = iter(range(10**9))
    receiver.behaviour = lambda request: Reply(503 if request.path == "/fifo" and next(failing) % 50 == 0 else 200)
    write_subscriptions(tmp_path / "manifests", fifo=f"{receiver.url}/fifo", plain=f"{receiver.url}/plain")
    with deployment(tmp_path, redis_url) as start:
        api, dispatcher = start("api", 1), start("dispatcher", 1)
        await api.ready()
        await dispatcher.ready()
        load = Load(api.url)
        loading = asyncio.create_task(load.run())
        for count in (3, 7):
            await load.goes_on(200)
            await start("dispatcher", count).ready()
        await load.goes_on(300)
        load.end()
        await loading

        await eventually(lambda: not missing(load, receiver.requests, "/fifo"), 60)
        await eventually(lambda: is_sound(redis_url, {"delivered": 2 * load.total}), 30)
        async with httpx.AsyncClient(base_url=api.url, headers={"X-API-Key": API_KEY}) as client:
            for key in load.acknowledged:
                event = {"type": "a.b", "id": f"{key}-0", "source": "/s", "data": f"{key} 0", "orderingkey": key}
                answer = await client.post("/api/v1/events", json=event)
                assert answer.json()["duplicate"], answer.text
                answer = await client.post("/api/v1/events", json=event | {"data": "other"})
                assert answer.status_code == 409

    assert missing(load, receiver.requests, "/plain") == {}
    order = sequences([request for request in receiver.requests if request.path == "/fifo"])
    assert order == {key: list(range(count)) for key, count in load.acknowledged.items()}
    found = await opened(redis_url)
    used = {each.keys.tag for each in found.active if await each.redis.xlen(each.keys.events)}
    await found.home.redis.aclose()
    assert found.counts == (1, 3, 7)
    assert len(used) == 7


@pytest.mark.timeout(240)
async def test_a_cluster_that_loses_a_master_and_grows(
    cluster: RedisCluster, tmp_path: Path, receiver: Receiver
) -> None:
    """A master is killed while events come, partitions are added, a dispatcher is killed: nothing acknowledged is lost.

    Nor is anything overtaken; the processes have their roles.
    """
    write_subscriptions(tmp_path / "manifests", fifo=f"{receiver.url}/fifo", plain=f"{receiver.url}/plain")
    with deployment(tmp_path, cluster.url, REDIS_WAIT="replicas:1,timeout:1s") as start:
        api, dispatcher = start("api", 3), start("dispatcher", 3)
        await api.ready()
        await dispatcher.ready()
        load = Load(api.url)
        loading = asyncio.create_task(load.run())
        await eventually(lambda: load.total > 200, 30)

        cluster.signal(1, signal.SIGKILL)
        await cluster.replaced(1)
        await cluster.restart(1)  # as a replica; without one nothing would be acknowledged there
        await load.goes_on(300)

        others = [start("dispatcher", 6), start("dispatcher", 6)]
        for other in others:
            await other.ready()
        await load.goes_on(200)
        dispatcher.kill()
        await load.goes_on(100)
        load.end()
        await loading
        await eventually(lambda: not missing(load, receiver.requests, "/fifo"), 90)
        await eventually(lambda: not missing(load, receiver.requests, "/plain"), 30)
        await eventually(lambda: is_sound(cluster.url, {"delivered": 2 * load.total}), 60)

    order = sequences([request for request in receiver.requests if request.path == "/fifo"])
    assert order == {key: list(range(count)) for key, count in load.acknowledged.items()}


@pytest.mark.timeout(180)
async def test_lanes_move_within_seconds(cluster: RedisCluster, tmp_path: Path, receiver: Receiver) -> None:
    """A dispatcher that comes gets its part under load, even of one subscription; one that goes gives it back."""
    write_subscriptions(tmp_path / "manifests", plain=f"{receiver.url}/plain")
    with deployment(tmp_path, cluster.url) as start:
        api, first = start("api", 6), start("dispatcher", 6)
        await api.ready()
        load = Load(api.url, keys=60)  # some in each partition
        loading = asyncio.create_task(load.run())
        await eventually(lambda: lanes_held(first, 6), 30)
        second = start("dispatcher", 6)
        await second.ready()
        await eventually(lambda: lanes_held(second, 3), 10)
        assert await asyncio.to_thread(second.stop) == 0  # what is under way is answered by this process
        await eventually(lambda: lanes_held(first, 6), 10)
        load.end()
        await loading
        await eventually(lambda: is_sound(cluster.url, {"delivered": load.total}), 30)

    assert len(receiver.requests) == load.total


async def lanes_held(server: Serving, count: int) -> bool:
    """Whether a process leases so many lanes."""
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"http://127.0.0.1:{server.admin_port}/metrics")).text
    return f"hookcast_lanes_held {count}.0" in text.splitlines()
