"""One WebSocket on its connection (RFC 6455), for an ASGI app, with a raw write: uvicorn's `ws` is RawWebSocket.

HttpWire hands the connection over with the request that it has read. Of uvicorn's undocumented parts this relies on
`ServerState` (`connections`, `tasks`, `default_headers`) and on `Server`, which calls `shutdown` of each connection
and waits for the tasks.

There is no compression (a compressed frame cannot be shared), messages have at most 64 KiB, nothing is pinged (the
protocols above have pings of their own), nothing is logged of what is accepted (a query may hold a token), and nobody
waits for ever on a peer that does not read. `incoming` reads what a client sends, as fast as the app takes it.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

from starlette.types import ASGIApp, Message, Scope
from uvicorn.server import ServerState

from hookcast_app.http_wire import HttpWire, Upgraded
from hookcast_app.realtime import incoming
from hookcast_app.realtime.framing import frame_of
from hookcast_app.realtime.handshake import Refusal, accepted, opening, refused
from hookcast_app.realtime.incoming import Closed, Event, FrameReader, Idle, Pinged, Received, Violation
from hookcast_app.realtime.protocol import MAX_MESSAGE, SLOW, Disconnect
from hookcast_app.realtime.writing import EXTENSION, FrameWriter
from hookcast_core.pace import Pace

CLOSE_SECONDS = 10.0
"""How long a peer may take to read what was sent, and to answer a close frame behind it."""
IMPATIENT_SECONDS = 0.8
"""The same for one that was too slow already, or when the server stops (which waits 1 s)."""
LINGER_SECONDS = 1.0
"""How long the peer may take to go once both sides know of the end.

