"""What hostile bytes come to at the real endpoint, on our wire class and on uvicorn's own (through ASGI's `send`)."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from hookcast_app.realtime.context import Timing
from hookcast_app.realtime.protocol import MAX_MESSAGE
from tests.integration.realtime.server import Server, serving, until
from tests.integration.realtime.wire import shortened
from tests.support.websocket import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    Peer,
    close,
    fragments,
    frame,
    handshake,
)

CONNECT = json.dumps({"id": 1, "connect": {}}).encode()

ENDINGS: dict[str, tuple[bytes, int]] = {
    "one byte too many": (frame(TEXT, b"x" * (MAX_MESSAGE + 1)), 1009),
    "a megabyte": (frame(TEXT, b"x" * 1_000_000), 1009),
    "one byte too many in fragments": (b"".join(fragments(TEXT, b"x" * MAX_MESSAGE, b"x")), 1009),
    "no UTF-8": (frame(TEXT, b"\xff"), 1007),
    "binary that is no UTF-8": (frame(BINARY, b"\xff"), 3501),
    "nothing": (frame(TEXT), 3501),
    "unmasked": (frame(TEXT, CONNECT, key=None), 1002),
    "reserved bits": (frame(TEXT, CONNECT, rsv=4), 1002),
    "reserved opcode": (frame(0x3, CONNECT), 1002),
    "continuation of nothing": (frame(CONT, CONNECT), 1002),
    "text within text": (frame(TEXT, CONNECT[:5], fin=False) + frame(TEXT, CONNECT), 1002),
    "fragmented ping": (frame(PING, fin=False), 1002),
    "wrong close code": (close(1005), 1002),
    "close": (close(1001), 1001),
}


@asynccontextmanager
async def opened(server: Server) -> AsyncIterator[Peer]:
    """A peer whose handshake was accepted."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        peer = Peer(reader, writer)
        await peer.send(handshake(line="GET /connection/websocket HTTP/1.1"))
        assert (await peer.head()).startswith(b"HTTP/1.1 101 ")
        yield peer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@pytest.mark.parametrize("name", ENDINGS)
async def test_each_wrong_has_its_code(
    server: Server,
    name: str,
    raw: bool,  # noqa: FBT001  a fixture
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whichever way the server writes; the connection is freed, and with our class nothing is logged as an error."""
    sent, code = ENDINGS[name]
    async with opened(server) as peer:
        await peer.send(sent)
        opcode, payload = await peer.next()
        assert (opcode, payload[:2]) == (CLOSE, code.to_bytes(2))
    await until(lambda: server.realtime.stats.connections["websocket"] == 0)
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert errors == [] or not raw


async def test_a_command_in_single_bytes_is_carried_out(server: Server) -> None:
    """With pings between, which are answered as they come."""
    parts = fragments(TEXT, *(bytes([byte]) for byte in CONNECT))
    async with opened(server) as peer:
        await peer.send(b"".join((*parts[:9], frame(PING, b"p"), *parts[9:])), chopped=True)
        assert await peer.next() == (PONG, b"p")
        opcode, reply = await peer.next()
        assert opcode == TEXT
        assert json.loads(reply)["id"] == 1


@pytest.mark.parametrize(
    "trickle", [b"", frame(TEXT, CONNECT)[:9], frame(TEXT, b"{", fin=False)], ids=["", "frame", "message"]
)
async def test_who_never_ends_a_message_is_closed(redis_url: str, raw: bool, trickle: bytes) -> None:  # noqa: FBT001
    """3502 before the connect command, 3012 after it: a frame that trickles in answers no ping."""
    timing = Timing(ping=0.3, pong=0.1, connect=0.3)
    async with (
        serving(redis_url, raw=raw, timing=timing) as server,
        opened(server) as stranger,
        opened(server) as client,
    ):
        await client.send(frame(TEXT, CONNECT) + trickle)
        await stranger.send(trickle)
        seen = shortened([await client.next() for _ in range(3)])

        assert seen[1:] == [(TEXT, b"{}"), (CLOSE, (3012).to_bytes(2))]
        assert shortened([await stranger.next()]) == [(CLOSE, (3502).to_bytes(2))]
        # They are gone for good, whether or not they answer.
        await until(lambda: server.realtime.stats.connections["websocket"] == 0)
