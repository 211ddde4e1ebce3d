"""One connection of the outgoing client: at most one request on it, and a deadline for its answer."""

import asyncio
import ssl
from collections.abc import Callable
from typing import cast

from hookcast_app.outgoing.answer import AttemptFailed
from hookcast_app.outgoing.response import HEAD_BYTES, InvalidResponse, ResponseReader
from hookcast_app.outgoing.tls import describe
from hookcast_core.errors import Reason


class Connection(asyncio.Protocol):
    """Lives from the TCP connection to its end; owned by a pool, used by one request at a time.

    `on_lost` is called once, with the connection, if the other side ends it while no request is on it. Times are the
    loop's, in seconds.
    """

    __slots__ = (
        "_deadline",
        "_loop",
        "_on_lost",
        "_timer",
        "_transport",
        "_waiter",
        "answered",
        "idle_since",
        "is_open",
        "is_stale",
        "opened_at",
        "reader",
        "received",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, on_lost: "Callable[[Connection], None]") -> None:
        self._loop = loop
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0
        self.reader = ResponseReader()
        self.opened_at = loop.time()
        self.idle_since = self.opened_at
        self.is_open = True
        self.answered = 0
        self.received = False
        self.is_stale = False
        """Whether the other side ended a kept connection before any byte of an answer (RFC 9112, section 9.3.1)."""

    @property
    def transport(self) -> asyncio.Transport | None:
        """What the bytes go through; None before the connection is made and after its end."""
        return self._transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the TCP transport."""
        self._transport = cast("asyncio.Transport", transport)

    def secured(self, transport: asyncio.Transport) -> None:
        """Go on through TLS."""
        self._transport = transport

    def exchange(self, request: bytes, deadline: float, kept: int = HEAD_BYTES) -> asyncio.Future[None]:
        """Send a request; done when `reader` has the answer and `kept` bytes of its body, or failed with AttemptFailed.

        No other request may be on the connection. One timer serves all requests of a connection: a next one on time
        costs no new timer, only a later deadline.
        """
        waiter = self._waiter = self._loop.create_future()
        self.received = False
        self._deadline = deadline
        if self._transport is None:
            self.is_stale = self.answered > 0
            self._fail(Reason.CONNECTION_LOST, "closed before the request")
            return waiter
        self.reader.begin(kept)
        self._transport.write(request)
        if self._timer is None or self._timer.when() > deadline:
            self._set_timer()
        return waiter

    def abort(self) -> None:
        """Close at once; a request that is on it fails."""
        self._end(Reason.CONNECTION_LOST, "closed by us")

    def data_received(self, data: bytes) -> None:
        """Read the answer. Bytes that nobody asked for end the connection: the next answer could not be told apart."""
        self.received = True
        if self._waiter is None:
            self._end_idle()
            return
        try:
            complete = self.reader.feed(data)
        except InvalidResponse as error:
            self._end(Reason.INVALID_RESPONSE, str(error))
            return
        if complete:
            self._succeed()

    def eof_received(self) -> None:
        """Take the end of what the other side sends, which ends some answers and every connection."""
        if self._waiter is not None and self.reader.end():
            self._succeed()
        self.connection_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request that is on the connection, or tell the pool."""
        if self._waiter is None:
            self._end_idle()
        elif isinstance(exc, ssl.SSLError):
            # In TLS 1.3 a server refuses the client's certificate only after the handshake.
            self._end(Reason.TLS_FAILED, describe(exc))
        else:
            self.is_stale = self.answered > 0 and not self.received
            self._end(Reason.CONNECTION_LOST, "closed in mid-answer" if self.received else "closed before an answer")

    def _succeed(self) -> None:
        waiter, self._waiter = self._waiter, None
        self.answered += 1
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _fail(self, reason: Reason, detail: str) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(AttemptFailed(reason, detail))

    def _end(self, reason: Reason, detail: str) -> None:
        self._close()
        self._fail(reason, detail)

    def _end_idle(self) -> None:
        was_open = self.is_open
        self._close()
        if was_open:
            self._on_lost(self)

    def _close(self) -> None:
        if not self.is_open:
            return
        self.is_open = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # Aborted, not closed: TLS would wait for the other side's farewell, and a write for its reading.
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
        self.reader.close()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._waiter is None:
            return
        if self._loop.time() < self._deadline:
            self._set_timer()
        else:
            self._end(Reason.RESPONSE_TIMEOUT, "no complete answer in time")
