"""What an ASGI app sees of a WebSocket on our wire class (ASGI, "WebSocket"), and what its peer sees of the app."""

import asyncio
import gc
import logging
from collections.abc import Callable
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hookcast_app.http_wire import HttpWire
from hookcast_app.realtime.wire import RawWebSocket
from tests.integration.realtime.wire import ending
from tests.support.app import eventually
from tests.support.websocket import ACCEPT, BINARY, PING, PONG, TEXT, Frame, close, echoing, frame, handshake


def saying(*messages: Message, before: Callable[[Scope], None] = lambda _: None) -> ASGIApp:
    """An app that sends these, and returns."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        before(scope)
        await receive()
        for message in messages:
            await send(message)

    return app


async def answer_to(app: ASGIApp, request: bytes | None = None) -> tuple[bytes, bytes]:
    """The head of the answer to a handshake, and what comes behind it until the server ends the connection."""
    async with echoing(app) as server, server.connected() as peer:
        await peer.send(request or handshake())
        head = await peer.head()
        await peer.send(close())
        return head.lower(), await peer.rest()


async def frames_of(app: ASGIApp) -> list[Frame]:
    """What the peer of an app sees after its handshake, when it then closes."""
    async with echoing(app) as server, server.opened() as peer:
        await peer.send(close())
        return await peer.frames()


async def test_the_app_learns_what_was_asked_for() -> None:
    """The path is decoded, but not in `raw_path`; the query is apart; a proxy's absolute form says the same."""
    seen: list[Scope] = []
    for target in ("/a%20b%2Fc?x=%20&y", "http://a/a%20b%2Fc?x=%20&y"):
        request = handshake("Sec-WebSocket-Protocol: a, b", "X-Name: caf\xe9", line=f"GET {target} HTTP/1.1")
        await answer_to(saying({"type": "websocket.accept"}, before=seen.append), request)

    for scope in seen:
        assert scope["type"] == "websocket"
        assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a b/c", b"/a%20b%2Fc", b"x=%20&y")
        assert (scope["scheme"], scope["http_version"], scope["root_path"]) == ("ws", "1.1", "")
        assert scope["subprotocols"] == ["a", "b"]
        assert (b"x-name", b"caf\xe9") in scope["headers"]
        assert scope["client"][0] == scope["server"][0] == "127.0.0.1"
        assert isinstance(scope["client"][1], int)
        assert "method" not in scope


async def test_the_app_chooses_subprotocol_and_headers() -> None:
    """They are in the answer, with its date."""
    accept = {"type": "websocket.accept", "subprotocol": "b", "headers": [(b"x-name", b"value")]}
    head, _ = await answer_to(saying(accept), handshake("Sec-WebSocket-Protocol: a, b"))

    assert head.startswith(b"http/1.1 101 ")
    for line in (ACCEPT, b"sec-websocket-protocol: b\r\n", b"x-name: value\r\n", b"date: "):
        assert line in head


async def test_the_app_may_refuse_with_an_answer_of_its_own() -> None:
    """ASGI's `websocket.http.response`, in parts; the connection ends with it."""
    head, body = await answer_to(
        saying(
            {"type": "websocket.http.response.start", "status": 404, "headers": [(b"content-type", b"text/x")]},
            {"type": "websocket.http.response.body", "body": b"not ", "more_body": True},
            {"type": "websocket.http.response.body", "body": b"here"},
        )
    )

    assert head.startswith(b"http/1.1 404 not found\r\n")
    assert {b"content-type: text/x", b"content-length: 8", b"connection: close"} <= set(head.split(b"\r\n"))
    assert body == b"not here"


async def test_the_app_may_close_instead_of_accepting() -> None:
    """403, and it receives the end."""
    received: list[Message] = []

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.close"})
        received.append(await receive())

    head, body = await answer_to(app)

    assert (head[:13], body) == (b"http/1.1 403 ", b"")
    assert [(each["type"], each["code"]) for each in received] == [("websocket.disconnect", 1006)]


