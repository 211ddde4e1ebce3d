"""A stock WebSocket client that remembers what happens to it."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from centrifuge import (  # type: ignore[import-untyped]
    Client,
    ClientEventHandler,
    ConnectingContext,
    PublicationContext,
    SubscribedContext,
    SubscriptionEventHandler,
)

from tests.e2e.cluster import PATIENCE

PATH = "/connection/websocket"


async def eventually(found: Callable[[], bool], what: str, within: float = PATIENCE) -> None:
    """Waits until it is so; fails naming `what`."""
    deadline = time.monotonic() + within
    while not found():
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        await asyncio.sleep(0.02)


class Listener(ClientEventHandler, SubscriptionEventHandler):  # type: ignore[misc]
    """What one client gets: `received` is what was published, `subscribed` how often it has subscribed."""

    def __init__(self) -> None:
        self.received: list[object] = []
        self.subscribed = 0
        self.codes: list[int] = []
        """Why it had to connect, each time; 0 is the first."""

    async def on_connecting(self, ctx: ConnectingContext) -> None:
        self.codes.append(ctx.code)

    async def on_subscribed(self, _: SubscribedContext) -> None:
        self.subscribed += 1

    async def on_publication(self, ctx: PublicationContext) -> None:
        self.received.append(ctx.pub.data)


@asynccontextmanager
async def listening(
    url: str, token: str, channel: str, context: ssl.SSLContext | None = None
) -> AsyncIterator[Listener]:
    """A client at an http or https URL that has subscribed to a channel."""
    listener = Listener()
    # It waits up to 20 s between attempts otherwise; here a server that is back is to be found soon.
    client = Client(
        url.replace("http", "ws", 1) + PATH,
        events=listener,
        token=token,
        ssl_context=context,
        max_reconnect_delay=1.0,
        proxy=None,
    )
    await client.connect()
    try:
        await client.ready(PATIENCE)
        await client.new_subscription(channel, events=listener).subscribe()
        await eventually(lambda: listener.subscribed > 0, "a subscription")
        yield listener
    finally:
        await client.disconnect()
        # It closes its connection in the background, which a test's loop must not end before.
        await eventually(lambda: not client._background_tasks, "a closed connection")
