"""Clients that do not read: what they cost, and whom."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from hookcast_app.realtime import RawWebSocket, wire
from hookcast_app.realtime.outbox import MAX_QUEUED
from hookcast_app.realtime.wire import CLOSE_SECONDS
from tests.integration.realtime.server import PATIENCE, Client, Server, client, serving, until

CLOSE = 0x88
CLOSE_SLOW = bytes((CLOSE, 6)) + (3008).to_bytes(2) + b"slow"
PUBLICATION = b'"%b"' % (b"x" * 16_384)


@asynccontextmanager
async def silent(server: Server, request: bytes, *more: bytes) -> AsyncIterator[socket.socket]:
    """A peer that has sent `request`, and `more` after its answer; its kernel takes little, and it reads no more."""
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(peer, ("127.0.0.1", server.port))
        before = server.subscribers("open:a")
        await loop.sock_sendall(peer, request)
        for message in more:
            await loop.sock_recv(peer, 4096)
            await loop.sock_sendall(peer, message)
        await until(lambda: server.subscribers("open:a") > before)
        yield peer


def masked(text: str) -> bytes:
    """A short client frame; a mask of zeros leaves the text as it is."""
    assert len(text) < 126
    return bytes((0x81, 0x80 | len(text), 0, 0, 0, 0)) + text.encode()


WEBSOCKET = (
    b"GET /connection/websocket HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
COMMANDS = json.dumps({"id": 1, "connect": {}}) + "\n" + json.dumps({"id": 2, "subscribe": {"channel": "open:a"}})


async def flood(server: Server, reader: "asyncio.Future[None]") -> int:
    """Publish until `reader` is done; how often."""
    published = 0
    async with asyncio.timeout(PATIENCE):
        while not reader.done():
            await server.realtime.publish("open:a", PUBLICATION)
            published += 1
    return published


async def closed_as_slow(server: Server) -> None:
    while server.realtime.stats.slow_closes == 0:
        await asyncio.sleep(0.001)


async def test_a_slow_websocket_is_closed_and_slows_nobody(server: Server) -> None:
    """After about 1 MiB has been queued for it; others get everything, and nothing of it is left."""
    async with client(server, "open:a") as healthy, silent(server, WEBSOCKET, masked(COMMANDS)):
        flooding = asyncio.create_task(flood(server, asyncio.create_task(closed_as_slow(server))))
        received = await received_during(flooding, healthy)

        assert received * len(PUBLICATION) > MAX_QUEUED
        await until(lambda: server.realtime.stats.connections["websocket"] == 1)
        assert server.realtime.stats.slow_closes == 1
        assert server.realtime.stats.closes == {3008: 1}
        assert server.subscribers("open:a") == 1


async def test_a_slow_event_stream_is_ended_and_slows_nobody(redis_url: str) -> None:
    """The same bound holds for server-sent events; the log says why it ended."""
    request = b"GET /sse/open:a HTTP/1.1\r\nHost: a\r\n\r\n"
    with capture_logs() as logs:
        await end_a_slow_event_stream(redis_url, request)

    why = {"reason": "the client reads too slowly", "channels": ["open:a"], "log_level": "info"}
    assert logs == [{"event": "event stream ended", **why}]


async def end_a_slow_event_stream(redis_url: str, request: bytes) -> None:
    async with serving(redis_url) as server, client(server, "open:a") as healthy, silent(server, request):
        flooding = asyncio.create_task(flood(server, asyncio.create_task(closed_as_slow(server))))
        received = await received_during(flooding, healthy)

        assert received * len(PUBLICATION) > MAX_QUEUED
        await until(lambda: server.realtime.stats.connections["sse"] == 0)
        assert server.subscribers("open:a") == 1


async def received_during(flooding: "asyncio.Task[int]", healthy: Client) -> int:
    """Read everything that is published; how much it was."""
    received = 0
    while not flooding.done() or received < flooding.result():
        assert (await healthy.next())["push"]["pub"]["data"] == json.loads(PUBLICATION)
        received += 1
    return received


async def test_a_slow_websocket_that_reads_on_is_told_why(redis_url: str) -> None:
    """It finds the close frame with 3008 behind what had been sent, at a frame's boundary."""
    async with serving(redis_url) as server, silent(server, WEBSOCKET, masked(COMMANDS)) as peer:
        await flood(server, asyncio.create_task(closed_as_slow(server)))

        data = bytearray()
        async with asyncio.timeout(PATIENCE):
            while not data.endswith(CLOSE_SLOW):
                data += await asyncio.get_running_loop().sock_recv(peer, 65_536)

    assert opcodes(bytes(data))[-1] == CLOSE
    assert len(data) < 8 * MAX_QUEUED


def opcodes(frames: bytes) -> list[int]:
    """The first byte of each frame of a server; raises if they are cut anywhere."""
    found: list[int] = []
    while frames:
        size, head = frames[1], 2
        if size >= 126:
            head = 4 if size == 126 else 10
            size = int.from_bytes(frames[2:head])
        assert len(frames) >= head + size
        found.append(frames[0])
        frames = frames[head + size :]
    return found


async def test_a_websocket_that_reads_again_in_time_gets_everything_in_order(redis_url: str) -> None:
    """What waited while the socket was full is sent when it takes more."""
    async with serving(redis_url) as server, client(server, "open:a") as reader:
        reader.connection.transport.pause_reading()
        wired = only_socket(server)
        published = 0
        async with asyncio.timeout(PATIENCE):
            while wired._backlog_size < MAX_QUEUED // 2:
                await server.realtime.publish("open:a", b'{"n":%d,"x":%b}' % (published, PUBLICATION))
                published += 1
        reader.connection.transport.resume_reading()

        assert [(await reader.next())["push"]["pub"]["data"]["n"] for _ in range(published)] == list(range(published))
        assert wired._backlog_size == 0
        assert server.realtime.stats.slow_closes == 0


def only_socket(server: Server) -> RawWebSocket:
    """The server's end of its one client."""
    [connection] = server.realtime._clients.all
    wired = connection.write.__self__  # type: ignore[attr-defined]
    assert isinstance(wired, RawWebSocket)
    return wired


async def test_a_slow_websocket_that_never_reads_is_gone_soon(redis_url: str) -> None:
    """It had its time already: a second after its close nothing is left of it."""
    async with serving(redis_url) as server, silent(server, WEBSOCKET, masked(COMMANDS)):
        await flood(server, asyncio.create_task(closed_as_slow(server)))
        began = asyncio.get_running_loop().time()

        await until(lambda: server.open_connections == 0)

        assert asyncio.get_running_loop().time() - began < CLOSE_SECONDS / 4


@pytest.mark.parametrize("who", ["app", "server"])
async def test_a_peer_that_never_reads_holds_nothing_up(
    redis_url: str, who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection is aborted a while after it was closed, whoever closed it."""
    async with serving(redis_url) as server, silent(server, WEBSOCKET, masked(COMMANDS)):
        wired = only_socket(server)
        monkeypatch.setattr(wire, "CLOSE_SECONDS", 0.1)
        async with asyncio.timeout(PATIENCE):
            while wired._is_direct:
                await server.realtime.publish("open:a", PUBLICATION)

        if who == "server":
            wired.shutdown()
        else:
            await server.realtime.drain(0)

        await until(lambda: server.open_connections == 0)
        await until(lambda: server.realtime.stats.connections["websocket"] == 0)
