"""uvicorn's WebSocket protocol, with a raw write for the app: `uvicorn --ws hookcast_app.realtime.wire:RawWebSocket`.

It relies on undocumented parts of uvicorn 0.54 (`data_received`, `handle_connect`, `pause_writing`, `resume_writing`,
`connection_lost`, `shutdown`, `run_asgi`, `receive`, `send`; `transport`, `conn`, `queue`, `scope`, `close_sent`,
`close_timer`, `close_timeout`, `disconnected`, `handshake_initiated`, `handshake_complete`, `read_paused`). The version
is pinned, and a contract test says when one of them moves.

What it changes for every WebSocket of the server: no compression (a compressed frame cannot be shared), messages of at
most 64 KiB, no pings of uvicorn's own (the client protocol has its own), no query in the log (it may hold a token), and
no waiting for ever on a peer that does not read. `incoming` reads what a client sends, as fast as the app takes it. A
handshake that cannot be read is answered, where uvicorn keeps such a connection for ever.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from hookcast_app.realtime import incoming
from hookcast_app.realtime.handshake import refusal
from hookcast_app.realtime.incoming import Closed, Event, FrameReader, Idle, Pinged, Received, Violation
from hookcast_app.realtime.outbox import MAX_QUEUED
from hookcast_app.realtime.protocol import MAX_MESSAGE, SLOW, Disconnect
from hookcast_core.pace import Pace

EXTENSION = "hookcast.raw"
"""The ASGI extension's name in `scope["extensions"]`; its `socket` is a RawSocket."""

IMPATIENT_SECONDS = 0.8
"""How long a peer may take to read its end when it was too slow already, or the server stops (which waits 1 s)."""
LINGER_SECONDS = 1.0
"""How long the peer may take to go once both sides know of the end.

Closing at once would make the kernel answer what the peer still sends with a reset, at which the peer forgets a close
frame that it has not read yet: it would not learn why, and come back.
"""
FRAMES_PER_TURN = 100
"""Frames of one client that are read before others have their turn; a fraction of a millisecond."""
IDLE_BURST, IDLE_PER_SECOND = 100, 10.0
"""Frames that bring nothing (pings, pongs, fragments without content): so many at once, and so many a second."""


class RawSocket(Protocol):
    """What the extension offers, once the app has sent `websocket.accept`."""

    on_overflow: Callable[[], None]
    """Called when more than MAX_QUEUED bytes wait for the peer; they are dropped, and the app is to close."""

    heard_at: float
    """When anything came from the peer last, a pong too, by the loop's clock."""

    def write_raw(self, frames: bytes) -> None:
        """Sends complete server frames, or queues them while the transport is full. Never raises or blocks."""
        ...

    def close_raw(self, disconnect: Disconnect) -> None:
        """Sends a close frame, and ends the connection whether or not the peer answers or reads.

        The app receives `websocket.disconnect`.
        """
        ...


