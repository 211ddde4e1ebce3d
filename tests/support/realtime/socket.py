"""The client's side of a WebSocket, no more than a test needs: a server's frames are not fragmented, nor masked."""

import asyncio
from collections.abc import AsyncIterator, Iterator

from tests.support.websocket import CLOSE, TEXT, frame, handshake

_REQUEST = handshake(line="GET /connection/websocket HTTP/1.1")


class Socket:
    """One connection; `code` is that of the server's close frame, once there was one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.code: int | None = None
        self._reader = reader
        self._writer = writer

    async def shake_hands(self) -> None:
        """Raises OSError, or EOFError if the server does not accept it."""
        self._writer.write(_REQUEST)
        head = await self._reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101 "):
            raise EOFError(head)

    def send(self, message: bytes) -> None:
        """Sends one message; one that the server does not take is lost."""
        if not self._writer.is_closing():
            self._writer.write(frame(TEXT, message))

    def cut(self) -> None:
        """Ends the connection without a word."""
        self._writer.transport.abort()

    async def messages(self) -> AsyncIterator[bytes]:
        """What comes, until the connection ends. Raises OSError, or EOFError if it ends without a close frame."""
        buffer = bytearray()
        while data := await self._reader.read(65_536):
            buffer += data
            for opcode, payload in _frames(buffer):
                if opcode == CLOSE:
                    self.code = int.from_bytes(payload[:2])
                    return
                yield payload
        raise EOFError


async def opened(port: int) -> Socket:
    """A connection on which the server has accepted the handshake. Raises OSError, or EOFError if it has not."""
    socket = Socket(*await asyncio.open_connection("127.0.0.1", port))
    try:
        await socket.shake_hands()
    except BaseException:
        socket.cut()
        raise
    return socket


def _frames(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    """Takes what is whole out of the buffer: opcode and payload of each frame (RFC 6455, 5.2)."""
    start = 0
    while len(buffer) >= start + 2:
        size, at = buffer[start + 1], start + 2
        if size > 125:
            width = 2 if size == 126 else 8
            if len(buffer) < at + width:
                break
            size, at = int.from_bytes(buffer[at : at + width]), at + width
        if len(buffer) < at + size:
            break
        yield buffer[start] & 0x0F, bytes(buffer[at : at + size])
        start = at + size
    del buffer[:start]
