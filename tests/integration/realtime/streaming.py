"""Clients of the protocol over HTTP streams, and requests that are written byte by byte."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

from tests.integration.realtime.conformance.raw import Emulated, Speaker, Transport, opened
from tests.integration.realtime.conformance.target import Target
from tests.integration.realtime.server import PATIENCE, SECRET, Server

KINDS: tuple[Transport, ...] = ("sse", "http_stream")
PATHS = {kind: f"/connection/{kind}" for kind in KINDS}
CONNECT = {"id": 1, "connect": {}}
UNASKED = {"id": 9, "unsubscribe": {"channel": "nothing"}}


def target(server: Server) -> Target:
    """The server as the suite's clients want it."""

    async def disconnect(_user: str) -> None:
        raise NotImplementedError

    return Target(server.http_url, SECRET, server.realtime.publish, disconnect)


@asynccontextmanager
async def streaming(server: Server, kind: Transport, *channels: str) -> AsyncIterator[Emulated]:
    """A client that is connected as nobody, and subscribed."""
    async with opened(target(server), kind) as speaker:
        assert isinstance(speaker, Emulated)
        assert "connect" in await speaker.ask(CONNECT)
        for number, channel in enumerate(channels, 101):
            assert "subscribe" in await speaker.ask({"id": number, "subscribe": {"channel": channel}})
        yield speaker


def request(kind: Transport, *commands: Any, headers: Sequence[str] = ()) -> bytes:
    """The request that opens a stream with these commands."""
    text = "\n".join(json.dumps(command) for command in commands)
    lines = "".join(f"{line}\r\n" for line in headers)
    if kind == "sse":
        return f"GET {PATHS[kind]}?cf_connect={quote(text)} HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode()
    return f"POST {PATHS[kind]} HTTP/1.1\r\nHost: a\r\n{lines}Content-Length: {len(text)}\r\n\r\n{text}".encode()


class Peer:
    """A raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def status(self) -> int:
        """Of the answer, whose head is read."""
        async with asyncio.timeout(PATIENCE):
            return int((await self.reader.readuntil(b"\r\n\r\n")).split()[1])

    async def rest(self) -> bytes:
        """All that comes until the end."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.read()


@asynccontextmanager
async def peer(server: Server, *data: bytes) -> AsyncIterator[Peer]:
    """One that has sent `data`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        one = Peer(reader, writer)
        for part in data:
            await one.send(part)
        yield one
    finally:
        writer.transport.abort()


def is_empty(server: Server) -> bool:
    """Nothing is left of any client."""
    realtime = server.realtime
    clients, stats = realtime._clients, realtime.stats
    return (
        not clients.all
        and not clients.sessions
        and not realtime._endpoint._context.hub._channels
        and stats.connections.total() == 0
    )


__all__ = ["CONNECT", "KINDS", "PATHS", "UNASKED", "Peer", "Speaker", "is_empty", "peer", "request", "streaming"]