class RawWebSocket(WebSocketsSansIOProtocol):
    """One WebSocket; see RawSocket for what the app sees of it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn.available_extensions = None
        # websockets logs request lines, with their query, at DEBUG.
        self.conn.debug = False
        self.ping_interval = None
        self.on_overflow: Callable[[], None] = _ignore
        self._is_direct = True
        """Whether frames go to the transport at once: open, and not paused."""
        self._backlog: list[bytes] = []
        self._backlog_size = 0
        self._pong = b""
        """The answer to the latest ping, while the transport is full (RFC 6455, 5.5.3)."""
        self._abort_timer: asyncio.TimerHandle | None = None
        self._reader = FrameReader(MAX_MESSAGE)
        self._is_deaf = False
        """Whether what comes is of no account: the peer has closed, or broken the protocol."""
        self._is_turn_due = False
        self._is_app_busy = False
        """Whether the app has a message to see to; a close frame behind it waits, so that the answer goes out."""
        self.heard_at = self.loop.time()
        self._idle = Pace(IDLE_BURST, IDLE_BURST / IDLE_PER_SECOND * 1000)

    # What the app calls

    def write_raw(self, frames: bytes) -> None:
        """See RawSocket."""
        if self._is_direct:
            self.transport.write(frames)
        elif self._is_open:
            self._queue(frames)

    def close_raw(self, disconnect: Disconnect) -> None:
        """See RawSocket."""
        if not self._is_open:
            return
        self._write_backlog()
        self._is_direct = False
        self.close_sent = True
        self.queue.put_nowait({"type": "websocket.disconnect", "code": disconnect.code, "reason": disconnect.reason})
        self.conn.send_close(disconnect.code, disconnect.reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        seconds = IMPATIENT_SECONDS if disconnect.reason == SLOW.reason else self.close_timeout
        self.close_timer = self.loop.call_later(seconds, self.transport.abort)
        self._read()

    @property
    def _is_open(self) -> bool:
        return not (self.close_sent or self.disconnected or self.transport.is_closing())

    def _queue(self, frames: bytes) -> None:
        self._backlog.append(frames)
        self._backlog_size += len(frames)
        if self._backlog_size > MAX_QUEUED and len(self._backlog) > 1:
            self._drop_backlog()
            self.on_overflow()

    def _drop_backlog(self) -> None:
        self._backlog = []
        self._backlog_size = 0
        self._pong = b""

    def _write_backlog(self) -> None:
        waiting = self._pong + b"".join(self._backlog)
        self._drop_backlog()
        if waiting:
            self.transport.write(waiting)

    # What comes from the client

    def data_received(self, data: bytes) -> None:
        """The handshake, in one piece, then frames; those that come before it is answered wait."""
        if not self.handshake_initiated:
            super().data_received(data)
            self._answer_unreadable()
        elif not (self._is_deaf or self.disconnected):
            self.heard_at = self.loop.time()
            self._reader.feed(data)
            self._read()

    def _answer_unreadable(self) -> None:
        """Uvicorn knows nothing of a handshake that websockets did not understand."""
        if self.conn.handshake_exc is None or self.handshake_initiated:
            return
        answer = b"".join(self.conn.data_to_send())
        self._refuse(answer or self.conn.reject(400, "the request is not understood\n").serialize())

    def _refuse(self, answer: bytes) -> None:
        """Ends a handshake of which the app learns nothing."""
        self.handshake_initiated = self.handshake_complete = True
        self._say_last(answer)

    def _read(self) -> None:
        if not self._is_turn_due:
            self._take_turn()

    def _take_turn(self) -> None:
        """Reads frames until the app has a message to take, or others have their turn."""
        self._is_turn_due = False
        try:
            for _ in range(FRAMES_PER_TURN):
                if self._is_deaf or self.disconnected:
                    return
                if not self.handshake_complete or (self._is_app_busy and not self.close_sent):
                    self._pause_reading()
                    return
                event = self._reader.next()
                if event is None:
                    self._resume_reading()
                    return
                self._handle(event)
        except Violation as violation:
            self._fail(violation)
            return
        self._pause_reading()
        self._is_turn_due = True
        self.loop.call_soon(self._take_turn)

    def _handle(self, event: Event) -> None:
        match event:
            case Closed():
                self._closed(event)
            case _ if self.close_sent:
                pass  # only the peer's close frame counts now
            case Received():
                self._is_app_busy = True
                self.queue.put_nowait(_received(event.content))
            case Pinged():
                self._count_idle()
                self._answer(event.payload)
            case Idle():
                self._count_idle()

    def _pause_reading(self) -> None:
        if not (self.read_paused or self.transport.is_closing()):
            self.read_paused = True
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if self.read_paused and not self.transport.is_closing():
            self.read_paused = False
            self.transport.resume_reading()

    def _count_idle(self) -> None:
        """Raises Violation for a flood."""
        if not self._idle.take(self.loop.time()):
            raise Violation(incoming.POLICY_VIOLATION, "too many frames without content")

    def _answer(self, payload: bytes) -> None:
        pong = incoming.pong(payload)
        if self._is_direct:
            self.transport.write(pong)
        elif self._is_open:
            self._pong = pong

    def _closed(self, event: Closed) -> None:
        """Answers the peer's close frame, or takes it as the answer to ours; nothing may follow (RFC 6455, 5.5.1)."""
        if self.close_sent:
            self._is_deaf = True
            self.transport.close()
        else:
            self.conn.send_close(event.code, event.reason)
            self._end(incoming.NO_STATUS if event.code is None else event.code, event.reason)
            if not self.transport.can_write_eof():
                # The peer waits for the end of the connection (7.1.1), which TLS cannot tell it in one direction.
                self.transport.close()

    def _fail(self, violation: Violation) -> None:
        """RFC 6455, 7.1.7."""
        if self.close_sent:
            self._is_deaf = True
            self.transport.close()
        else:
            self.conn.fail(violation.code, violation.reason)
            self._end(violation.code, violation.reason)

    def _end(self, code: int, reason: str) -> None:
        """Sends the close frame, and waits a little for the peer to go; the app learns that it is over."""
        self._drop_backlog()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self._say_last(b"".join(self.conn.data_to_send()))

    def _say_last(self, data: bytes) -> None:
        self._is_direct = False
        self.close_sent = self._is_deaf = True
        if self.transport.is_closing():
            return
        self.transport.write(data)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._resume_reading()
        self.close_timer = self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    # What uvicorn and the transport call

    def handle_connect(self, event: Request) -> None:
        """Offers the extension to the app, which runs from the next turn of the loop on."""
        refused = refusal(event.headers.raw_items())
        if refused is not None:
            response = self.conn.reject(refused.status, refused.reason)
            response.headers.update(refused.headers)
            self._refuse(response.serialize())
            return
        super().handle_connect(event)
        if not self.handshake_complete:
            self.scope["extensions"] = {**(self.scope["extensions"] or {}), EXTENSION: {"socket": self}}

    async def receive(self) -> ASGIReceiveEvent:
        """The app's next message. Who asks for one is done with those before, and what came behind them is read."""
        if self._is_app_busy and self.queue.empty():
            self._is_app_busy = False
            self._read()
        return await self.queue.get()

    async def send(self, message: ASGISendEvent) -> None:
        """Before uvicorn's first answer, takes the query out of the scope that uvicorn logs; the app has its own.

        Raises ClientDisconnected, an OSError, once the connection is over.
        """
        if self._is_deaf:
            raise ClientDisconnected
        if self.scope["query_string"] or EXTENSION in (self.scope["extensions"] or {}):
            self.scope = {**self.scope, "query_string": b"", "extensions": {}}
        await super().send(message)
        # A handshake that was answered with a status is complete as well; uvicorn would log it as an error of the app.
        self.handshake_complete = self.handshake_complete or self.close_sent
        if self.read_paused or self.close_sent:
            self._read()

    def pause_writing(self) -> None:
        """The transport's buffer is full: frames wait here, where their bytes are shared with other clients."""
        super().pause_writing()
        self._is_direct = False

    def resume_writing(self) -> None:
        """The transport's buffer is nearly empty."""
        super().resume_writing()
        if self._is_open:
            self._is_direct = True
            # This may fill the buffer, and so pause again.
            self._write_backlog()

    async def run_asgi(self) -> None:
        """When the app has returned, uvicorn closes the transport, which waits until its buffer is read."""
        await super().run_asgi()
        if self._abort_timer is None:
            self._abort_later(self.close_timeout)

    def shutdown(self) -> None:
        """The server stops."""
        self._is_direct = False
        self._is_deaf = True
        super().shutdown()
        self._abort_later(IMPATIENT_SECONDS)

    def _abort_later(self, seconds: float) -> None:
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        if not self.disconnected:
            self._abort_timer = self.loop.call_later(seconds, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone; what waited for it goes with it."""
        self._is_direct = False
        self._drop_backlog()
        self.on_overflow = _ignore
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        super().connection_lost(exc)


def _received(content: str | bytes) -> ASGIReceiveEvent:
    if isinstance(content, str):
        return {"type": "websocket.receive", "text": content}
    return {"type": "websocket.receive", "bytes": content}


def _ignore() -> None:
    """The app has not said yet what is to be done."""


UVICORN_OPTIONS: dict[str, Any] = {
    "ws": RawWebSocket,
    "ws_max_size": MAX_MESSAGE,
    "ws_per_message_deflate": False,
    "ws_ping_interval": None,
    "ws_ping_timeout": None,
}
"""What `uvicorn.Config` is to be given for this; the class alone works as well."""
