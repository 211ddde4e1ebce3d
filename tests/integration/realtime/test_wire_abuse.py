"""Peers that flood, that trickle and that leave: right codes, bounded memory, and nothing left of them."""

import asyncio
import gc
import tracemalloc
from contextlib import AsyncExitStack

import pytest

from hookcast_app import http_wire
from hookcast_app.realtime.incoming import Event
from hookcast_app.realtime.wire import FRAMES_PER_TURN, IDLE_BURST, RawWebSocket
from tests.integration.realtime.test_wire_framing import FAILING
from tests.integration.realtime.wire import ending, server, shortened
from tests.support.app import eventually
from tests.support.websocket import BINARY, CLOSE, CONT, PING, PONG, TEXT, EchoServer, close, frame, handshake

__all__ = ["server"]
POLICY = 1008

FLOODS: dict[str, bytes] = {
    "pings": frame(PING) * 10_000,
    "pings of 125 bytes": frame(PING, b"x" * 125, key=bytes(4)) * 10_000,
    "pongs": frame(PONG, b"x") * 10_000,
    "fragments without content": frame(TEXT, b"h", fin=False) + frame(CONT, fin=False) * 10_000,
    "all of them": frame(TEXT, fin=False) + (frame(PING) + frame(PONG) + frame(CONT, fin=False)) * 3_000,
}


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_of_frames_without_content_ends_the_connection(server: EchoServer, name: str) -> None:
    """1008 after what a client may send at once; what is answered until then is bounded as well."""
    async with server.opened() as peer:
        sending = asyncio.create_task(peer.send(FLOODS[name]))
        *pongs, last = shortened(await peer.frames())
        await sending

        assert last == (CLOSE, POLICY.to_bytes(2))
        assert {opcode for opcode, _ in pongs} <= {PONG}
        assert len(pongs) <= IDLE_BURST + 1


async def test_as_many_pings_as_are_allowed_are_answered(server: EchoServer) -> None:
    """Each with its payload, in order."""
    async with server.opened() as peer:
        payloads = [b"%d" % number for number in range(IDLE_BURST)]
        await peer.send(b"".join(frame(PING, payload) for payload in payloads) + close())
        assert await peer.frames() == ending(1000, *((PONG, payload) for payload in payloads))


async def test_a_peer_that_does_not_read_is_owed_one_pong(server: EchoServer) -> None:
    """RFC 6455, 5.5.3: the latest; nothing is heaped up meanwhile."""
    async with server.opened() as peer:
        (wire,) = server.uvicorn.server_state.connections
        assert isinstance(wire, RawWebSocket)
        wire.pause_writing()
        await peer.send(b"".join(frame(PING, b"%d" % number) for number in range(9)))
        await eventually(lambda: wire._pong.endswith(b"8"))
        wire.resume_writing()
        await peer.send(close())
        assert await peer.frames() == ending(1000, (PONG, b"8"))


async def test_unfinished_messages_cost_what_they_hold(server: EchoServer) -> None:
    """20,000 bytes in as many frames: not the 1.3 MB that an object for each would take."""
    unfinished = frame(BINARY, fin=False) + frame(CONT, b"x", fin=False, key=bytes(4)) * 20_000
    async with server.opened() as first, server.opened() as second:
        await first.send(unfinished + frame(PING, b"p"))
        assert await first.next() == (PONG, b"p")  # so much for what is allocated once
        gc.collect()
        tracemalloc.start(1)
        try:
            await second.send(unfinished + frame(PING, b"p"))
            assert await second.next() == (PONG, b"p")
            gc.collect()
            grown, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert grown < 200_000, grown


async def test_messages_that_the_app_has_not_taken_stay_bytes(server: EchoServer) -> None:
    """A segment full of messages is read one by one; uvicorn makes thousands of objects of it at once."""
    async with server.opened() as peer:
        (wire,) = server.uvicorn.server_state.connections
        assert isinstance(wire, RawWebSocket)
        wire.pause_writing()  # the app waits in `send`
        await peer.send(frame(TEXT, b"x") * 10_000 + close())
        await eventually(lambda: wire._is_reading_paused)
        assert len(wire._inbox) <= 1
        wire.resume_writing()
        assert await peer.frames() == ending(1000, *[(TEXT, b"x")] * 10_000)


async def test_what_peers_do_wrong_leaves_no_memory_behind(server: EchoServer) -> None:
    """Hundreds of connections that ended in every wrong way."""

    async def round_of_wrongs() -> None:
        for sent, code in FAILING.values():
            async with server.opened() as peer:
                await peer.send(sent)
                assert shortened(await peer.frames()) == ending(code)
        await eventually(lambda: server.is_idle)
        gc.collect()

    await round_of_wrongs()
    tracemalloc.start(1)
    try:
        await round_of_wrongs()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(4):
            await round_of_wrongs()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 100_000, after - before


async def test_others_have_their_turn_while_one_sends_single_bytes(server: EchoServer) -> None:
    """The loop is not held for as long as a read of the socket has frames."""
    message = frame(BINARY, fin=False) + frame(CONT, b"x", fin=False, key=bytes(4)) * 37_000
    async with server.opened():
        wires = [wire for wire in server.uvicorn.server_state.connections if isinstance(wire, RawWebSocket)]
        handled: list[Event] = []
        for wire in wires:
            wire._handle = handled.append  # type: ignore[method-assign, assignment]
        wires[0].data_received(message)
        assert len(handled) == FRAMES_PER_TURN
        await eventually(lambda: len(handled) == 37_001)


async def test_many_handshakes_that_do_not_end_are_given_up(server: EchoServer) -> None:
    """Each with 408; whoever is served already stays."""
    state = server.uvicorn.server_state
    assert isinstance(state, http_wire.HttpServerState)
    async with AsyncExitStack() as stack:
        living = await stack.enter_async_context(server.opened())
        slow = [await stack.enter_async_context(server.connected()) for _ in range(200)]
        for peer in slow:
            await peer.send(handshake()[:-2])
        await eventually(lambda: sum(wire._unparsed > 0 for wire in state.waiting) == len(slow))
        assert state.close_slow_heads(asyncio.get_running_loop().time() + http_wire.HEAD_SECONDS + 1) == len(slow)

        assert {(await peer.rest())[:13] for peer in slow} == {b"HTTP/1.1 408 "}
        await living.send(frame(PING, b"p") + close())
        assert await living.frames() == ending(1000, (PONG, b"p"))
