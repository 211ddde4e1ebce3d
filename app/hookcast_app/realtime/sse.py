"""One client on a plain event stream (HTML, 9.2 "Server-sent events"): what it is sent, and how it ends."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

import structlog

from hookcast_app.realtime.context import Context
from hookcast_app.realtime.event_ids import EventIds, shown
from hookcast_app.realtime.expiry import Expiry
from hookcast_app.realtime.framing import Encoding, encoded, reset_event
from hookcast_app.realtime.outbox import Outbox
from hookcast_app.realtime.positions import Caught, Position
from hookcast_app.realtime.transport import Receive, Send

Headers = list[tuple[bytes, bytes]]

_log = structlog.get_logger("hookcast.realtime")

PING = b": ping\n\n"
"""A comment: proxies see life, clients see nothing."""
RETRY = b"retry: 1000\n"
"""Milliseconds until an EventSource comes back after the stream has ended; a field, not a whole event."""


class EventStream:
    """An event stream on some channels, as the hub sees it; lives from its making to the end of `run`.

    `since` says where the client was last, by channel, if it was there.
    """

    def __init__(
        self,
        channels: Sequence[str],
        encoding: Encoding,
        context: Context,
        *,
        since: Mapping[str, Position],
        expires_at: float | None,
    ) -> None:
        self.encoding = encoding
        self._channels = channels
        self._context = context
        self._since = since
        self._expires_at = expires_at
        self._ids = EventIds()
        self._missed: list[bytes] = []
        self._outbox = Outbox(self._overflowed)
        self._sender: asyncio.Task[None] | None = None
        self.write = self._outbox.write

    async def run(self, receive: Receive, send: Send, headers: Headers) -> None:
        """Subscribes, answers 200 with `headers` and sends: first what was missed.

        Ends when the client goes or reads too slowly, its token expires or the server drains; then all is freed.
        Raises Unavailable, or Refused if a channel is full, before anything is sent.
        """
        with self._context.clients.staying(self, "sse"):
            expiry = Expiry(self._expires_at, self._context.clock, self.disconnect)
            try:
                for channel in self._channels:
                    since = self._since.get(channel)
                    self._caught(channel, await self._context.listen(channel, self, since, wants_all=True))
                self._context.stats.connects += 1
                await self._serve(receive, send, headers)
            finally:
                expiry.cancel()
                self._outbox.close()
                for channel in self._channels:
                    self._context.leave(channel, self)

    def _caught(self, channel: str, caught: Caught) -> None:
        """Takes down what comes before all that the hub writes from now on, and is not counted with that."""
        position = caught.position
        if not position.epoch:
            return
        first = position.offset - len(caught.missed)
        self._ids.begin(channel, Position(first, position.epoch))
        if channel in self._since:
            self._context.stats.came_back(is_all=caught.is_all)
            if not caught.is_all:
                self._missed.append(self._reset(channel, position))
        self._missed += encoded(self.encoding, channel, caught.missed, position.epoch)

    def _reset(self, channel: str, position: Position) -> bytes:
        if not position.epoch:
            return reset_event(channel)
        named = f"{channel} " if self.encoding is Encoding.NAMED_EVENTS else ""
        return reset_event(channel, named + shown(position))

    async def _serve(self, receive: Receive, send: Send, headers: Headers) -> None:
        if self._context.is_draining():
            # Any status but 200 would keep an EventSource away for good; a stream that ends brings it back.
            self.disconnect()
        self._sender = sender = asyncio.create_task(self._send_all(send, headers), name="sse-send")
        receiver = asyncio.create_task(gone(receive), name="sse-receive")
        try:
            await asyncio.wait({sender, receiver}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Its end may know this.
            self._sender = None
            sender.cancel()
            receiver.cancel()
            await asyncio.wait({sender, receiver})
        if not sender.cancelled():
            sender.result()

    def interrupted(self, channel: str) -> None:
        """See hub.Connection. The subscription goes on; what was missed is to be fetched elsewhere."""
        # What the hub still holds came before.
        self._context.hub.flush()
        self.write(self._reset(channel, self._context.broker.position(channel)))

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
            await _send_more(send, self._greeting())
            chunk = b"".join(self._missed)
            self._missed.clear()
            while chunk := chunk or await self._next():
                for piece in self._pieces(chunk):
                    await _send_more(send, piece)
                chunk = b""
            await send({"type": "http.response.body", "body": b""})

    def _greeting(self) -> bytes:
        """So that who is cut off before the first event can come back to where it began."""
        number = self._ids.current
        return RETRY + (b"id: %b\n\n" % number.encode() if number else b"\n")

    def _pieces(self, chunk: bytes) -> Iterable[bytes]:
        return self._ids.numbered(chunk) if self.encoding is Encoding.NAMED_EVENTS else (chunk,)

    async def _next(self) -> bytes:
        """What is to be sent next; empty at the end."""
        try:
            async with asyncio.timeout(self._context.timing.ping):
                return await self._outbox.take()
        except TimeoutError:
            return PING


async def _send_more(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def gone(receive: Receive) -> None:
    """Returns when the client of a request without a body has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