Closing at once would make the kernel answer what the peer still sends with a reset, at which the peer forgets a close
frame that it has not read yet: it would not learn why, and come back.
"""
FRAMES_PER_TURN = 100
"""Frames of one client that are read before others have their turn; a fraction of a millisecond."""
IDLE_BURST, IDLE_PER_SECOND = 100, 10.0
"""Frames that bring nothing (pings, pongs, fragments without content): so many at once, and so many a second."""
_RETURNED, _FAILED, _STOPPING = Disconnect(1000, ""), Disconnect(1011, ""), Disconnect(1012, "")
"""Why a connection ends without a word of the app: RFC 6455, 7.4.1, and for 1012 its registry."""

_log = logging.getLogger(__name__)


class ClientGone(OSError):  # noqa: N818  it is what happened
    """What `send` raises once the connection is over (ASGI, "Send - send event")."""


class RawWebSocket(FrameWriter, Upgraded):
    """One WebSocket; see RawSocket for what the app sees of it. Lives from its request to the connection's end."""

    def __init__(self, state: ServerState, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self._state = state
        self._accept = b""
        """What proves that the handshake was understood."""
        self._is_accepted = False
        self._response: tuple[int, Iterable[tuple[bytes, bytes]], bytes] | None = None
        """What the app refuses the handshake with, until that is whole."""
        self.heard_at = self._loop.time()
        self._reader = FrameReader(MAX_MESSAGE)
        self._is_deaf = False
        """Whether what comes is of no account: the peer has closed, or broken the protocol, or is gone."""
        self._is_reading_paused = False
        self._is_turn_due = False
        self._is_app_busy = False
        """Whether the app has a message to see to; a close frame behind it waits, so that the answer goes out."""
        self._idle: Pace | None = None
        self._inbox: list[Message] = []
        """What the app has not received."""
        self._waiting: asyncio.Future[None] | None = None
        """The app's wait for something to receive."""
        self._abort_timer: asyncio.TimerHandle | None = None

    # The handshake

    def begin(self, app: ASGIApp, scope: Scope) -> None:
        """Refuses the handshake, or offers the extension to the app, which runs from the next turn of the loop on."""
        self._state.connections.add(self)  # type: ignore[arg-type]  # uvicorn names its own classes
        found = opening(scope["raw_path"] + scope["query_string"], scope["headers"])
        if isinstance(found, Refusal):
            self._refuse(found.status, found.headers, found.reason)
            return
        self._accept = found.accept
        scope["subprotocols"] = found.subprotocols
        scope["extensions"] = {"websocket.http.response": {}, EXTENSION: {"socket": self}}
        self._inbox.append({"type": "websocket.connect"})
        task = self._loop.create_task(self._run(app, scope), name="websocket")
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)

    def _refuse(self, status: int, headers: Iterable[tuple[bytes, bytes]] = (), body: bytes = b"") -> None:
        self._say_last(refused(status, (*self._state.default_headers, *headers), body))

    async def _run(self, app: ASGIApp, scope: Scope) -> None:
        end = _RETURNED
        try:
            await app(scope, self.receive, self.send)
        except ClientGone:
            pass  # `receive` says so as well
        except Exception:  # noqa: BLE001  whatever the app raises, its client and the log are told
            _log.exception("the app failed on a WebSocket")
            end = _FAILED
        finally:
            if self._is_accepted:
                self.close_raw(end)
            elif self._is_open:
                self._refuse(500)

    # What the app calls

    async def receive(self) -> Message:
        """The app's next message. Who asks for one is done with those before, and what came behind them is read."""
        if self._is_app_busy and not self._inbox:
            self._is_app_busy = False
            self._read()
        while not self._inbox:
            self._waiting = self._loop.create_future()
            await self._waiting
        return self._inbox.pop(0)

    async def send(self, message: Message) -> None:
        """Waits while the transport is full. Raises ClientGone once the connection is over."""
        await self._has_room()
        if not self._is_open:
            raise ClientGone
        match message["type"]:
            case "websocket.send" if self._is_accepted:
                text = message.get("text")
                self.write_raw(frame_of(message["bytes"] if text is None else text))
            case "websocket.close" if self._is_accepted:
                self.close_raw(Disconnect(message.get("code", _RETURNED.code), message.get("reason") or ""))
            case "websocket.close":
                self._refuse(403)
            case "websocket.accept" if not self._is_accepted:
                self._accepts(message)
            case "websocket.http.response.start" if not self._is_accepted:
                self._response = message["status"], message.get("headers", ()), b""
            case "websocket.http.response.body" if self._response is not None:
                self._responds(message, *self._response)
            case other:
                raise RuntimeError(f"{other} is not expected now")

    def close_raw(self, disconnect: Disconnect) -> None:
        """See RawSocket."""
        if self._is_open:
            self._tell_end(disconnect.code, disconnect.reason)
            self._write_last(incoming.close(disconnect.code, disconnect.reason))
            self._abort_in(IMPATIENT_SECONDS if disconnect.reason == SLOW.reason else CLOSE_SECONDS)
            self._read()

    @property
    def _is_open(self) -> bool:
        return not (self._is_ended or self._transport.is_closing())

    def _accepts(self, message: Message) -> None:
        self._is_accepted = True
        headers = (*self._state.default_headers, *message.get("headers", ()))
        self._transport.write(accepted(self._accept, message.get("subprotocol"), headers))
        self._read()

    def _responds(self, message: Message, status: int, headers: Iterable[tuple[bytes, bytes]], before: bytes) -> None:
        body = before + message.get("body", b"")
        self._response = status, headers, body
        if not message.get("more_body", False):
            self._refuse(status, headers, body)

    def _put(self, message: Message) -> None:
        """For the app to receive."""
        self._inbox.append(message)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    # What comes from the client

    def data_received(self, data: bytes) -> None:
        """Frames; those that come before the handshake is answered wait."""
        if not self._is_deaf:
            self.heard_at = self._loop.time()
            self._reader.feed(data)
            self._read()

    def _read(self) -> None:
        if not self._is_turn_due and (self._reader.has_more or self._is_reading_paused):
            self._take_turn()

    def _take_turn(self) -> None:
        """Reads frames until the app has a message to take, or others have their turn."""
        self._is_turn_due = False
        try:
            for _ in range(FRAMES_PER_TURN):
                if self._is_deaf:
                    return
                if not self._is_accepted or (self._is_app_busy and not self._is_ended):
                    if self._reader.has_more:
                        self._pause_reading()
                    return
                event = self._reader.next()
                if event is None:
                    self._resume_reading()
                    return
                self._handle(event)
        except Violation as violation:
            self._end(violation.code, violation.reason)
            return
        self._pause_reading()
        self._is_turn_due = True
        self._loop.call_soon(self._take_turn)

    def _handle(self, event: Event) -> None:
        match event:
            case Closed():
                self._closed(event)
            case _ if self._is_ended:
                pass  # only the peer's close frame counts now
            case Received():
                self._is_app_busy = True
                self._put(_received(event.content))
            case Pinged():
                self._count_idle()
                self._write_pong(incoming.pong(event.payload))
            case Idle():
                self._count_idle()

    def _pause_reading(self) -> None:
        if not (self._is_reading_paused or self._transport.is_closing()):
            self._is_reading_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._is_reading_paused and not self._transport.is_closing():
            self._is_reading_paused = False
            self._transport.resume_reading()

    def _count_idle(self) -> None:
        """Raises Violation for a flood."""
        if self._idle is None:
            self._idle = Pace(IDLE_BURST, IDLE_BURST / IDLE_PER_SECOND * 1000)
        if not self._idle.take(self._loop.time()):
            raise Violation(incoming.POLICY_VIOLATION, "too many frames without content")

    # The end

    def _closed(self, event: Closed) -> None:
        """Answers the peer's close frame, or takes it as the answer to ours; nothing may follow (RFC 6455, 5.5.1)."""
        self._end(event.code, event.reason)
        if not self._transport.can_write_eof():
            # The peer waits for the end of the connection (7.1.1), which TLS cannot tell it in one direction.
            self._transport.close()

    def _end(self, code: int | None, reason: str) -> None:
        """Ends the connection as the peer wants, or for what it did (RFC 6455, 7.1.7); the app learns that it is over.

        Where the peer does not read, what waits for it is dropped.
        """
        if self._is_ended:
            self._is_deaf = True
            self._transport.close()
            return
        if self._is_full:
            self._drop_backlog()
        self._tell_end(incoming.NO_STATUS if code is None else code, reason)
        self._say_last(incoming.close(code, reason))

    def _tell_end(self, code: int, reason: str) -> None:
        self._put({"type": "websocket.disconnect", "code": code, "reason": reason})

    def _say_last(self, data: bytes) -> None:
        """Writes `data`, and waits a little for the peer to go."""
        self._is_deaf = True
        if self._transport.is_closing():
            self._close_writer()
            return
        self._write_last(data)
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._resume_reading()
        self._abort_in(LINGER_SECONDS)

    def _abort_in(self, seconds: float) -> None:
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        self._abort_timer = self._loop.call_later(seconds, self._transport.abort)

    def shutdown(self) -> None:
        """The server stops."""
        if self._is_accepted:
            self.close_raw(_STOPPING)
        elif self._is_open:
            self._refuse(503)
        self._is_deaf = True
        self._transport.close()
        self._abort_in(IMPATIENT_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, and the app learns that, if not before."""
        super().connection_lost(exc)
        self._is_deaf = True
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        self._state.connections.discard(self)
        self._tell_end(incoming.NO_CLOSE_FRAME, "")


def _received(content: str | bytes) -> Message:
    if isinstance(content, str):
        return {"type": "websocket.receive", "text": content}
    return {"type": "websocket.receive", "bytes": content}


UVICORN_OPTIONS: dict[str, Any] = {"http": HttpWire, "ws": RawWebSocket}
"""What `uvicorn.Config` is to be given for this; the server's state has to be an HttpServerState."""
