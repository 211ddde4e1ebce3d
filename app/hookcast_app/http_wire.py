"""uvicorn's HTTP protocol with bounds on what a client may send before there is a request.

uvicorn on httptools takes a header line of any length (10 MB were accepted, as was a head that never ended) and waits
for ever for the first request. It relies on undocumented parts of uvicorn 0.54: `test_server.py` says which.
"""

from asyncio import Transport

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

MAX_HEAD_BYTES = 65_536
"""Request line and headers; chunk framing and trailers count alike. One read of the loop (256 KiB) may be on top."""
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


class HttpWire(HttpToolsProtocol):
    """One connection. Refuses an endless head with 431 (RFC 6585, 5) and a slow one with 408 (RFC 9110, 15.5.9)."""

    server_state: HttpServerState
    _unparsed = 0

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """For asyncio."""
        super().connection_made(transport)
        self.server_state.waiting[self] = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        """For asyncio."""
        self.server_state.waiting.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """For asyncio."""
        self._unparsed += len(data)
        super().data_received(data)
        if not self._is_answering():
            self.server_state.waiting.setdefault(self, self.loop.time())
        if self._unparsed > MAX_HEAD_BYTES:
            self.refuse(b"431 Request Header Fields Too Large", b"the request's headers are larger than 64 KiB")

    def on_headers_complete(self) -> None:
        """For httptools: a request begins, or an upgrade."""
        self._unparsed = 0
        self.server_state.waiting.pop(self, None)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """For httptools: what is body is bounded by whoever reads it."""
        self._unparsed = 0
        super().on_body(body)

    def handle_websocket_upgrade(self) -> None:
        """The WebSocket protocol takes over the transport."""
        self._unparsed = 0
        super().handle_websocket_upgrade()

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
