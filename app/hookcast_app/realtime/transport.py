"""How one WebSocket is written to: the raw way where the server offers it, else ASGI's `send`.

Both behave the same: `write` takes what the hub has encoded in `encoding`, `reply` one line of the protocol, `close`
ends the connection; none of them waits or raises. `receive` gives `websocket.disconnect` once it has ended.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any, Protocol

from hookcast_app.realtime.framing import Encoding, frame
from hookcast_app.realtime.outbox import Outbox
from hookcast_app.realtime.protocol import SLOW, Disconnect
from hookcast_app.realtime.writing import RawSocket

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

CLOSE_SECONDS = 1.0
"""How long a peer that does not read may hold up its own close."""


class Transport(Protocol):
    """One accepted WebSocket."""

    name: str
    """One of stats.TRANSPORTS."""
    encoding: Encoding

    @property
    def write(self) -> Callable[[bytes], None]:
        """Sends or queues what the hub encoded."""
        ...

    def reply(self, line: bytes) -> None:
        """Sends one line of the protocol, after all that was written before."""
        ...

    def close(self, disconnect: Disconnect) -> None:
        """Ends the connection with a code; the first call counts."""
        ...

    def receive(self) -> Awaitable[Message]:
        """The next ASGI message."""
        ...

    async def aclose(self) -> None:
        """Waits, for a bounded time, until everything is sent; the connection is over."""
        ...


class RawTransport:
    """Writes frames through the server's raw socket."""

    __slots__ = ("_on_slow", "_socket", "receive", "write")

    name = "websocket"
    encoding = Encoding.FRAMES
    slow = SLOW
    """What a client is told that does not read."""

    def __init__(self, socket: RawSocket, receive: Receive, on_slow: Callable[[], None]) -> None:
        self.write = socket.write_raw
        self.receive = receive
        self._socket = socket
        self._on_slow = on_slow
        socket.on_overflow = self._overflowed

    def _overflowed(self) -> None:
        self._on_slow()
        self.close(self.slow)

    def reply(self, line: bytes) -> None:
        """See Transport."""
        self._socket.write_soon(frame(line))

    def close(self, disconnect: Disconnect) -> None:
        """See Transport."""
        self._socket.close_raw(disconnect)

    async def aclose(self) -> None:
        """The server sends what is left."""


class AsgiTransport:
    """Sends lines as text messages from a task of its own, so that the hub never waits.

    Must be made in a running loop; `aclose` ends its task.
    """

    name = "websocket"
    encoding = Encoding.LINES
    slow = SLOW
    """What a client is told that does not read."""

    def __init__(self, send: Send, receive: Receive, on_slow: Callable[[], None]) -> None:
        self._send = send
        self._receive = receive
        self._on_slow = on_slow
        self._outbox = Outbox(self._overflowed)
        self.write = self._outbox.write
        self._disconnect: Disconnect | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._is_over = asyncio.Event()
        self._pump = asyncio.create_task(self._run(), name="realtime-send")

    def reply(self, line: bytes) -> None:
        """See Transport."""
        self._outbox.write(line + b"\n")

    def close(self, disconnect: Disconnect) -> None:
        """See Transport."""
        if self._disconnect is None:
            self._disconnect = disconnect
            self._outbox.close()
            # The task may be waiting for this very client to read.
            self._deadline = asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._pump.cancel)

    def _overflowed(self) -> None:
        self._on_slow()
        self.close(self.slow)

    async def _run(self) -> None:
        try:
            while frames := await self._outbox.take():
                await self._deliver(frames)
        except OSError:
            # The peer is gone; `receive` says so too.
            self._outbox.close()
        finally:
            self._is_over.set()

    async def _deliver(self, frames: bytes) -> None:
        await self._send({"type": "websocket.send", "text": frames[:-1].decode()})

    async def receive(self) -> Message:
        """See Transport."""
        incoming = asyncio.ensure_future(self._receive())
        over = asyncio.ensure_future(self._is_over.wait())
        await asyncio.wait({incoming, over}, return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        if incoming.done():
            return incoming.result()
        incoming.cancel()
        return {"type": "websocket.disconnect"}

    async def aclose(self) -> None:
        """See Transport. Raises what the task of sending died of, if that was not the peer's going away."""
        self._outbox.close()
        try:
            await asyncio.wait({self._pump}, timeout=CLOSE_SECONDS)
        finally:
            self._pump.cancel()
            if self._deadline is not None:
                self._deadline.cancel()
        if self._disconnect is not None:
            await self._send_close(self._disconnect)
        if self._pump.done() and not self._pump.cancelled():
            self._pump.result()

    async def _send_close(self, disconnect: Disconnect) -> None:
        message = {"type": "websocket.close", "code": disconnect.code, "reason": disconnect.reason}
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._send(message)
