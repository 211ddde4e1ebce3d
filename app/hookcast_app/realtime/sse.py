"""One client on a plain event stream (HTML, 9.2 "Server-sent events"): what it is sent, and how it ends."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import structlog

from hookcast_app.auth import Identity
from hookcast_app.realtime.context import Context
from hookcast_app.realtime.expiry import Expiry
from hookcast_app.realtime.framing import Encoding, reset_event
from hookcast_app.realtime.outbox import Outbox
from hookcast_app.realtime.transport import Receive, Send

Headers = list[tuple[bytes, bytes]]

_log = structlog.get_logger("hookcast.realtime")

PING = b": ping\n\n"
"""A comment: proxies see life, clients see nothing."""
RETRY = b"retry: 1000\n\n"
"""Milliseconds until an EventSource comes back after the stream has ended."""


class EventStream:
    """An event stream on some channels, as the hub sees it; lives from `open` to the end of `run`."""

    def __init__(self, channels: Sequence[str], encoding: Encoding, identity: Identity, context: Context) -> None:
        self.encoding = encoding
        self._channels = channels
        self._identity = identity
        self._context = context
        self._outbox = Outbox(self._overflowed)
        self._sender: asyncio.Task[None] | None = None
        self.write = self._outbox.write

    async def run(self, receive: Receive, send: Send, headers: Headers) -> None:
        """Subscribes, answers 200 with `headers` and sends.

        Ends when the client goes or reads too slowly, its token expires or the server drains; then all is freed.
        Raises Unavailable, or Refused if a channel is full, before anything is sent.
        """
        self._context.stats.sse_connections += 1
        self._context.clients.all.add(self)
        expiry = Expiry(self._identity.expires_at, self._context.clock, self.disconnect)
        try:
            for channel in self._channels:
                await self._context.listen(channel, self)
            self._context.stats.connects += 1
            await self._serve(receive, send, headers)
        finally:
            expiry.cancel()
            self._context.clients.all.discard(self)
            self._context.stats.sse_connections -= 1
            for channel in self._channels:
                self._context.leave(channel, self)

    async def _serve(self, receive: Receive, send: Send, headers: Headers) -> None:
        if self._context.is_draining():
            # Any status but 200 would keep an EventSource away for good; a stream that ends brings it back.
            self.disconnect()
        self._sender = asyncio.create_task(self._send_all(send, headers), name="sse-send")
        receiver = asyncio.create_task(_gone(receive), name="sse-receive")
        try:
            await asyncio.wait({self._sender, receiver}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._sender.cancel()
            receiver.cancel()
            await asyncio.wait({self._sender, receiver})
        if not self._sender.cancelled():
            self._sender.result()

    def interrupted(self, channel: str) -> None:
        """See hub.Connection. The subscription goes on; what was missed is to be fetched elsewhere."""
        self.write(reset_event(channel))

    def disconnect(self) -> None:
        """See hub.Connection. An EventSource comes back when its stream ends."""
        self._outbox.close()

    def _overflowed(self) -> None:
        self._context.stats.slow_closes += 1
        _log.info("event stream ended", reason="the client reads too slowly", channels=list(self._channels))
        # It may be waiting for this very client to read.
        if self._sender is not None:
            self._sender.cancel()

    async def _send_all(self, send: Send, headers: Headers) -> None:
        # The peer may go at any time; uvicorn then drops what is sent, other servers raise.
        with suppress(OSError):
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": RETRY, "more_body": True})
            while chunk := await self._next():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

    async def _next(self) -> bytes:
        """What is to be sent next; empty at the end."""
        try:
            async with asyncio.timeout(self._context.timing.ping):
                return await self._outbox.take()
        except TimeoutError:
            return PING


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
