"""Processes with roles over partitions, on one Redis and on a cluster: they grow, lose and gain parts under load."""

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.app import API_KEY, RunningApp, eventually, running_app, settings_for
from tests.support.deployment import (
    FIFO,
    KEYS,
    Load,
    deployment,
    is_sound,
    lanes_held,
    missing,
    opened,
    sequences,
    write_subscriptions,
)
from tests.support.receiver import Receiver, Reply
from tests.support.redis_cluster import RedisCluster, running_redis_cluster


@pytest.fixture
async def cluster() -> AsyncIterator[RedisCluster]:
    """Three masters and their replicas."""
    async with running_redis_cluster() as running:
        yield running


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
        await first.ready()
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
