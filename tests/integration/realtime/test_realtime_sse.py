"""Plain server-sent events: what an EventSource is promised."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from hookcast_app.realtime.context import Timing
from hookcast_app.realtime.session import MAX_SUBSCRIPTIONS
from tests.integration.realtime.server import PATIENCE, Server, application, client, serving, token, until


class Stream:
    """Events as an EventSource reads them (HTML, 9.2.6), and comments."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def block(self) -> list[str]:
        """The lines up to the next blank one; empty at the end of the stream."""
        lines: list[str] = []
        async with asyncio.timeout(PATIENCE):
            async for line in self._lines:
                if not line:
                    return lines
                lines.append(line)
        return lines

    async def event(self) -> tuple[str, Any]:
        """The next event's type and data."""
        lines = [line for line in await self.block() if line.startswith(("data:", "event:"))]
        if not lines:
            return await self.event()
        name = next((line[7:] for line in lines if line.startswith("event:")), "message")
        return name, json.loads("\n".join(line[6:] for line in lines if line.startswith("data:")))


@asynccontextmanager
async def listening(server: Server, path: str, **options: Any) -> AsyncIterator[Stream]:
    async with (
        httpx.AsyncClient(timeout=PATIENCE) as http,
        http.stream("GET", server.http_url + path, **options) as got,
    ):
        stream = Stream(got)
        if got.status_code == 200:
            assert await stream.block() == ["retry: 1000"]
        yield stream


async def status(server: Server, path: str, **options: Any) -> int:
    async with httpx.AsyncClient(timeout=PATIENCE) as http:
        return (await http.get(server.http_url + path, **options)).status_code


async def test_one_channel_gives_its_data(server: Server) -> None:
    """In order, as what a WebSocket on the channel gets; proxies are told to hold nothing back."""
    async with listening(server, "/sse/open:a") as stream, client(server, "open:a") as reader:
        for number in range(50):
            await server.realtime.publish("open:a", b'{"n":\n%d}' % number)

        assert [await stream.event() for _ in range(50)] == [("message", {"n": number}) for number in range(50)]
        assert [(await reader.next())["push"]["pub"]["data"]["n"] for _ in range(50)] == list(range(50))
        headers = stream.response.headers
        assert headers["content-type"] == "text/event-stream"
        assert headers["cache-control"] == "no-store"
        assert headers["x-accel-buffering"] == "no"
        assert server.realtime.stats.connections["sse"] == 1


async def test_several_channels_are_told_apart(server: Server) -> None:
    """By the data, so that `onmessage` is enough; a channel that is named twice counts once."""
    async with listening(server, "/sse?channel=open:a&channel=open:b&channel=open:a") as stream:
        await server.realtime.publish("open:a", b"1")
        first = await stream.event()
        await server.realtime.publish("open:b", b"2")

        assert first == ("message", {"channel": "open:a", "data": 1})
        assert await stream.event() == ("message", {"channel": "open:b", "data": 2})
    async with listening(server, "/sse?channel=open:a") as stream:
        await server.realtime.publish("open:a", b"3")
        assert await stream.event() == ("message", {"channel": "open:a", "data": 3})


async def test_who_may_listen(server: Server) -> None:
    """A token in the header or the query; anonymous clients where the namespace allows them."""
    bearer = {"Authorization": f"Bearer {token('ann')}"}

    async with listening(server, "/sse/members", headers=bearer) as stream:
        assert stream.response.status_code == 200
    async with listening(server, f"/sse/private%23ann?token={token('ann')}") as stream:
        assert stream.response.status_code == 200
    assert await status(server, "/sse/members") == 403
    assert await status(server, "/sse/private%23bob", headers=bearer) == 403
    assert await status(server, "/sse/open:a?token=forged") == 401
    assert await status(server, f"/sse/open:a?token={token('ann', exp=1)}") == 401
    assert await status(server, "/sse/a%20b", headers=bearer) == 400
    assert await status(server, "/sse") == 422
    many = "&".join(f"channel=open:{number}" for number in range(MAX_SUBSCRIPTIONS + 1))
    assert await status(server, f"/sse?{many}") == 400
    assert server.realtime.stats.refused == 2


