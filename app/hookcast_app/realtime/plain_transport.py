"""How a WebSocket of typed messages is written to; see transport, which this differs from in what the messages are."""

import asyncio
from typing import Protocol

from hookcast_app.realtime.framing import PING_FRAME, Encoding, frame, messages_of
from hookcast_app.realtime.plain_protocol import SLOW
from hookcast_app.realtime.transport import AsgiTransport, RawTransport, Transport


class PlainTransport(Transport, Protocol):
    """One accepted WebSocket, whose client is asked for a sign of life by the protocol of WebSockets itself."""

    def ping(self) -> None:
        """Asks for one."""
        ...

    def was_heard_since(self, moment: float) -> bool:
        """Whether there was one since then, by the loop's clock."""
        ...


class RawPlainTransport(RawTransport):
    """Writes frames through the server's raw socket."""

    name = "plain"
    encoding = Encoding.TYPED_FRAMES
    slow = SLOW

    def ping(self) -> None:
        """See PlainTransport."""
        self.write(PING_FRAME)

    def was_heard_since(self, moment: float) -> bool:
        """See PlainTransport."""
        return self._socket.heard_at >= moment


class AsgiPlainTransport(AsgiTransport):
    """Takes the frames apart again, since the server makes its own; whether a client lives is the server's business."""

    name = "plain"
    encoding = Encoding.TYPED_FRAMES
    slow = SLOW

    def reply(self, line: bytes) -> None:
        """See Transport."""
        self.write(frame(line))

    async def _deliver(self, frames: bytes) -> None:
        for content in messages_of(frames):
            kind = "text" if isinstance(content, str) else "bytes"
            await self._send({"type": "websocket.send", kind: content})
            # A server that only buffers would not let others have their turn.
            await asyncio.sleep(0)

    def ping(self) -> None:
        """See PlainTransport."""

    def was_heard_since(self, moment: float) -> bool:  # noqa: ARG002  ASGI tells nothing of pongs
        """See PlainTransport."""
        return True
