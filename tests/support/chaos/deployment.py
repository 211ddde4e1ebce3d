"""A deployment of real processes, one that takes events and two that deliver, with a subscription for each endpoint."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.support.app import SIGNING_SECRET
from tests.support.chaos.endpoints import FIFO, Endpoints, Kind
from tests.support.serving import Serving, serving

API_KEY = "key-of-the-chaos-0123456789"
_LEASE_LOST = re.compile(r'^hookcast_deliveries_dropped_total\{why="lease_lost"\} ([0-9.]+)', re.MULTILINE)
_SETTINGS = {
    "API_KEYS": json.dumps([{"name": "chaos", "key": API_KEY, "scopes": ["admin"]}]),
    "ENCRYPTION_KEYS": "MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA=",
    "JWT_SECRET": "a-secret-of-the-tests-of-32-bytes!",
    "DRAIN_DELAY": "0",
    "DRAIN": "2",
}
_DELIVERY: dict[str, Any] = {
    "retry": {"exponential": {"initial": "200ms", "factor": 2, "max": "2s", "attempts": 100}},
    "circuitBreaker": {"failures": 20, "open": "1s"},
}
_OF_A_KIND: dict[Kind, dict[str, Any]] = {
    "hanging": {"timeout": "1s", "maxInFlight": 4},
    "endless": {"timeout": "1s"},
}


class Deployment:
    """One that takes events and those that deliver them."""

    def __init__(self, api: Serving, dispatchers: list[Serving]) -> None:
        self.api = api
        self.dispatchers = dispatchers

    async def start(self) -> None:
        """Starts all and waits until they are ready."""
        for server in (self.api, *self.dispatchers):
            server.start()
        for server in (self.api, *self.dispatchers):
            await server.ready()

    async def subscriptions(self) -> list[str]:
        """The UIDs of all that are in force."""
        async with httpx.AsyncClient(base_url=self.api.url, headers={"X-API-Key": API_KEY}, timeout=60) as client:
            answer = await client.get("/api/v1/webhook-subscriptions", params={"limit": 100})
        return [item["uid"] for item in answer.raise_for_status().json()["items"]]

    async def stop(self) -> None:
        """Stops all in an orderly way. None may have ended by itself."""
        for server in (self.api, *self.dispatchers):
            assert server.process.poll() is None, server.log.read_text()[-5_000:]
            assert await asyncio.to_thread(server.stop) == 0, server.log.read_text()[-5_000:]


async def lease_lost(dispatcher: Serving) -> int:
    """How many results this dispatcher has dropped because it had lost the lease. Raises httpx.HTTPError."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{dispatcher.admin_port}", timeout=60) as client:
        found = _LEASE_LOST.search((await client.get("/metrics")).text)
    return int(float(found[1])) if found else 0


@asynccontextmanager
async def deployed(
    directory: Path, redis_url: str, endpoints: Endpoints, types: int, **settings: str
) -> AsyncIterator[Deployment]:
    """A deployment that is ready; endpoint `n` subscribes to the type `chaos.<n % types>`."""
    _write_manifests(directory / "manifests", endpoints, types)
    common = _SETTINGS | {"REDIS_URL": redis_url, "MANIFESTS": str(directory / "manifests"), **settings}
    with ExitStack() as stack:
        servers = []
        for name in ("api", "one", "two"):
            (directory / name).mkdir()
            role = "api" if name == "api" else "dispatcher"
            servers.append(stack.enter_context(serving(directory / name, ROLE=role, **common)))
        deployment = Deployment(servers[0], servers[1:])
        await deployment.start()
        yield deployment


def _write_manifests(directory: Path, endpoints: Endpoints, types: int) -> None:
    directory.mkdir()
    metadata = {"name": "signing"}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"secret": SIGNING_SECRET}}
    documents: list[dict[str, Any]] = [secret]
    for number, (path, endpoint) in enumerate(endpoints.by_path.items()):
        ordering = {"ordering": "FIFO"} if endpoint.kind in FIFO else {}
        spec = {
            "endpoint": {"url": endpoints.url + path},
            "events": {"types": [f"chaos.{number % types}"]},
            "signing": {"keys": [{"secretRef": {"name": "signing", "key": "secret"}}]},
            "delivery": _DELIVERY | ordering | _OF_A_KIND.get(endpoint.kind, {}),
        }
        kind = {"apiVersion": "hookcast.dev/v1alpha1", "kind": "WebhookSubscription"}
        documents.append(kind | {"metadata": {"name": f"{endpoint.kind}-{number}"}, "spec": spec})
    (directory / "all.yaml").write_text(yaml.safe_dump_all(documents))
