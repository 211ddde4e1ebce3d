"""RFC 6455, section 7 and 5.5.1: how a connection ends."""

import asyncio
import socket
import struct

import pytest

from hookcast_app.realtime.wire import FRAMES_PER_TURN, RawWebSocket
from tests.integration.realtime.wire import ending, server, shortened
from tests.support.app import eventually
from tests.support.websocket import BINARY, CLOSE, CONT, PING, PONG, TEXT, EchoServer, close, frame

__all__ = ["server"]
ALLOWED = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
FORBIDDEN = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535]
PROTOCOL_ERROR, INVALID_DATA = 1002, 1007
CHOPPED = pytest.mark.parametrize("chopped", [False, True], ids=["whole", "chopped"])


@CHOPPED
@pytest.mark.parametrize("code", ALLOWED)
@pytest.mark.parametrize("reason", [b"", b"going", "κ".encode() * 61], ids=["none", "short", "longest"])
async def test_a_close_frame_is_answered_with_its_code(
    server: EchoServer, code: int, reason: bytes, *, chopped: bool
) -> None:
    """RFC 6455, 5.5.1; and the server ends the connection first (7.1.1)."""
    async with server.opened() as peer:
        await peer.send(close(code, reason), chopped=chopped)
        assert shortened(await peer.frames()) == ending(code)


async def test_a_close_frame_without_a_code_is_answered_without_one(server: EchoServer) -> None:
    """RFC 6455, 7.1.5."""
    async with server.opened() as peer:
        await peer.send(close(None))
        assert await peer.frames() == [(CLOSE, b"")]


WRONG: dict[str, tuple[bytes, int]] = {
    **{f"code {code}": (close(code), PROTOCOL_ERROR) for code in FORBIDDEN},
    **{f"code {code} with a reason": (close(code, b"bye"), PROTOCOL_ERROR) for code in (1005, 2999)},
    "one byte": (frame(CLOSE, b"\x03"), PROTOCOL_ERROR),
    "126 bytes": (close(1000, b"x" * 124), PROTOCOL_ERROR),
    "a reason that is no UTF-8": (close(1000, b"\xce\xba\xe1\xbd\xb9\xed\xa0\x80"), INVALID_DATA),
    "a reason that is cut": (close(1000, "€".encode()[:2]), INVALID_DATA),
}


@CHOPPED
@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_close_frame_fails_the_connection(server: EchoServer, name: str, *, chopped: bool) -> None:
    """RFC 6455, 5.5.1, 7.4 and 8.1."""
    sent, code = WRONG[name]
    async with server.opened() as peer:
        await peer.send(sent, chopped=chopped)
        assert shortened(await peer.frames()) == ending(code)


BEHIND: dict[str, bytes] = {
    "a text": frame(TEXT, b"late"),
    "a ping": frame(PING, b"late"),
    "another close": close(1001),
    "what is wrong": frame(0x3, b"late", rsv=7),
    "no UTF-8": frame(TEXT, b"\xff"),
    "a megabyte": frame(BINARY, bytes(1_000_000), key=bytes(4)),
}


@CHOPPED
@pytest.mark.parametrize("name", BEHIND)
async def test_nothing_counts_behind_a_close_frame(server: EchoServer, name: str, *, chopped: bool) -> None:
    """RFC 6455, 5.5.1: the answer arrives, and nothing else, however much comes behind."""
    async with server.opened() as peer:
        await peer.send(close(), chopped=chopped)
        await peer.send(BEHIND[name], chopped=chopped and len(BEHIND[name]) < 1000)
        assert await peer.frames() == [(CLOSE, b"\x03\xe8")]


@CHOPPED
async def test_a_close_frame_may_come_within_a_message(server: EchoServer, *, chopped: bool) -> None:
    """RFC 6455, 5.4: a control frame may come between fragments; the message is lost."""
    async with server.opened() as peer:
        await peer.send(frame(TEXT, b"h", fin=False) + close(1001) + frame(CONT, b"i"), chopped=chopped)
        assert shortened(await peer.frames()) == ending(1001)


async def test_messages_before_a_close_frame_are_answered(server: EchoServer) -> None:
    """What came before it counts."""
    async with server.opened() as peer:
        await peer.send(frame(TEXT, b"1") + frame(TEXT, b"2") + frame(PING, b"3") + close())
        assert await peer.frames() == [(TEXT, b"1"), (TEXT, b"2"), (PONG, b"3"), (CLOSE, b"\x03\xe8")]


@pytest.mark.parametrize("sent", [b"", b"\x81", frame(TEXT, b"half")[:-2], frame(TEXT, b"h", fin=False)])
@pytest.mark.parametrize("how", ["end", "reset"])
async def test_a_peer_that_goes_without_a_word_is_forgotten(server: EchoServer, sent: bytes, how: str) -> None:
    """RFC 6455, 7.1.5 (1006): within a frame, within a message, or between; in order, or by a reset."""
    async with server.opened() as peer:
        await peer.send(sent)
        if how == "reset":
            linger = struct.pack("ii", 1, 0)
            peer.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            peer.writer.transport.abort()
        else:
            peer.writer.write_eof()
        await eventually(lambda: server.is_idle)


async def test_a_peer_that_stays_after_its_close_is_cut_off(server: EchoServer) -> None:
    """It has the answer, and a second to go; what it sends meanwhile is not kept."""
    async with server.opened() as peer:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await peer.send(close())
        while not server.is_idle:
            await peer.send(bytes(1000))
            await asyncio.sleep(0.02)
        assert loop.time() - began < 3


@pytest.mark.parametrize(
    "sent", [close(), frame(PING), frame(0x3), frame(TEXT, b"x")], ids=["close", "ping", "wrong", "text"]
)
async def test_what_comes_while_the_server_stops_is_of_no_account(server: EchoServer, sent: bytes) -> None:
    """1012, and no error in the log, though the frames were received before it and not yet read."""
    async with server.opened() as peer:
        (wire,) = server.uvicorn.server_state.connections
        assert isinstance(wire, RawWebSocket)
        wire.data_received(frame(PONG) * FRAMES_PER_TURN + sent)
        wire.shutdown()
        assert shortened(await peer.frames()) == ending(1012)
