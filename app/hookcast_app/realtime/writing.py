"""How frames get to one WebSocket's peer: at once, with the others of a tick, or when its transport has room again."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from hookcast_app.realtime.outbox import MAX_QUEUED
from hookcast_app.realtime.protocol import Disconnect

EXTENSION = "hookcast.raw"
"""The ASGI extension's name in `scope["extensions"]`; its `socket` is a RawSocket."""
SHARED_BYTES = 16_384
"""Answers that come to this are written before the tick ends."""


class RawSocket(Protocol):
    """What the extension offers, once the app has sent `websocket.accept`."""

    on_overflow: Callable[[], None]
    """Called when more than MAX_QUEUED bytes wait for the peer; they are dropped, and the app is to close."""

    heard_at: float
    """When anything came from the peer last, a pong too, by the loop's clock."""

    def write_raw(self, frames: bytes) -> None:
        """Sends complete server frames, or queues them while the transport is full. Never raises or blocks."""
        ...

    def write_soon(self, frames: bytes) -> None:
        """The same at the end of the loop's tick, in one piece with what else is written until then, in order."""
        ...

    def close_raw(self, disconnect: Disconnect) -> None:
        """Sends a close frame, and ends the connection whether or not the peer answers or reads.

        The app receives `websocket.disconnect`.
        """
        ...


def offered_socket(scope: Mapping[str, Any]) -> RawSocket | None:
    """What the server of an ASGI scope offers, if it is ours."""
    offer = (scope.get("extensions") or {}).get(EXTENSION)
    return None if offer is None else offer["socket"]


class FrameWriter:
    """The writing half of a WebSocket; lives as long as its connection. After `_close_writer` nothing is written."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.on_overflow: Callable[[], None] = _ignore
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._is_direct = True
        """Whether frames go to the transport at once: it is not full, nothing waits, and the end has not come."""
        self._is_full = False
        self._is_ended = False
        self._room: asyncio.Event | None = None
        """Set once the transport has room; while it is full."""
        self._backlog: list[bytes] = []
        self._backlog_size = 0
        self._pong = b""
        """The answer to the latest ping, while the transport is full (RFC 6455, 5.5.3)."""

    def write_raw(self, frames: bytes) -> None:
        """See RawSocket."""
        if self._is_direct:
            self._transport.write(frames)
        elif not self._is_ended:
            self._queue(frames)

    def write_soon(self, frames: bytes) -> None:
        """See RawSocket."""
        if self._is_direct:
            self._is_direct = False
            self._loop.call_soon(self._write_on)
        if not self._is_ended:
            self._queue(frames)

    def _write_pong(self, pong: bytes) -> None:
        if self._is_full:
            self._pong = pong
        else:
            self.write_raw(pong)

    def _write_last(self, data: bytes) -> None:
        """Writes what waits, and ends with `data`."""
        self._write_backlog()
        self._close_writer()
        self._transport.write(data)

    def _close_writer(self) -> None:
        self._is_direct = False
        self._is_ended = True
        self._drop_backlog()

    async def _has_room(self) -> None:
        """Waits while the transport is full; not after the end of the connection."""
        while self._room is not None:
            await self._room.wait()

    # What waits

    def _queue(self, frames: bytes) -> None:
        self._backlog.append(frames)
        self._backlog_size += len(frames)
        if not self._is_full:
            if self._backlog_size >= SHARED_BYTES:
                self._write_on()
        elif self._backlog_size > MAX_QUEUED and len(self._backlog) > 1:
            self._drop_backlog()
            self.on_overflow()

    def _write_on(self) -> None:
        if not (self._is_full or self._is_ended):
            self._is_direct = True
            # This may fill the buffer, and so pause again.
            self._write_backlog()

    def _write_backlog(self) -> None:
        waiting = self._pong + b"".join(self._backlog)
        self._drop_backlog()
        if waiting:
            self._transport.write(waiting)

    def _drop_backlog(self) -> None:
        self._backlog.clear()
        self._backlog_size = 0
        self._pong = b""

    # What the transport calls

    def pause_writing(self) -> None:
        """The transport's buffer is full: frames wait here, where their bytes are shared with other clients."""
        self._is_full = True
        self._is_direct = False
        self._room = asyncio.Event()

    def resume_writing(self) -> None:
        """The transport's buffer is nearly empty."""
        self._is_full = False
        if self._room is not None:
            self._room.set()
            self._room = None
        self._write_on()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  as asyncio has it
        """The connection is gone; what waited for it goes with it."""
        self._close_writer()
        self.on_overflow = _ignore
        self.resume_writing()


def _ignore() -> None:
    """The app has not said yet what is to be done."""
