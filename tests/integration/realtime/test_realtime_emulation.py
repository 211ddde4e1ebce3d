"""`POST /emulation`: what comes up for a stream, from friends and from strangers."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from hookcast_app.realtime.context import Timing
from hookcast_app.realtime.door import POSTS_PER_CONNECT
from hookcast_app.realtime.emulation import PART
from hookcast_app.realtime.protocol import MAX_MESSAGE
from tests.integration.realtime.server import PATIENCE, Server, serving, until
from tests.integration.realtime.streaming import CONNECT, KINDS, PATHS, UNASKED, is_empty, peer, request, streaming

DEEP = b"[" * 60_000
NOBODY = b"00000000-0000-4000-8000-000000000000"
POSTED = (*PATHS.values(), "/emulation")


@asynccontextmanager
async def posting(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.http_url, trust_env=False, timeout=PATIENCE) as poster:
        yield poster


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"null", 400),
        (b"[]", 400),
        (b"1" * 60_000, 400),
        (DEEP, 400),
        (b'{"session":' + DEEP, 400),
        (b'{"unknown":' + DEEP, 400),
        (b'{"session":1,"node":"a","data":"{}"}', 400),
        (b'{"session":"a","node":null,"data":"{}"}', 400),
        (b'{"session":"a","node":"%b","data":{"id":1}}', 400),
        (b'{"session":"a","node":"%b","data":"\xff"}', 400),
        (b'{"session":"a","node":"%b","data":"\\ud800"}', 400),
        (b"{}", 404),
        (b'{"session":"a","node":"","data":"{}"}', 404),
        (b'{"session":"a","node":"nodes:all","data":"{}"}', 404),
        (b'{"session":"a","node":"' + NOBODY + b'","data":"{}"}', 404),
        (b'{"session":"a","node":"' + b"a" * 60_000 + b'","data":"{}"}', 404),
        (b'{"session":"a","node":"%b","data":"{}"}', 204),
        (b'{"session":"","node":"%b","data":""}', 204),
        (b'{"node":"%b"}', 204),
    ],
)
async def test_what_is_no_request_harms_nobody(redis_url: str, content: bytes, status: int) -> None:
    """It is answered by its status, and streams go on."""
    async with serving(redis_url) as server, streaming(server, "sse") as speaker, posting(server) as poster:
        sent = content.replace(b"%b", speaker.session["node"].encode())
        answer = await poster.post("/emulation", content=sent)

        assert answer.status_code == status
        assert status == 204 or answer.json()["detail"]
        assert await speaker.ask(UNASKED)


async def test_commands_that_are_none_end_the_stream(redis_url: str) -> None:
    """3501, whatever it is; the request itself is answered 204."""
    async with serving(redis_url) as server, posting(server) as poster:
        for data in ("", "\n", "{", "[" * 30_000, "\x00", '{"id":1,"connect":{}}', '{"id":-1}', "{}"):
            async with streaming(server, "http_stream") as speaker:
                answer = await poster.post("/emulation", json={**speaker.session, "data": data})
                assert answer.status_code == 204
                assert await speaker.closed() == (3501, "bad request"), data
        await until(lambda: is_empty(server))


@pytest.mark.parametrize("path", POSTED)
async def test_bodies_are_bounded(redis_url: str, path: str) -> None:
    """413 once it is known that there is too much, whether or not its sender ever ends it."""
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\n".encode()
    announced = head + b"Content-Length: %d\r\n\r\n" % (MAX_MESSAGE + 1)
    chunk = b"%x\r\n%b\r\n" % (MAX_MESSAGE // 4, b" " * (MAX_MESSAGE // 4))
    endless = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 5
    async with serving(redis_url) as server:
        for text in (announced, endless):
            async with peer(server, text) as one:
                assert await one.status() == 413
        await until(lambda: is_empty(server))
        assert not server.realtime._endpoint._door._limits._waiting


@pytest.mark.parametrize("path", POSTED)
@pytest.mark.parametrize("begun", [b"", b"{"], ids=["nothing", "a byte"])
async def test_bodies_come_in_time(redis_url: str, path: str, begun: bytes) -> None:
    """408 for one that does not."""
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n".encode()
    async with serving(redis_url, timing=Timing(connect=0.1)) as server, peer(server, head + begun) as one:
        assert await one.status() == 408
        await until(lambda: server.open_connections == 0)
        assert not server.realtime._endpoint._door._limits._waiting


@pytest.mark.parametrize("path", POSTED)
async def test_a_client_that_leaves_within_its_body_is_forgotten(redis_url: str, path: str) -> None:
    """Nobody is there to be answered."""
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{{".encode()
    async with serving(redis_url) as server:
        async with peer(server, head):
            await until(lambda: server.open_connections == 1)
        await until(lambda: server.open_connections == 0)
        assert is_empty(server)
        assert not server.realtime._endpoint._door._limits._waiting


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/connection/sse", 400),
        ("GET", "/connection/sse?cf_connect=", 400),
        ("GET", "/connection/sse?" + "a=1&" * 300, 400),
        ("POST", "/connection/sse", 400),
        ("POST", "/connection/http_stream", 400),
        ("DELETE", "/connection/sse", 405),
        ("HEAD", "/connection/sse", 405),
        ("PUT", "/connection/http_stream", 405),
        ("PATCH", "/emulation", 405),
    ],
)
async def test_other_requests_say_what_to_do(redis_url: str, method: str, path: str, status: int) -> None:
    """A problem document; 405 with what the path takes."""
    async with serving(redis_url) as server, posting(server) as poster:
        answer = await poster.request(method, path)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert ("POST" in answer.headers.get("allow", "")) == (status == 405)


async def test_an_address_posts_no_faster_than_it_may(redis_url: str) -> None:
    """429, before anything is read; a large request counts for several. Connecting is another matter."""
    head = b"POST /emulation HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"
    async with serving(redis_url, connects_per_second=1) as server, posting(server) as poster:
        server.realtime._endpoint._door._posts._clock = lambda: 0.0
        large = json.dumps({"node": "a", "data": " " * PART})
        statuses = [(await poster.post("/emulation", content=large)).status_code for _ in range(POSTS_PER_CONNECT + 1)]
        assert statuses[:POSTS_PER_CONNECT] == [404] * POSTS_PER_CONNECT
        assert statuses[-1] == 429
        async with peer(server, head) as one:
            assert await one.status() == 429
        async with streaming(server, "sse"):
            assert server.realtime.stats.refused_posts == 2


async def test_without_redis_other_processes_cannot_be_reached(redis_url: str) -> None:
    """503, so that the client connects again; streams of this process get their commands all the same."""
    timing = Timing(redis=0.05)
    async with (
        serving(redis_url, timing=timing) as one,
        serving(redis_url, timing=timing) as other,
        streaming(one, "sse") as here,
        streaming(other, "sse") as there,
        posting(one) as poster,
    ):
        await one.redis.client_pause(500)
        away = await poster.post("/emulation", json={**there.session, "data": "{}"})
        own = await poster.post("/emulation", json={**here.session, "data": json.dumps(UNASKED)})

        assert away.status_code == 503
        assert away.headers["retry-after"]
        assert own.status_code == 204
        assert await here.reply(9)


async def test_nobody_sends_in_the_name_of_another(redis_url: str) -> None:
    """A client's id, which others see, is no session; sessions differ and are long."""
    async with (
        serving(redis_url) as server,
        posting(server) as poster,
        streaming(server, "sse") as one,
        streaming(server, "sse") as other,
    ):
        assert one.session["session"] != other.session["session"]
        assert len(one.session["session"]) >= 22
        for each in list(server.realtime._clients.all):
            client = each._session.client  # type: ignore[attr-defined]
            body = {**one.session, "session": client, "data": "{bad"}
            assert (await poster.post("/emulation", json=body)).status_code == 204
        assert await one.ask(UNASKED)
        assert await other.ask(UNASKED)


