"""The server's HTTP over real connections, with an app that answers with what it was sent."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from hookcast_app.http_wire import HttpServerState
from hookcast_app.realtime import UVICORN_OPTIONS
from tests.support.app import ended, eventually

H2C = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
TLS = "Upgrade: TLS/1.0\r\nConnection: keep-alive, upgrade\r\n"
WEBSOCKET = "Connection: Upgrade\r\nUpgrade: websocket\r\n"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with method, path and body, as JSON on one line."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    answer = json.dumps([scope["method"], scope["path"], body.decode()]).encode() + b"\n"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(answer))]})
    await send({"type": "http.response.body", "body": answer})


@pytest.fixture
async def connection() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    config = uvicorn.Config(echo, port=0, lifespan="off", log_config=None, access_log=False, **UVICORN_OPTIONS)
    server = uvicorn.Server(config)
    server.server_state = HttpServerState()
    task = asyncio.create_task(server._serve())
    await eventually(lambda: server.started or task.done())
    reader, writer = await asyncio.open_connection("127.0.0.1", server.servers[0].sockets[0].getsockname()[1])
    try:
        yield reader, writer
    finally:
        writer.close()
        server.should_exit = server.force_exit = True
        await ended(task)


async def answer(reader: asyncio.StreamReader) -> list[str]:
    """The next answer's content."""
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        content: list[str] = json.loads(await reader.readline())
        return content


def request(path: str, offer: str, body: str, *, chunked: bool) -> tuple[bytes, bytes]:
    """A POST's head and body."""
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\n{offer}{framing}\r\n\r\n"
    return head.encode(), (f"{len(body):x}\r\n{body}\r\n0\r\n\r\n" if chunked else body).encode()


@pytest.mark.parametrize("offer", [H2C, TLS, WEBSOCKET], ids=["h2c", "tls", "websocket"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("together", [True, False], ids=["together", "apart"])
async def test_an_upgrade_that_is_not_taken_is_ignored(
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], offer: str, *, chunked: bool, together: bool
) -> None:
    """RFC 9110, 7.8: the request is answered as if nothing was offered, its body whole, and so is the one behind it."""
    reader, writer = connection
    (first, body), second = request("/1", offer, "hello", chunked=chunked), request("/2", "", "again", chunked=chunked)

    writer.write(first + body if together else first)
    if not together:
        await writer.drain()
        await asyncio.sleep(0)  # the client's loop sends the head; what follows is another segment
        writer.write(body)
    writer.write(b"".join(second))

    assert await answer(reader) == ["POST", "/1", "hello"]
    assert await answer(reader) == ["POST", "/2", "again"]


async def test_a_websocket_does_not_overtake_an_answer(
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter],
) -> None:
    """RFC 9112, 9.3.2: what is answered comes in order; an offer that comes too early is ignored."""
    reader, writer = connection
    writer.write(b"".join(request("/1", "", "hello", chunked=False)))
    writer.write(f"GET /2 HTTP/1.1\r\nHost: x\r\n{WEBSOCKET}\r\n".encode())

    assert await answer(reader) == ["POST", "/1", "hello"]
    assert await answer(reader) == ["GET", "/2", ""]


async def test_many_offers_in_one_segment_are_all_ignored(
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter],
) -> None:
    """However many requests are sent at once."""
    reader, writer = connection
    count = 1_500

    writer.write(b"".join(b"".join(request(f"/{n}", H2C, "x", chunked=False)) for n in range(count)))

    for number in range(count):
        assert await answer(reader) == ["POST", f"/{number}", "x"]


@pytest.mark.parametrize("head", ["CONNECT shop.example:443 HTTP/1.1", "POST /%00 HTTP/1.1\r\nContent-Length: -1"])
async def test_what_is_no_request_to_us_is_refused(
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], head: str
) -> None:
    """With 400, and the connection is closed."""
    reader, writer = connection

    writer.write(f"{head}\r\nHost: x\r\n{H2C}\r\n".encode())

    async with asyncio.timeout(10):
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
