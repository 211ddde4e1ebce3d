"""What stands between clients and servers in the field: connections that are cut, and WebSockets that are blocked."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class Proxy:
    """Passes bytes on to a server until it is told otherwise."""

    def __init__(self, host: str, port: int) -> None:
        self.url = ""
        self.blocks_websockets = False
        self._to = host, port
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Ends every connection without a word."""
        for writer in self._writers:
            writer.transport.abort()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if self.blocks_websockets and b"upgrade: websocket" in head.lower():
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            return
        upstream, up = await asyncio.open_connection(*self._to)
        self._writers |= {writer, up}
        try:
            up.write(head)
            await asyncio.gather(_pass(reader, up), _pass(upstream, writer))
        finally:
            up.transport.abort()
            self._writers -= {writer, up}

    async def close(self) -> None:
        """Ends whatever is still passed on."""
        self.cut()
        if self._tasks:
            await asyncio.wait(self._tasks)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.transport.abort()


@asynccontextmanager
async def proxied(url: str) -> AsyncIterator[Proxy]:
    """A proxy to the server of `url`."""
    to = urlsplit(url)
    assert to.hostname is not None
    assert to.port is not None
    proxy = Proxy(to.hostname, to.port)
    listener = socket.create_server(("127.0.0.1", 0))
    proxy.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = await asyncio.start_server(proxy.accept, sock=listener)
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
