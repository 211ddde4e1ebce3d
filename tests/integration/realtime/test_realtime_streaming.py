"""What a client of the protocol is promised where it has no WebSocket; the rest is as over WebSockets."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from hookcast_app.realtime.context import Timing
from hookcast_app.realtime.control import Disconnect
from hookcast_app.realtime.emulated import MAX_INBOUND, MAX_INBOUND_MESSAGES
from hookcast_app.realtime.outbox import MAX_QUEUED
from tests.integration.realtime.conformance.raw import Transport
from tests.integration.realtime.conformance.stock import endpoints, node
from tests.integration.realtime.server import PATIENCE, client, serving, token, until
from tests.integration.realtime.streaming import CONNECT, KINDS, PATHS, UNASKED, is_empty, peer, request, streaming
from tests.integration.realtime.test_realtime_slow import (
    PUBLICATION,
    closed_as_slow,
    flood,
    received_during,
    silent,
)
from tests.support.app import running_app, settings_for
from tests.support.npm import install

kinds = pytest.mark.parametrize("kind", KINDS)
SUBSCRIBE = {"id": 2, "subscribe": {"channel": "open:a"}}


@kinds
async def test_publications_arrive_in_order_and_whole(redis_url: str, kind: Transport) -> None:
    """Line breaks within data do not get through, and one larger than a slow client's allowance does."""
    async with serving(redis_url) as server, streaming(server, kind, "open:a") as reader:
        for number in range(100):
            await server.realtime.publish("open:a", b'{"n":\n%d}' % number)
        await server.realtime.publish("open:a", b'"%b"' % (b"x" * 2_000_000))

        assert [(await reader.push("pub"))["pub"]["data"] for _ in range(100)] == [{"n": n} for n in range(100)]
        assert (await reader.push("pub"))["pub"]["data"] == "x" * 2_000_000


@kinds
async def test_commands_are_taken_by_every_process(redis_url: str, kind: Transport) -> None:
    """The stream is at one, the requests go to another."""
    async with serving(redis_url) as one, serving(redis_url) as other, streaming(one, kind, "chat:a") as speaker:
        async with httpx.AsyncClient(trust_env=False) as poster:
            for number in range(2, 20):
                command = {"id": number, "publish": {"channel": "chat:a", "data": number}}
                body = {**speaker.session, "data": json.dumps(command)}
                assert (await poster.post(f"{other.http_url}/emulation", json=body)).status_code == 204

                assert (await speaker.push("pub"))["pub"]["data"] == number
                assert await speaker.reply(number) == {"id": number, "publish": {}}
        assert other.realtime.stats.connections.total() == 0
        assert one.realtime.stats.connections.total() == 1


@kinds
async def test_an_order_may_name_a_session(redis_url: str, kind: Transport) -> None:
    """Of several connections of a user that one is meant alone."""
    async with serving(redis_url) as server, streaming(server, kind) as one, streaming(server, kind) as other:
        chosen = one.session["session"]
        server.realtime._clients.carry_out(Disconnect(user="", session=chosen, code=4000, reason="elsewhere"))

        assert await one.closed() == (4000, "elsewhere")
        assert await other.ask(UNASKED)


@kinds
async def test_nothing_is_left_of_a_client_that_went(redis_url: str, kind: Transport) -> None:
    """At once, not when it is next written to; also of one that never said who it is."""
    async with serving(redis_url) as server:
        async with (
            streaming(server, kind, "open:a"),
            peer(server, request(kind, CONNECT)),
            peer(server, request(kind, {"id": 1, "connect": {"token": token("ann", exp=1)}})),
        ):
            await until(lambda: server.realtime.stats.connections.total() == 3)
            assert len(server.realtime._clients.sessions) == 3
            assert server.subscribers("open:a") == 1

        await until(lambda: is_empty(server))