async def test_without_anonymous_a_token_is_needed(redis_url: str) -> None:
    """Whatever the namespace says."""
    async with serving(redis_url, realtime_anonymous=False) as server:
        assert await status(server, "/sse/open:a") == 401


async def test_a_full_channel_is_refused(server: Server) -> None:
    """The limit of subscribers counts event streams too."""
    async with client(server, "small:a"):
        assert await status(server, "/sse/small:a") == 403


async def test_allowed_pages_of_other_sites_may_read(redis_url: str) -> None:
    """CORS for the origins in the settings, and for no others."""
    async with serving(redis_url, allowed_origins=("https://app.example",)) as server:
        async with listening(server, "/sse/open:a", headers={"Origin": "https://app.example"}) as stream:
            assert stream.response.headers["access-control-allow-origin"] == "https://app.example"
            assert stream.response.headers["vary"] == "Origin"
        async with listening(server, "/sse/open:a", headers={"Origin": "https://evil.example"}) as stream:
            assert "access-control-allow-origin" not in stream.response.headers


async def test_a_quiet_stream_shows_life(redis_url: str) -> None:
    """A comment, which proxies see and clients do not."""
    async with serving(redis_url, timing=Timing(ping=0.05)) as server, listening(server, "/sse/open:a") as stream:
        assert await stream.block() == [": ping"]
        assert await stream.block() == [": ping"]


async def test_a_stream_ends_with_its_token(redis_url: str) -> None:
    """In an orderly way; the client then needs another one."""
    async with serving(redis_url) as server:
        path = f"/sse/members?token={token('ann', exp=time.time() + 3)}"
        async with listening(server, path) as stream:
            assert await stream.block() == []
        assert await status(server, path) == 401


async def test_draining_ends_streams_so_that_clients_come_back(server: Server) -> None:
    """An EventSource comes back after an ended stream, and never after a status that is not 200."""
    async with listening(server, "/sse/open:a") as stream:
        await server.realtime.drain(0)
        assert await stream.block() == []
    async with listening(server, "/sse/open:a") as stream:
        assert await stream.block() == []


async def test_a_lost_connection_to_redis_is_told(server: Server) -> None:
    """A `reset` event names the channel; the stream goes on."""
    async with listening(server, "/sse/open:a") as stream:
        await server.redis.client_kill_filter(_type="pubsub")

        assert await stream.event() == ("reset", {"channel": "open:a"})
        await server.realtime.publish("open:a", b"1")
        assert await stream.event() == ("message", 1)


async def test_nothing_is_left_of_a_client_that_went(server: Server) -> None:
    """At once, not when it is next written to."""
    async with listening(server, "/sse?channel=open:a&channel=open:b"):
        assert server.subscribers("open:a") == 1

    await until(lambda: server.realtime.stats.connections["sse"] == 0)
    assert server.subscribers("open:a") == 0
    assert not server.realtime._clients.all


async def test_a_redis_that_does_not_answer_is_unavailable(redis_url: str) -> None:
    """503 before the stream begins, and nothing is left of the attempt."""
    async with serving(redis_url, timing=Timing(redis=0.05)) as server:
        await server.redis.client_pause(300)

        assert await status(server, "/sse?channel=open:a&channel=open:b") == 503
        assert server.realtime.stats.connections["sse"] == 0


async def test_a_failing_send_that_is_not_the_peers_is_a_defect(redis_url: str) -> None:
    """It is raised, not hidden."""
    async with serving(redis_url) as server:
        received = asyncio.Event()

        async def receive() -> dict[str, Any]:
            await received.wait()
            return {}

        async def send(_message: Any) -> None:
            raise ZeroDivisionError

        app = application(server.realtime)
        scope = {"type": "http", "method": "GET", "path": "/sse/open:a", "headers": [], "query_string": b""}
        with pytest.raises(ZeroDivisionError):
            await app(scope, receive, send)
        assert server.realtime.stats.connections["sse"] == 0
