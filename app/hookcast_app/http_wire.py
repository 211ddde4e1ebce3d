"""uvicorn's HTTP protocol with bounds on what a client may send before there is a request.

uvicorn on httptools takes a header line of any length (10 MB were accepted, as was a head that never ended) and waits
for ever for the first request. It also loses the body of a request that offers an upgrade which is not taken. It relies
on undocumented parts of uvicorn 0.54: `test_server.py` says which.
"""

from abc import abstractmethod
from asyncio import Protocol, Transport
from typing import Any, cast
from urllib.parse import unquote

import httptools
from starlette.types import ASGIApp, Scope
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

MAX_HEAD_BYTES = 65_536
"""Request line and headers; chunk framing and trailers count alike. One read of the loop (256 KiB) may be on top."""
ABORT = "hookcast.abort"
"""ASGI extension: its `abort` drops the connection at once, with what waits to be sent."""
HEAD_SECONDS = 10.0
"""From the connection, or the first byte of a later request, to the end of its headers."""


class HttpServerState(ServerState):
    """Shared by all connections of the server; `waiting` says since when (loop time)."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: dict[HttpWire, float] = {}

    def close_slow_heads(self, now: float) -> int:
        """Closes connections whose head is overdue at loop time `now`; how many. Called once a second."""
        overdue = [wire for wire, since in self.waiting.items() if now - since > HEAD_SECONDS]
        for wire in overdue:
            wire.refuse(b"408 Request Timeout", b"the request's headers did not arrive in time")
        return len(overdue)


class Upgraded(Protocol):
    """A WebSocket class that takes over a connection with the request that HttpWire has read.

    Any other one, which uvicorn has, is given the request as text once more.
    """

    __slots__ = ()

    @abstractmethod
    def __init__(self, state: ServerState, transport: Transport) -> None: ...

    @abstractmethod
    def begin(self, app: ASGIApp, scope: Scope) -> None:
        """The scope lacks `subprotocols`, and what the class offers in `extensions`."""


class HttpWire(HttpToolsProtocol):
    """One connection. Refuses an endless head with 431 (RFC 6585, 5) and a slow one with 408 (RFC 9110, 15.5.9).

    Takes an upgrade to WebSocket and ignores every other (RFC 9110, 7.8): Java's and curl's clients offer h2c with any
    request, its body included.
    """

    server_state: HttpServerState
    _unparsed = 0
    _takes_upgrade = False
    """Whether the head that was read is that of a WebSocket."""
    _is_upgraded = False

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """For asyncio. Uvicorn's own makes a socket object for each address that it asks for."""
        self.connections.add(self)
        self.transport = transport
        self.flow = FlowControl(transport)
        self.server = _address(transport.get_extra_info("sockname"))
        self.client = cast("tuple[str, int] | None", _address(transport.get_extra_info("peername")))
        self.scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        self.server_state.waiting[self] = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        """For asyncio."""
        self.server_state.waiting.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """For asyncio."""
        self._unparsed += len(data)
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self.logger.warning("Invalid HTTP request received.")
            self.send_400_response("Invalid HTTP request received.")
        if not (self._is_answering() or self._is_upgraded):
            self.server_state.waiting.setdefault(self, self.loop.time())
        if self._unparsed > MAX_HEAD_BYTES:
            self.refuse(b"431 Request Header Fields Too Large", b"the request's headers are larger than 64 KiB")

    def _parse(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                if self._should_upgrade():
                    self.handle_websocket_upgrade()
                    if data:
                        # Frames that did not wait for the answer.
                        cast("Protocol", self.transport.get_protocol()).data_received(data)
                    return
                self._ignore_upgrade()
            else:
                return

    def _ignore_upgrade(self) -> None:
        """Reads the head again, without the offer: httptools takes what follows an offer for another protocol's."""
        head = [self.parser.get_method(), b" ", self.url, b" HTTP/", self.parser.get_http_version().encode(), b"\r\n"]
        for name, value in self.headers:
            if name != b"upgrade":
                head += [name, b": ", value, b"\r\n"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self.parser.feed_data(b"".join((*head, b"\r\n")))

    def _should_upgrade(self) -> bool:
        """What uvicorn asks several times of each request."""
        return self._takes_upgrade

    def _is_websocket(self) -> bool:
        """Only a GET of HTTP/1.1 becomes a WebSocket (RFC 6455, 4.1; RFC 9110, 7.8).

        One that comes before an earlier request is answered does not, for answers keep the order (RFC 9112, 9.3.2).
        """
        is_get = self.parser.get_method() == b"GET" and self.parser.get_http_version() == "1.1"
        return is_get and not self._is_answering() and super()._should_upgrade()

    def _is_offer(self) -> bool:
        """Whether what was read is a head with an upgrade that is not taken; CONNECT is uvicorn's to refuse."""
        is_ignored = self.parser.should_upgrade() and not self._takes_upgrade
        return is_ignored and self.parser.get_method() != b"CONNECT"

    def on_headers_complete(self) -> None:
        """For httptools: a request begins, or an upgrade."""
        self._unparsed = 0
        self.server_state.waiting.pop(self, None)
        self._takes_upgrade = self.parser.should_upgrade() and self._is_websocket()
        if not self._is_offer():
            # A peer that never reads would keep its connection, and what waits for it, for as long as it likes.
            self.scope["extensions"] = {ABORT: {"abort": self.transport.abort}}
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """For httptools: a request ends, or an upgrade."""
        if not self._is_offer():
            super().on_message_complete()

    def on_body(self, body: bytes) -> None:
        """For httptools: what is body is bounded by whoever reads it."""
        self._unparsed = 0
        super().on_body(body)

    def handle_websocket_upgrade(self) -> None:
        """The WebSocket protocol takes over the transport."""
        self._unparsed = 0
        if not issubclass(cast("type", self.ws_protocol_class), Upgraded):
            self._is_upgraded = True
            super().handle_websocket_upgrade()
            return
        scope = self._websocket_scope()
        self._is_upgraded = True
        self.connections.discard(self)
        wire = cast("type[Upgraded]", self.ws_protocol_class)(self.server_state, self.transport)
        self.transport.set_protocol(wire)
        wire.begin(cast("ASGIApp", self.app), scope)
        # The parser knows this object: without it both are freed at once.
        self.parser = None  # type: ignore[assignment]  # as uvicorn does at the end

    def _websocket_scope(self) -> Scope:
        """Of ASGI, from what was read of the request. Raises HttpParserError for a target that is none."""
        target = httptools.parse_url(self.url)
        path = target.path or b"/"
        scope = cast("dict[str, Any]", self.scope)
        del scope["method"]
        return scope | {
            "type": "websocket",
            "asgi": {"version": self.asgi_version, "spec_version": "2.4"},
            "scheme": "wss" if self.scheme == "https" else "ws",
            "path": self.root_path + unquote(path.decode("ascii")),
            "raw_path": self.root_path.encode("ascii") + path,
            "query_string": target.query or b"",
            "extensions": {},
        }

    def refuse(self, status: bytes, why: bytes) -> None:
        """Answers, if no answer was begun, and closes."""
        self.server_state.waiting.pop(self, None)
        self._unparsed = 0
        if self.transport.is_closing():
            return
        if not self._is_answering():
            self.transport.write(
                b"HTTP/1.1 %b\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
                % (status, len(why), why)
            )
        self.transport.close()

    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete


def _address(name: object) -> tuple[str, int | None] | None:
    """As ASGI has it, of a TCP socket's name, or of a Unix socket's."""
    if isinstance(name, tuple):
        return name[0], name[1]
    return (name, None) if isinstance(name, str) and name else None