@kinds
async def test_a_stream_that_nobody_reads_is_ended_and_slows_nobody(redis_url: str, kind: Transport) -> None:
    """After about 1 MiB was queued for it; soon nothing of it is left, its connection neither."""
    async with (
        serving(redis_url) as server,
        client(server, "open:a") as healthy,
        silent(server, request(kind, CONNECT, SUBSCRIBE)),
    ):
        flooding = asyncio.create_task(flood(server, asyncio.create_task(closed_as_slow(server))))
        received = await received_during(flooding, healthy)

        assert received * len(PUBLICATION) > MAX_QUEUED
        await until(lambda: server.realtime.stats.connections.total() == 1)
        assert server.realtime.stats.slow_closes == server.realtime.stats.closes[3008] == 1
        assert server.subscribers("open:a") == 1
        assert not server.realtime._clients.sessions
        await until(lambda: server.open_connections == 1)


@kinds
async def test_a_slow_client_that_reads_on_is_told_why(redis_url: str, kind: Transport) -> None:
    """The last thing it finds is the push with 3008."""
    async with serving(redis_url) as server, silent(server, request(kind, CONNECT, SUBSCRIBE)) as reader:
        await flood(server, asyncio.create_task(closed_as_slow(server)))

        rest = (await read_to_the_chunked_end(reader)).decode()

        last = rest.rstrip("\r\n").removesuffix("\r\n0").rstrip("\r\n").rpartition("\n")[2].removeprefix("data: ")
        assert json.loads(last) == {"push": {"disconnect": {"code": 3008, "reason": "slow"}}}
        assert len(rest) < 8 * MAX_QUEUED
        await until(lambda: is_empty(server))


async def read_to_the_chunked_end(reader: socket.socket) -> bytes:
    data = bytearray()
    async with asyncio.timeout(PATIENCE):
        while not data.endswith(b"\r\n0\r\n\r\n"):
            part = await asyncio.get_running_loop().sock_recv(reader, 65_536)
            assert part, "the connection was dropped"
            data += part
    return bytes(data)


