"""Nothing that was acknowledged is lost, and order is kept, whatever happens to dispatchers and to Redis meanwhile.

Real processes: one that takes events, two that deliver, and a Redis that syncs its file. `CHAOS_SECONDS` and
`CHAOS_RATE` (events a second) make it longer and busier than it is by default.
"""

import asyncio
import json
import os
import random
import signal
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from hookcast_app.delivery.checker import check
from hookcast_app.redis import Keys, create_redis
from tests.support.app import SIGNING_SECRET, eventually
from tests.support.durable import DurableRedis
from tests.support.receiver import Receiver, Reply, Request
from tests.support.serving import Serving, is_taken, serving

SECONDS = float(os.environ.get("CHAOS_SECONDS", "12"))
RATE = float(os.environ.get("CHAOS_RATE", "40"))
ORDER_KEYS = 8
API_KEYS = [{"name": "chaos", "key": "key-of-the-chaos-0123456789", "scopes": ["admin"]}]
RETRY = {"retry": {"schedule": ["1s"] * 30}, "circuitBreaker": {"failures": 20, "open": "1s"}}
ENDPOINTS: dict[str, dict[str, Any]] = {
    "fast": {},
    "fifo": {"ordering": "FIFO"},
    "fifo-flaky": {"ordering": "FIFO"},
    "flaky": {},
    "slow": {},
    "hanging": {"timeout": "1s", "maxInFlight": 4},
    "resetting": {},
    "garbage": {},
}
RELIABLE = ("fast", "fifo", "fifo-flaky", "flaky", "slow")
"""Those that take everything in the end."""


def manifests(directory: Path, urls: dict[str, str]) -> None:
    """One subscription to everything for each endpoint, all signed with one known key."""
    directory.mkdir()
    metadata = {"name": "signing"}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"secret": SIGNING_SECRET}}
    documents: list[dict[str, Any]] = [secret]
    for name, delivery in ENDPOINTS.items():
        spec = {
            "endpoint": {"url": urls[name]},
            "events": {"types": ["*"]},
            "signing": {"keys": [{"secretRef": {"name": "signing", "key": "secret"}}]},
            "delivery": RETRY | delivery,
        }
        kind = {"apiVersion": "hookcast.dev/v1alpha1", "kind": "WebhookSubscription"}
        documents.append(kind | {"metadata": {"name": name}, "spec": spec})
    (directory / "all.yaml").write_text(yaml.safe_dump_all(documents))


