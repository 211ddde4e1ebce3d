"""RFC 6455, section 4: the opening handshake, and what may go wrong in it."""

import asyncio

import pytest

from hookcast_app import http_wire
from tests.integration.realtime.wire import ending, server, shortened
from tests.support.app import eventually
from tests.support.websocket import ACCEPT, PING, PONG, TEXT, EchoServer, close, frame, handshake

__all__ = ["server"]

TAKEN: dict[str, bytes] = {
    "plain": handshake(),
    "names in other letters": handshake("UPGRADE: WebSocket", without=["Upgrade"]),
    "several tokens": handshake("Connection: keep-alive, Upgrade", without=["Connection"]),
    "an extension that we do not have": handshake(
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
    ),
    "an extension of no form": handshake("Sec-WebSocket-Extensions: ;;"),
    "subprotocols twice": handshake("Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: b, c"),
    "a header in Latin-1": handshake("X-Name: caf\xe9"),
    "127 headers": handshake(*(f"X-{number}: x" for number in range(122))),
    "a long query": handshake(line=f"GET /?{'x' * 8000} HTTP/1.1"),
    "an empty body": handshake("Content-Length: 0"),
}

REFUSED: dict[str, tuple[bytes, int]] = {
    # 4.1, 4.2.1
    "no key": (handshake(without=["Sec-WebSocket-Key"]), 400),
    "an empty key": (handshake("Sec-WebSocket-Key: ", without=["Sec-WebSocket-Key"]), 400),
    "a short key": (handshake("Sec-WebSocket-Key: AAAA", without=["Sec-WebSocket-Key"]), 400),
    "a long key": (handshake(f"Sec-WebSocket-Key: {'A' * 400}", without=["Sec-WebSocket-Key"]), 400),
    "a key that is no base64": (handshake("Sec-WebSocket-Key: \xe9#", without=["Sec-WebSocket-Key"]), 400),
    "two keys": (handshake("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400),
    "two versions": (handshake("Sec-WebSocket-Version: 13"), 400),
    "two origins": (handshake("Origin: http://a", "Origin: http://b"), 400),
    "no host": (handshake(without=["Host"]), 400),
    "two hosts": (handshake("Host: b"), 400),
    "subprotocols of no form": (handshake("Sec-WebSocket-Protocol: a b"), 400),
    "another method": (handshake(line="POST / HTTP/1.1"), 426),
    "HEAD": (handshake(line="HEAD / HTTP/1.1"), 426),
    "HTTP/1.0": (handshake(line="GET / HTTP/1.0"), 426),
    "no upgrade": (handshake(without=["Upgrade"]), 426),
    "another upgrade": (handshake("Upgrade: h2c", without=["Upgrade"]), 426),
    "no connection": (handshake(without=["Connection"]), 426),
    "HTTP/2.0": (handshake(line="GET / HTTP/2.0"), 426),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    # 4.4
    **{
        f"version {version or 'none'}": (
            handshake(*([f"Sec-WebSocket-Version: {version}"] if version else []), without=["Sec-WebSocket-Version"]),
            426 if version else 400,
        )
        for version in ("", "0", "8", "12", "14", "013", "255", "x")
    },
    # limits
    "too many headers": (handshake(*(f"X-{number}: x" for number in range(130))), 431),
    "a header of 9 KB": (handshake(f"X-Long: {'x' * 9000}"), 431),
    "headers of 350 KB": (handshake(*(f"X-{number}: {'x' * 7000}" for number in range(50))), 431),
    "a header of 300 KB": (handshake(f"X-Long: {'x' * 300_000}"), 431),
    "a query of 9 KB": (handshake(line=f"GET /?{'x' * 9000} HTTP/1.1"), 414),
    "a body": (handshake("Content-Length: 5") + b"hello", 400),
    "a chunked body": (handshake("Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
    "a path beyond ASCII": (handshake(line="GET /\xe9 HTTP/1.1"), 400),
}
AT_ONCE = {"no HTTP", "a path beyond ASCII"}
"""What the HTTP parser refuses in its midst, so that the server closes before all is sent."""
CHOPPED = [name for name, (sent, _) in REFUSED.items() if len(sent) <= 1000 and name not in AT_ONCE]
"""What comes in single bytes as well; the others would take long and say the same."""


@pytest.mark.parametrize("name", TAKEN)
async def test_a_handshake_is_accepted(server: EchoServer, name: str) -> None:
    """With the answer to its key, and no extension or subprotocol that the app did not choose."""
    async with server.connected() as peer:
        await peer.send(TAKEN[name])
        head = await peer.head()
        await peer.send(frame(TEXT, b"hi") + close())

        assert head.startswith(b"HTTP/1.1 101 ")
        assert ACCEPT in head.lower()
        assert b"sec-websocket-extensions" not in head.lower()
        assert b"sec-websocket-protocol" not in head.lower()
        assert shortened(await peer.frames()) == ending(1000, (TEXT, b"hi"))


@pytest.mark.parametrize(
    ("name", "chopped"), [*[(name, False) for name in REFUSED], *[(name, True) for name in CHOPPED]]
)
async def test_a_handshake_is_refused(
    server: EchoServer, name: str, caplog: pytest.LogCaptureFixture, *, chopped: bool
) -> None:
    """With the status that says why."""
    sent, status = REFUSED[name]
    async with server.connected() as peer:
        await peer.send(sent, chopped=chopped)
        head = await peer.head()
        assert head.startswith(b"HTTP/1.1 %d " % status)
        if name.startswith("version") and status == 426:
            assert b"sec-websocket-version: 13\r\n" in head.lower()
    assert [record.message for record in caplog.records if record.exc_info] == []
    caplog.clear()  # uvicorn warns of what is no HTTP


@pytest.mark.parametrize("cut", [0, 1, 2, 7, None], ids=str)
async def test_frames_in_the_segment_of_the_handshake_are_read(server: EchoServer, cut: int | None) -> None:
    """A client should wait for the answer (RFC 6455, 4.1); of one that does not, nothing is lost or answered early."""
    frames = frame(PING, b"p") + frame(TEXT, b"hi") + close()
    together, later = (frames, b"") if cut is None else (frames[:cut], frames[cut:])
    async with server.connected() as peer:
        await peer.send(handshake() + together)
        assert (await peer.head()).startswith(b"HTTP/1.1 101 ")
        await peer.send(later)
        assert shortened(await peer.frames()) == ending(1000, (PONG, b"p"), (TEXT, b"hi"))


@pytest.mark.parametrize("frames", [frame(0x3, b"x"), frame(TEXT, b"x", key=None)])
async def test_wrong_frames_in_the_segment_of_the_handshake_end_the_connection(
    server: EchoServer, frames: bytes
) -> None:
    """After its answer."""
    async with server.connected() as peer:
        await peer.send(handshake() + frames)
        assert (await peer.head()).startswith(b"HTTP/1.1 101 ")
        assert shortened(await peer.frames()) == ending(1002)


async def test_a_handshake_in_single_bytes_is_accepted(server: EchoServer) -> None:
    """It may come as slowly as the limit of time allows."""
    async with server.connected() as peer:
        await peer.send(handshake(), chopped=True)
        assert (await peer.head()).startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize("sent", [b"", handshake()[:1], handshake()[:-2]], ids=["nothing", "a byte", "all but the end"])
async def test_a_handshake_that_does_not_end_is_given_up(server: EchoServer, sent: bytes) -> None:
    """408 after the time for a head; uvicorn would wait for ever."""
    state = server.uvicorn.server_state
    assert isinstance(state, http_wire.HttpServerState)
    now = asyncio.get_running_loop().time
    async with server.connected() as peer:
        await peer.send(sent)
        await eventually(lambda: state.waiting)
        assert state.close_slow_heads(now()) == 0
        assert state.close_slow_heads(now() + http_wire.HEAD_SECONDS + 1) == 1
        assert (await peer.head()).startswith(b"HTTP/1.1 408 ")
        assert not state.waiting
