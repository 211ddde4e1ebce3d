"""A WebSocket peer that sends any bytes, and a server on our wire classes whose app sends back what it receives."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from hookcast_app.http_wire import HttpServerState
from hookcast_app.realtime import UVICORN_OPTIONS
from tests.support.app import eventually

PATIENCE = 10.0
"""Seconds that a test waits for what must come."""
CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
KEY = b"\x01\x80\xff\x5a"

Frame = tuple[int, bytes]


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, key: bytes | None = KEY, width: int = 0
) -> bytes:
    """A frame as RFC 6455, 5.2 has it; `width` is that of its length (1, 2 or 8 bytes), by default the shortest."""
    size = len(payload)
    width = width or (1 if size < 126 else 2 if size < 65_536 else 8)
    masked = 0x80 if key is not None else 0
    head = bytes([fin << 7 | rsv << 4 | opcode, masked | {1: size, 2: 126, 8: 127}[width]])
    head += size.to_bytes(width) if width > 1 else b""
    if key is None:
        return head + payload
    return head + key + bytes(byte ^ key[place % 4] for place, byte in enumerate(payload))


def close(code: int | None = 1000, reason: bytes = b"") -> bytes:
    """A close frame of a client."""
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


def fragments(opcode: int, *parts: bytes) -> list[bytes]:
    """One message in several frames."""
    last = len(parts) - 1
    return [
        frame(CONT if number else opcode, part, fin=number == last, key=bytes(4) if len(parts) > 100 else KEY)
        for number, part in enumerate(parts)
    ]


def handshake(*more: str, without: Iterable[str] = (), line: str = "GET / HTTP/1.1") -> bytes:
    """An opening handshake (RFC 6455, 4.1), with more headers, or without some."""
    headers = {
        "Host": "a",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    kept = [f"{name}: {value}" for name, value in headers.items() if name not in set(without)]
    return "\r\n".join((line, *kept, *more, "", "")).encode("latin-1")


ACCEPT = b"sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"
"""The answer to that key (RFC 6455, 1.3), in lower case."""


class Peer:
    """One connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        socket_ = writer.get_extra_info("socket")
        socket_.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def send(self, data: bytes, *, chopped: bool = False) -> None:
        """Sends bytes, one by one if `chopped`; what a server that has closed does not take is lost."""
        with suppress(ConnectionError):
            for piece in [data[at : at + 1] for at in range(len(data))] if chopped else [data]:
                self.writer.write(piece)
                await self.writer.drain()
                if chopped:
                    await asyncio.sleep(0)

    async def head(self) -> bytes:
        """The answer to a request, up to its empty line."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def rest(self) -> bytes:
        """All that comes until the server closes."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.read()

    async def next(self) -> Frame:
        """The next frame: its opcode, and its payload. Raises IncompleteReadError at the end."""
        async with asyncio.timeout(PATIENCE):
            first, second = await self.reader.readexactly(2)
            assert first & 0x80, "our server does not fragment"
            assert second < 0x80, "a server does not mask"
            size = second
            if second > 125:
                size = int.from_bytes(await self.reader.readexactly(2 if second == 126 else 8))
            return first & 0x0F, await self.reader.readexactly(size)

    async def frames(self) -> list[Frame]:
        """All frames until the server ends the connection in order."""
        seen: list[Frame] = []
        while True:
            try:
                seen.append(await self.next())
            except asyncio.IncompleteReadError as error:
                if error.partial:
                    raise
                return seen


@dataclass
class EchoServer:
    """A server that accepts every WebSocket and sends back each message."""

    uvicorn: uvicorn.Server
    port: int

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left of any connection."""
        state = self.uvicorn.server_state
        return not (state.connections or state.tasks)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Peer]:
        """A peer that has sent nothing yet."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield Peer(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Peer]:
        """A peer whose handshake was accepted."""
        async with self.connected() as peer:
            await peer.send(handshake())
            assert (await peer.head()).startswith(b"HTTP/1.1 101 ")
            yield peer


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Text comes back as text, binary as binary; a request without a WebSocket is answered 426."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 426, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        try:
            await send({**message, "type": "websocket.send"})
        except OSError:
            return


@asynccontextmanager
async def echoing(app: ASGIApp = echo) -> AsyncIterator[EchoServer]:
    """A server on the classes that the product is served with; `app` may be another one."""
    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, **UVICORN_OPTIONS)
    server = uvicorn.Server(config)
    server.server_state = HttpServerState()
    listener = socket.create_server(("127.0.0.1", 0))
    serve = asyncio.create_task(server._serve([listener]))
    await eventually(lambda: server.started or serve.done())
    echo_server = EchoServer(server, listener.getsockname()[1])
    try:
        yield echo_server
    finally:
        for accepting in server.servers:
            accepting.close()
        await eventually(lambda: echo_server.is_idle)
        serve.cancel()
        await asyncio.wait({serve})