@kinds
@pytest.mark.parametrize(
    ("size", "count"), [(40_000, MAX_INBOUND // 40_000 + 2), (1, MAX_INBOUND_MESSAGES + 2)], ids=["bytes", "messages"]
)
async def test_what_waits_to_be_carried_out_is_bounded(redis_url: str, kind: Transport, size: int, count: int) -> None:
    """3013 for a client that sends faster than its commands can be carried out."""
    async with serving(redis_url, messages_per_second=0) as server, streaming(server, kind, "chat:a") as speaker:
        await server.redis.client_pause(1_000)
        await speaker.send({"id": 2, "publish": {"channel": "chat:a", "data": 1}})
        commands = json.dumps(UNASKED) + " " * size
        take = server.realtime._clients.sessions[speaker.session["session"]]
        await until(lambda: not take.__self__._inbound)  # type: ignore[attr-defined]
        for _ in range(count):
            assert server.realtime.stats.connections.total() == 1
            take(commands)

        assert await speaker.closed() == (3013, "too many requests")
        await until(lambda: is_empty(server))
        assert server.realtime.stats.closes == {3013: 1}


@kinds
async def test_a_client_that_sends_too_fast_is_disconnected(redis_url: str, kind: Transport) -> None:
    """The limit of messages is that of every transport."""
    async with serving(redis_url, messages_per_second=5) as server, streaming(server, kind) as speaker:
        await speaker.send(*[UNASKED] * 20)
        assert await speaker.closed() == (3013, "too many requests")


@kinds
async def test_pings_are_answered_by_requests(redis_url: str, kind: Transport) -> None:
    """Whoever answers stays; whoever does not is gone with 3012."""
    async with serving(redis_url, timing=Timing(ping=0.4, pong=0.3)) as server, streaming(server, kind) as speaker:
        for _ in range(3):
            await speaker.ping()
        speaker.answers_pings = False
        assert await speaker.closed() == (3012, "no pong")


@kinds
async def test_a_client_that_does_not_get_in_is_gone_in_time(redis_url: str, kind: Transport) -> None:
    """An expired token is answered with 109; who stays nevertheless is disconnected."""
    async with serving(redis_url, timing=Timing(connect=0.2)) as server:
        async with peer(server, request(kind, {"id": 1, "connect": {"token": token("ann", exp=1)}})) as late:
            assert await late.status() == 200
            first = await late.reader.readuntil(b'"code":109')
            assert b"connect" not in first
            assert b'{"push":{"disconnect":{"code":3502,"reason":"stale"}}}' in await late.reader.readuntil(
                b"0\r\n\r\n"
            )
        await until(lambda: is_empty(server))


@kinds
async def test_draining_ends_streams_so_that_clients_come_back(redis_url: str, kind: Transport) -> None:
    """Those that are here, and those that come: 3001 is a code after which they try again."""
    async with serving(redis_url) as server:
        async with streaming(server, kind) as speaker:
            await server.realtime.drain(0)
            assert await speaker.closed() == (3001, "shutdown")
        async with peer(server, request(kind, CONNECT)) as late:
            assert await late.status() == 200
            assert b'{"push":{"disconnect":{"code":3001,"reason":"shutdown"}}}' in await late.rest()
        await until(lambda: is_empty(server))


@kinds
async def test_npm_comes_back_after_a_drain(redis_url: str, kind: Transport) -> None:
    """By the same transport, though another one would be left to try."""
    js_path: Path = await asyncio.to_thread(install)
    async with serving(redis_url) as server, node(js_path) as js:
        options = {"emulationEndpoint": f"{server.http_url}/emulation"}
        ways = endpoints(server.http_url, kind, "websocket")
        await js.do("connect", endpoint=ways, options=options)
        await js.event("connected")
        await js.do("subscribe", channel="open:a")
        await js.event("subscribed")
        await server.realtime.drain(0)
        assert (await js.event("connecting", code=3001))["reason"] == "shutdown"
        answered = server.answered
        await until(lambda: server.answered >= answered + 2)
        server.realtime._is_draining = False
        assert (await js.event("connected"))["transport"] == kind
        await js.event("subscribed")
        await server.realtime.publish("open:a", b'"back"')
        assert (await js.event("publication"))["data"] == "back"


@kinds
async def test_limits_of_an_address_come_first(redis_url: str, kind: Transport) -> None:
    """429 before anything of a body is read: connects per second, and those that have not said who they are."""
    head = f"POST {PATHS[kind]} HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n".encode()
    async with serving(redis_url, connects_per_second=0, unauthenticated_connections=2) as server:
        async with peer(server, head), peer(server, head) as second:
            await until(lambda: sum(server.realtime._endpoint._door._limits._waiting.values()) == 2)
            async with peer(server, head) as third:
                assert await third.status() == 429
            await second.send(b"{bad json}")
            assert await second.status() == 200
            async with streaming(server, kind), streaming(server, kind):
                pass
        assert server.realtime.stats.refused_waiting == 1
    async with serving(redis_url, connects_per_second=1) as server, AsyncExitStack() as stack:
        for status in (200, 200, 429):
            one = await stack.enter_async_context(peer(server, request(kind, CONNECT)))
            assert await one.status() == status
        assert server.realtime.stats.refused_connects == 1


@kinds
async def test_a_token_is_presented_as_to_a_websocket(redis_url: str, kind: Transport) -> None:
    """By query or cookie; the connect command's own wins."""
    page = "https://app.test"
    changes: dict[str, Any] = {"realtime_anonymous": False, "jwt_cookie": "session", "allowed_origins": (page,)}
    query = f"?token={token('ann')}".encode()
    cookie = f"Cookie: session={token('ann')}"
    connect = request(kind, CONNECT)
    cases = {
        "connect": connect.replace(b" HTTP", b"&".join((b"", query[1:])) + b" HTTP")
        if kind == "sse"
        else connect.replace(b" HTTP", query + b" HTTP"),
        '"code":101': connect,
        '"connect"': request(kind, CONNECT, headers=[f"Origin: {page}", cookie]),
        '"code":101 ': request(kind, CONNECT, headers=[cookie]),
        '"code":3500': request(kind, {"id": 1, "connect": {"token": "forged"}}, headers=[f"Origin: {page}", cookie]),
    }
    async with serving(redis_url, **changes) as server:
        for expected, text in cases.items():
            async with peer(server, text) as one:
                assert await one.status() == 200
                await asyncio.wait_for(one.reader.readuntil(expected.strip().encode()), PATIENCE)


@pytest.mark.parametrize(
    ("kind", "headers", "status"),
    [
        ("sse", {}, 200),
        ("sse", {"Origin": "https://app.test"}, 200),
        ("sse", {"Origin": "https://evil.test"}, 403),
        ("sse", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("sse", {"Sec-Fetch-Site": "same-origin"}, 200),
        ("http_stream", {"Origin": "http://a"}, 200),
        ("http_stream", {"Origin": "https://app.test"}, 200),
        ("http_stream", {"Origin": "null"}, 403),
        ("http_stream", {"Origin": "https://evil.test"}, 403),
    ],
)
async def test_pages_that_may_connect(redis_url: str, kind: Transport, headers: dict[str, str], status: int) -> None:
    """Those of this server, those of the settings, and no others; whatever is refused runs no command."""
    lines = [f"{name}: {value}" for name, value in headers.items()]
    async with serving(redis_url, allowed_origins=("https://app.test",)) as server:
        async with peer(server, request(kind, CONNECT, headers=lines)) as one:
            head = await asyncio.wait_for(one.reader.readuntil(b"\r\n\r\n"), PATIENCE)
        assert int(head.split()[1]) == status
        is_told = b"access-control-allow-origin: https://app.test\r\n" in head
        assert is_told == (headers.get("Origin") == "https://app.test")
        assert b"access-control-allow-credentials" not in head
        await until(lambda: is_empty(server))
        assert server.realtime.stats.refused == (status == 403)


async def said(stream: httpx.Response) -> AsyncIterator[Any]:
    async for line in stream.aiter_lines():
        if line:
            yield json.loads(line.removeprefix("data: "))


async def test_the_whole_app_counts_its_streams(redis_url: str, tmp_path: Path) -> None:
    """By their transport, and by their paths; without the server's means to drop a connection as well."""
    async with running_app(settings_for(redis_url, tmp_path)) as app:
        administration = httpx.AsyncClient(transport=httpx.ASGITransport(app.application.admin), base_url="http://a")
        labels = {"sse": "protocol_sse", "http_stream": "http_stream"}
        for kind in KINDS:
            async with app.client.stream("POST", PATHS[kind], json=CONNECT) as stream:
                lines = said(stream)
                connect = (await anext(lines))["connect"]
                body = {"session": connect["session"], "node": connect["node"], "data": json.dumps(UNASKED)}
                assert (await app.client.post("/emulation", json=body)).status_code == 204
                assert (await anext(lines))["id"] == UNASKED["id"]
                metrics = (await administration.get("/metrics")).text
                assert f'hookcast_realtime_connections{{transport="{labels[kind]}"}} 1.0' in metrics
                assert 'hookcast_realtime_connections{transport="websocket"} 0.0' in metrics
                assert 'route="/emulation"' in metrics
        await administration.aclose()


async def test_a_failing_send_that_is_not_the_peers_is_a_defect(redis_url: str) -> None:
    """It is raised, not hidden; nothing is left."""
    async with serving(redis_url) as server:

        async def receive() -> dict[str, Any]:
            await asyncio.Event().wait()
            return {}

        async def send(_message: Any) -> None:
            raise ZeroDivisionError

        query = b"cf_connect=%7B%22id%22%3A1%2C%22connect%22%3A%7B%7D%7D"
        scope = {"type": "http", "method": "GET", "path": "/connection/sse", "headers": [], "query_string": query}
        stream = server.realtime.application(scope)
        assert stream is not None
        with pytest.raises(ZeroDivisionError):
            await stream(scope, receive, send)
        assert is_empty(server)