@pytest.mark.parametrize(
    ("allowed", "headers", "status", "told"),
    [
        (
            ("https://app.test",),
            {"origin": "https://app.test"},
            404,
            {"access-control-allow-origin": "https://app.test"},
        ),
        (("https://app.test",), {"origin": "https://evil.test"}, 403, {}),
        (("https://app.test",), {"origin": "null"}, 403, {}),
        (("*",), {"origin": "https://evil.test"}, 404, {"access-control-allow-origin": "https://evil.test"}),
        ((), {"origin": "https://evil.test"}, 403, {}),
        ((), {}, 404, {}),
    ],
)
async def test_pages_that_may_post(
    redis_url: str, allowed: tuple[str, ...], headers: dict[str, str], status: int, told: Mapping[str, str]
) -> None:
    """As WebSockets may come; a refusal can be read by the pages that may ask. What is asked first is told as much."""
    changes: dict[str, Any] = {"allowed_origins": allowed, "jwt_cookie": "session"}
    async with serving(redis_url, **changes) as server, posting(server) as poster:
        answer = await poster.post("/emulation", content=b"{}", headers=headers)
        asked = {"access-control-request-method": "POST", "access-control-request-headers": "content-type, x-mine"}
        before = await poster.options("/emulation", headers={**headers, **asked})

        assert answer.status_code == status
        assert before.status_code == 204
        for one in (answer, before):
            cors = {name: value for name, value in one.headers.items() if name == "access-control-allow-origin"}
            assert cors == told
            is_named = "*" not in allowed and bool(told)
            assert (one.headers.get("access-control-allow-credentials") == "true") == is_named
            assert ("origin" in one.headers.get("vary", "").lower()) == bool(told)
        assert before.headers["access-control-allow-methods"] == "POST, OPTIONS"
        assert before.headers["access-control-max-age"] == "300"
        assert before.headers["access-control-allow-headers"] == "content-type, x-mine"


async def test_requests_that_follow_one_another_share_a_connection(redis_url: str) -> None:
    """Also after a stream has ended, and also where the next one does not wait."""
    async with serving(redis_url) as server:
        for kind in KINDS:
            refused = request(kind, {"id": 1, "connect": {"token": "forged"}})
            async with peer(server, refused + refused) as one:
                for _ in range(2):
                    assert await one.status() == 200
                    ended = await asyncio.wait_for(one.reader.readuntil(b"0\r\n\r\n"), PATIENCE)
                    assert b'"code":3500' in ended
                await one.send(request(kind, CONNECT))
                assert await one.status() == 200
                await asyncio.wait_for(one.reader.readuntil(b'"session"'), PATIENCE)
            await until(lambda: is_empty(server))
