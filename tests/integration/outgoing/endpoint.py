"""An HTTP endpoint on loopback that answers every request as a test says, well or badly."""

import asyncio
import contextlib
import re
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self

from hookcast_core.egress import Url, parse_url

Respond = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Called once for each request that came; the connection is closed when it raises ConnectionError."""

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Endpoint:
    """Lives as long as its `async with`; counts connections and keeps the requests as they came."""

    def __init__(
        self, respond: Respond, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self._respond = respond
        self._tls = tls
        self._host = host
        self._port = port
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server
        self.connections = 0
        self.ended = 0
        self.requests: list[bytes] = []
        self.writers: list[asyncio.StreamWriter] = []

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.sockets[0].getsockname()[1])

    def url(self, *, host: str | None = None, target: str = "/hooks") -> Url:
        """Its URL, by its address or by a name that the test resolves."""
        return parse_url(f"{'https' if self._tls else 'http'}://{host or self._host}:{self.port}{target}")

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self._host, self._port, ssl=self._tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.writers.append(writer)
        try:
            while True:
                self.requests.append(await read_request(reader))
                await self._respond(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            self.ended += 1
        except asyncio.CancelledError:
            return  # only the end of the test cancels
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """One whole request; IncompleteReadError where the client ends first."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: ([0-9]+)", head)
    return head + await reader.readexactly(int(length[1]) if length else 0)


def answer(data: bytes = OK) -> Respond:
    """Answer every request with the same bytes."""

    async def respond(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return respond


def scripted(*responds: Respond) -> Respond:
    """Answer the first request by the first, the second by the second, and so on, whatever the connection."""
    script = iter(responds)

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next(script)(reader, writer)

    return respond


def answer_and_close(data: bytes) -> Respond:
    """Answer a request and close the connection."""

    async def respond(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        writer.close()
        raise ConnectionError("closed by the test")

    return respond


def repeat(first: bytes, piece: bytes, *, pause: float = 0.0) -> Respond:
    """Answer without end, as fast as it is read or with a pause after each piece."""

    async def respond(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)

    return respond


async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Answer nothing until the client ends the connection."""
    await reader.readexactly(1)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; TimeoutError after five seconds."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


def open_files() -> int:
    """Count the process's open file descriptors, sockets among them."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