@asynccontextmanager
async def rude_server(answer: bytes | None) -> AsyncIterator[str]:
    """A server that answers every connection with these bytes, or resets it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        if answer is None:
            writer.transport.abort()
        else:
            writer.write(answer)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


class Publisher:
    """For each ordering key one event after the other, each until it is acknowledged."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.acknowledged: list[str] = []
        self.refused = 0
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Publishes until it is told to end."""
        headers = {"X-API-Key": API_KEYS[0]["key"]}
        async with httpx.AsyncClient(base_url=self._url, headers=headers, timeout=30) as client:  # type: ignore[arg-type]
            await asyncio.gather(*(self._publish(client, key) for key in range(ORDER_KEYS)))

    def end(self) -> None:
        """No more events."""
        self._over.set()

    async def _publish(self, client: httpx.AsyncClient, key: int) -> None:
        number = 0
        while not self._over.is_set():
            event = {"id": f"{key}-{number}", "source": "/chaos", "type": "chaos.x", "orderingkey": f"k{key}"}
            if await is_taken(client, event):
                self.acknowledged.append(event["id"])
                number += 1
                await asyncio.sleep(ORDER_KEYS / RATE)
            else:
                self.refused += 1
                await asyncio.sleep(0.1)


class Faults:
    """What goes wrong, at random, one after the other."""

    def __init__(self, redis: DurableRedis, dispatchers: list[Serving]) -> None:
        self._redis = redis
        self._dispatchers = dispatchers
        self._random = random.Random()  # noqa: S311  any moment will do
        self.made: Counter[str] = Counter()

    async def run(self, seconds: float) -> None:
        """For so long."""
        faults = (
            self.kill_a_dispatcher,
            self.kill_redis,
            self.freeze_redis,
            self.pause_redis,
            self.freeze_a_dispatcher,
        )
        end = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end:
            await asyncio.sleep(self._random.uniform(0.5, 2))
            fault = self._random.choice(faults)
            self.made[fault.__name__] += 1
            await fault()

    async def kill_a_dispatcher(self) -> None:
        dispatcher = self._random.choice(self._dispatchers)
        dispatcher.kill()
        dispatcher.start()

    async def freeze_a_dispatcher(self) -> None:
        """For a moment; sometimes for longer than its leases."""
        dispatcher = self._random.choice(self._dispatchers)
        dispatcher.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(35 if SECONDS > 120 and self._random.random() < 0.3 else 1)
        dispatcher.process.send_signal(signal.SIGCONT)

    async def kill_redis(self) -> None:
        self._redis.signal(signal.SIGKILL)
        await asyncio.sleep(self._random.uniform(0, 1))
        await self._redis.start()

    async def freeze_redis(self) -> None:
        self._redis.signal(signal.SIGSTOP)
        await asyncio.sleep(1)
        self._redis.signal(signal.SIGCONT)

    async def pause_redis(self) -> None:
        client = create_redis(self._redis.url)
        await client.client_pause(500)
        await client.aclose()


def behaviour() -> Any:
    """What each path does."""
    failures: Counter[tuple[str, str]] = Counter()
    chance = random.Random()  # noqa: S311  any answers will do

    async def behave(request: Request) -> Reply:
        match request.path:
            case "/slow":
                await asyncio.sleep(0.05)
            case "/hanging":
                await asyncio.sleep(3_600)
            case "/flaky" | "/fifo-flaky":
                event = request.headers["webhook-id"]
                failures[request.path, event] += 1
                if failures[request.path, event] <= 2 and chance.random() < 0.1:
                    return Reply(503)
        return Reply()

    return behave


@pytest.mark.timeout(SECONDS * 2 + 300)
async def test_nothing_is_lost_and_order_is_kept(tmp_path: Path, receiver: Receiver) -> None:
    """Dispatchers are killed and frozen, Redis is killed, frozen and paused; endpoints are as bad as they like."""
    receiver.behaviour = behaviour()
    redis = DurableRedis(tmp_path / "redis")
    await redis.start()
    async with rude_server(None) as resetting, rude_server(b"\x00\xff not HTTP\r\n\r\n") as garbage:
        urls = {name: f"{receiver.url}/{name}" for name in ENDPOINTS} | {"resetting": resetting, "garbage": garbage}
        manifests(tmp_path / "manifests", urls)
        common = {
            "REDIS_URL": redis.url,
            "MANIFESTS": str(tmp_path / "manifests"),
            "API_KEYS": json.dumps(API_KEYS),
            "ENCRYPTION_KEYS": "MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA=",
            "JWT_SECRET": "a-secret-of-the-tests-of-32-bytes!",
            "DRAIN_DELAY": "0",
        }
        for name in ("api", "one", "two"):
            (tmp_path / name).mkdir()
        with (
            serving(tmp_path / "api", ROLE="api", **common) as api,
            serving(tmp_path / "one", ROLE="dispatcher", **common) as one,
            serving(tmp_path / "two", ROLE="dispatcher", **common) as two,
        ):
            try:
                for server in (api, one, two):
                    server.start()
                for server in (api, one, two):
                    await server.ready()
                publisher, faults = Publisher(api.url), Faults(redis, [one, two])
                publishing = asyncio.create_task(publisher.run())
                await faults.run(SECONDS)
                publisher.end()
                await publishing
                await eventually(lambda: missing(receiver, publisher.acknowledged) == Counter(), within=180)
                for server in (api, one, two):
                    server.stop()
                client = create_redis(redis.url)
                report = await check(client, Keys())
                await client.aclose()
            finally:
                redis.stop()

    seen = arrived(receiver)
    duplicates = sum(sum(ids.values()) - len(ids) for ids in seen.values())
    print(  # noqa: T201  the figures, with pytest -s
        f"{len(publisher.acknowledged)} events acknowledged, {publisher.refused} refused or unanswered, "
        f"{sum(map(len, seen.values()))} deliveries, {duplicates} sent again; faults: {dict(faults.made)}"
    )
    assert publisher.acknowledged
    assert report.violations == []
    for name in ("fifo", "fifo-flaky"):
        assert order_of(seen[name]) == {key: sorted(numbers) for key, numbers in order_of(seen[name]).items()}


def arrived(receiver: Receiver) -> dict[str, Counter[str]]:
    """By endpoint, which events arrived, in the order in which each did first, and how often."""
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for request in receiver.requests:
        if request.path != "/hanging":
            seen[request.path[1:]][json.loads(request.body)["id"]] += 1
    return seen


def missing(receiver: Receiver, acknowledged: list[str]) -> Counter[str]:
    """How many acknowledged events have not arrived at each reliable endpoint."""
    seen = arrived(receiver)
    return +Counter({name: len(set(acknowledged) - seen[name].keys()) for name in RELIABLE})


def order_of(ids: Counter[str]) -> dict[str, list[int]]:
    """By ordering key, the numbers of its events as they arrived first."""
    found: dict[str, list[int]] = defaultdict(list)
    for each in ids:
        key, _, number = each.partition("-")
        found[key].append(int(number))
    return found
