"""The whole app in the test's own event loop, on real ports, with a directory of manifests."""

import asyncio
import inspect
import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
import yaml
from pydantic import SecretStr

from hookcast_app.http_wire import HttpServerState
from hookcast_app.main import Application, create_app
from hookcast_app.realtime import UVICORN_OPTIONS
from hookcast_app.settings import SCOPES, ApiKey, Settings

API_KEY = "key-of-the-tests-0123456789"
SIGNING_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
READER_KEY = "reader-of-the-tests-0123456789"


class RunningApp:
    """An app that serves; `client` is authorised for everything."""

    def __init__(self, application: Application, url: str, manifests: Path) -> None:
        self.application = application
        self.url = url
        self.manifests = manifests
        # A connection is not used again when the server may just be closing it.
        limits = httpx.Limits(keepalive_expiry=1)
        self.client = httpx.AsyncClient(base_url=url, headers={"X-API-Key": API_KEY}, timeout=10, limits=limits)

    async def publish(self, type_: str = "order.created", **attributes: Any) -> dict[str, Any]:
        """Publishes one event; its answer."""
        answer = await self.client.post("/api/v1/events", json={"type": type_, **attributes})
        assert answer.status_code == 202, answer.text
        content: dict[str, Any] = answer.json()
        return content

    async def subscribe(self, url: str, *types: str, name: str = "orders", **spec: Any) -> str:
        """Writes a subscription's manifest (with a known signing secret) and waits until it is in force; its UID."""
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": f"{name}-signing"},
            "stringData": {"secret": SIGNING_SECRET},
        }
        content = {
            "endpoint": {"url": url},
            "events": {"types": list(types) or ["order.*"], **spec.pop("events", {})},
            "signing": {"keys": [{"secretRef": {"name": f"{name}-signing", "key": "secret"}}]},
            **spec,
        }
        kind = {"apiVersion": "hookcast.dev/v1alpha1", "kind": "WebhookSubscription", "metadata": {"name": name}}
        text = yaml.safe_dump_all([secret, {**kind, "spec": content}])
        await self.write(f"{name}.yaml", text)
        return next(uid for uid, entry in self.application.configuration.entries.items() if entry.name == name)

    async def write(self, file: str, text: str) -> None:
        """Writes (or with "" removes) a manifest and waits until the app has taken notice."""
        before = self.application.configuration.configuration, self.application.configuration.problems
        path = self.manifests / file
        if text:
            path.with_suffix(".new").write_text(text)
            path.with_suffix(".new").rename(path)
        else:
            path.unlink()
        await eventually(
            lambda: (self.application.configuration.configuration, self.application.configuration.problems) != before
        )

    async def delivery(self, event: str, status: str) -> dict[str, Any]:
        """The one delivery of an event, once it has this status."""
        found: list[dict[str, Any]] = []

        async def there() -> bool:
            answer = await self.client.get("/api/v1/deliveries", params={"event": event})
            found[:] = answer.json()["items"]
            return [item["status"] for item in found] == [status]

        await eventually(there)
        detail = await self.client.get(f"/api/v1/deliveries/{found[0]['id']}")
        content: dict[str, Any] = detail.json()
        return content


async def eventually(condition: Callable[[], object], within: float = 15.0) -> None:
    """Waits for a condition, which may be asynchronous; fails if it does not come true."""
    async with asyncio.timeout(within):
        while not await _value(condition()):
            await asyncio.sleep(0.01)


async def _value(found: object) -> object:
    return await found if inspect.isawaitable(found) else found


async def ended(task: asyncio.Task[None], within: float = 20.0) -> None:
    """Waits for a server's end; if it does not come, says where every task of the loop is."""
    done, _ = await asyncio.wait({task}, timeout=within)
    if not done:
        stacks = io.StringIO()
        for each in asyncio.all_tasks():
            each.print_stack(file=stacks)
        raise AssertionError(f"the server did not end: {stacks.getvalue()}")
    task.result()


def settings_for(redis_url: str, directory: Path, **changes: Any) -> Settings:
    """Settings of a test: loopback may be reached, and what needs keys has them."""
    manifests = directory / "manifests"
    manifests.mkdir(exist_ok=True)
    values: dict[str, Any] = {
        "redis_url": SecretStr(redis_url),
        "data_dir": directory / "data",
        "manifests": manifests,
        "egress_allow": ("127.0.0.0/8",),
        "realtime_anonymous": True,
        "channel_namespaces": json.dumps({"": {"subscribe": "anyone", "publish": "subscribers"}}),
        "jwt_secret": SecretStr("a-secret-of-the-tests-of-32-bytes!"),
        "api_keys": (
            ApiKey(name="tests", key=SecretStr(API_KEY), scopes=frozenset(SCOPES)),
            ApiKey(name="reader", key=SecretStr(READER_KEY), scopes=frozenset({"read"})),
        ),
    }
    values["channel_namespaces"] = json.loads(values["channel_namespaces"])
    return Settings(**values | changes)


@asynccontextmanager
async def running_app(settings: Settings) -> AsyncIterator[RunningApp]:
    """The app behind a real uvicorn with the raw-write class."""
    application = create_app(settings)
    config = uvicorn.Config(application.main, port=0, log_config=None, access_log=False, **UVICORN_OPTIONS)
    config.timeout_graceful_shutdown = 1
    server = uvicorn.Server(config)
    server.server_state = HttpServerState()
    task = asyncio.create_task(server._serve())
    await eventually(lambda: server.started or task.done())
    if task.done():
        task.result()
    port = server.servers[0].sockets[0].getsockname()[1]
    running = RunningApp(application, f"http://127.0.0.1:{port}", settings.manifests or Path())
    try:
        yield running
    finally:
        await running.client.aclose()
        server.should_exit = True
        await ended(task)
    assert application.failed is None
