"""A deployment of several processes over one Redis, load for it, and what must hold afterwards."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import yaml

from hookcast_app.delivery.checker import check_all
from hookcast_app.redis import Partitions, Servers
from tests.support.app import API_KEY, eventually
from tests.support.receiver import Request
from tests.support.serving import Serving, is_taken, serving

FIFO = {"ordering": "FIFO", "circuitBreaker": {"failures": 10_000}, "retry": {"schedule": ["1s"] * 30}}
KEYS = 12
"""Ordering keys."""


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


def sequences(requests: Sequence[Request]) -> dict[str, list[int]]:
    """By ordering key the numbers of its events in the order of their first arrivals."""
    found: dict[str, list[int]] = defaultdict(list)
    for request in requests:
        key, _, number = json.loads(request.body)["data"].partition(" ")
        if int(number) not in found[key]:
            found[key].append(int(number))
    return found


def missing(load: Load, requests: Sequence[Request], path: str) -> dict[str, set[int]]:
    """What was acknowledged and did not arrive there."""
    order = sequences([request for request in requests if request.path == path])
    lacks = {key: set(range(count)) - set(order[key]) for key, count in load.acknowledged.items()}
    return {key: numbers for key, numbers in lacks.items() if numbers}


async def lanes_held(server: Serving, count: int) -> bool:
    """Whether a process leases so many lanes."""
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"http://127.0.0.1:{server.admin_port}/metrics")).text
    return f"hookcast_lanes_held {count}.0" in text.splitlines()
