"""uvicorn's WebSocket protocol, with a raw write for the app: `uvicorn --ws hookcast_app.realtime.wire:RawWebSocket`.

It relies on undocumented parts of uvicorn 0.54 (`handle_connect`, `pause_writing`, `resume_writing`, `handle_close`,
`connection_lost`, `shutdown`, `run_asgi`, `send`; `transport`, `conn`, `queue`, `scope`, `close_sent`, `close_timer`,
`close_timeout`, `disconnected`, `handshake_complete`, `read_paused`). The version is pinned, and a contract test says
when one of them moves.

What it changes for every WebSocket of the server: no compression (a compressed frame cannot be shared), messages of at
most 64 KiB, no pings of uvicorn's own (the client protocol has its own), no query in the log (it may hold a token), and
no waiting for ever on a peer that does not read.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request

from hookcast_app.realtime.outbox import MAX_QUEUED
from hookcast_app.realtime.protocol import MAX_MESSAGE, SLOW, Disconnect

EXTENSION = "hookcast.raw"
"""The ASGI extension's name in `scope["extensions"]`; its `socket` is a RawSocket."""

IMPATIENT_SECONDS = 0.8
"""How long a peer may take to read its end when it was too slow already, or the server stops (which waits 1 s)."""


class RawSocket(Protocol):
    """What the extension offers, once the app has sent `websocket.accept`."""

    on_overflow: Callable[[], None]
    """Called when more than MAX_QUEUED bytes wait for the peer; they are dropped, and the app is to close."""

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
        self.conn.max_message_size = MAX_MESSAGE
        # websockets logs request lines, with their query, at DEBUG.
        self.conn.debug = False
        self.ping_interval = None
        self.on_overflow: Callable[[], None] = _ignore
        self._is_direct = True
        """Whether frames go to the transport at once: open, and not paused."""
        self._backlog: list[bytes] = []
        self._backlog_size = 0
        self._abort_timer: asyncio.TimerHandle | None = None

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
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        seconds = IMPATIENT_SECONDS if disconnect == SLOW else self.close_timeout
        self.close_timer = self.loop.call_later(seconds, self.transport.abort)

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

    def _write_backlog(self) -> None:
        waiting = b"".join(self._backlog)
        self._drop_backlog()
        if waiting:
            self.transport.write(waiting)

    # What uvicorn and the transport call

    def handle_connect(self, event: Request) -> None:
        """Offers the extension to the app, which runs from the next turn of the loop on."""
        super().handle_connect(event)
        if not self.handshake_complete:
            self.scope["extensions"] = {**(self.scope["extensions"] or {}), EXTENSION: {"socket": self}}

    async def send(self, message: ASGISendEvent) -> None:
        """Before uvicorn's first answer, takes the query out of the scope that uvicorn logs; the app has its own."""
        if self.scope["query_string"] or EXTENSION in (self.scope["extensions"] or {}):
            self.scope = {**self.scope, "query_string": b"", "extensions": {}}
        await super().send(message)
        # A handshake that was answered with a status is complete as well; uvicorn would log it as an error of the app.
        self.handshake_complete = self.handshake_complete or self.close_sent

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

    def handle_close(self, event: Frame) -> None:
        """After a close frame nothing may follow (RFC 6455, 5.5.1)."""
        self._is_direct = False
        self._drop_backlog()
        super().handle_close(event)

    def handle_parser_exception(self) -> None:
        """What came in is no WebSocket, or too big: uvicorn closes."""
        self._is_direct = False
        super().handle_parser_exception()

    async def run_asgi(self) -> None:
        """When the app has returned, uvicorn closes the transport, which waits until its buffer is read."""
        await super().run_asgi()
        if self._abort_timer is None:
            self._abort_later(self.close_timeout)

    def shutdown(self) -> None:
        """The server stops."""
        self._is_direct = False
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