@pytest.mark.parametrize("is_accepted", [False, True], ids=["before", "after"])
async def test_an_app_that_fails_is_told_of_on_both_sides(
    caplog: pytest.LogCaptureFixture, *, is_accepted: bool
) -> None:
    """500 instead of the handshake's answer, or 1011 (RFC 6455, 7.4.1); once in the log, with what was raised."""

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if is_accepted:
            await send({"type": "websocket.accept"})
        raise ValueError("the app")

    if is_accepted:
        assert await frames_of(app) == ending(1011)
    else:
        assert (await answer_to(app))[0].startswith(b"http/1.1 500 ")
    told = [record.exc_info[1] for record in caplog.records if record.levelno >= logging.ERROR and record.exc_info]
    assert [str(error) for error in told] == ["the app"]


async def test_an_app_that_has_done_closes() -> None:
    """With 1000 if it returns, or with what it says; messages before that arrive."""
    accept = {"type": "websocket.accept"}
    sent: list[Message] = [{"type": "websocket.send", "text": "κ"}, {"type": "websocket.send", "bytes": b"\xff"}]
    arrived = [(TEXT, "κ".encode()), (BINARY, b"\xff")]

    assert await frames_of(saying(accept, *sent)) == ending(1000, *arrived)
    seen = await frames_of(saying(accept, *sent, {"type": "websocket.close", "code": 4321, "reason": "é" * 99}))
    *before, (_, last) = seen
    assert before == arrived
    # A control frame has at most 125 bytes (RFC 6455, 5.5).
    assert last == (4321).to_bytes(2) + ("é" * 61).encode()


async def test_an_app_that_does_not_answer_is_answered_for() -> None:
    """500."""
    assert (await answer_to(saying()))[0].startswith(b"http/1.1 500 ")


@pytest.mark.parametrize("kind", ["websocket.accept", "websocket.http.response.start", "websocket.nothing"])
async def test_an_app_that_sends_what_does_not_belong_is_told(kind: str) -> None:
    """RuntimeError."""
    raised: list[BaseException] = []

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        try:
            await send({"type": kind, "status": 200})
        except RuntimeError as error:
            raised.append(error)

    assert await frames_of(app) == ending(1000)
    assert kind in str(raised[0])


async def test_sending_to_who_is_gone_raises_an_os_error(caplog: pytest.LogCaptureFixture) -> None:
    """As ASGI has it; an app that lets it through has done nothing wrong."""
    told: list[Any] = []

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        told.append(await receive())
        try:
            await send({"type": "websocket.send", "text": "late"})
        except OSError as error:
            told.append(error)
            raise

    async with echoing(app) as server:
        async with server.opened():
            pass
        await eventually(lambda: server.is_idle)

    assert (told[0]["type"], told[0]["code"]) == ("websocket.disconnect", 1006)
    assert isinstance(told[1], OSError)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_handshake_that_is_not_answered_when_the_server_stops_is_refused() -> None:
    """503: the client may try another one."""

    async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
        while (await receive())["type"] != "websocket.disconnect":
            pass

    async with echoing(app) as server, server.connected() as peer:
        await peer.send(handshake())
        await eventually(lambda: server.uvicorn.server_state.tasks)
        (wire,) = server.uvicorn.server_state.connections
        assert isinstance(wire, RawWebSocket)
        wire.shutdown()
        assert (await peer.head()).startswith(b"HTTP/1.1 503 ")
        assert await peer.rest() == b""


async def test_what_an_app_waits_for_may_be_cancelled() -> None:
    """What comes afterwards is received."""

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        waiting = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        await send({"type": "websocket.send", "text": (await receive())["text"]})

    async with echoing(app) as server, server.opened() as peer:
        await peer.send(frame(TEXT, b"kept") + close())
        assert await peer.frames() == ending(1000, (TEXT, b"kept"))


async def test_nothing_of_the_request_is_left_once_it_is_taken() -> None:
    """Nor of the connection once it has ended; without a look for cycles, which would stop everybody."""

    def left(kind: type) -> int:
        return sum(isinstance(each, kind) for each in gc.get_objects())

    async with echoing() as server:
        gc.collect()
        gc.disable()
        try:
            async with server.opened() as peer:
                await peer.send(frame(PING, b"p"))
                assert await peer.next() == (PONG, b"p")
                assert (left(HttpWire), left(RawWebSocket)) == (0, 1)
                await peer.send(close())
                assert await peer.frames() == ending(1000)
            await eventually(lambda: server.is_idle)
            assert left(RawWebSocket) == 0
        finally:
            gc.enable()
