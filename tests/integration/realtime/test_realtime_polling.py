"""Long polls: what a client that can do nothing but ask is promised."""

import asyncio
import time
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from hookcast_app.realtime.context import Timing
from hookcast_app.realtime.polling import MAX_ANSWER
from hookcast_app.settings import ApiKey
from tests.integration.realtime.server import PATIENCE, Server, client, serving, token, until

NAMESPACES = {
    "": {"subscribe": "anyone", "publish": "subscribers", "history_size": 5},
    "last": {"subscribe": "anyone", "history_size": 5, "cache_last": True},
    "long": {"subscribe": "anyone", "history_size": 1000},
    "plain": {"subscribe": "anyone", "history_size": 0},
    "members": {"subscribe": "authenticated", "history_size": 5},
    "one": {"subscribe": "anyone", "history_size": 5, "max_subscribers": 1},
}
READER, WRITER = "reader-0123456789abcdef", "writer-0123456789abcdef"
API_KEYS = (
    ApiKey(name="reader", key=SecretStr(READER), scopes=frozenset({"read"})),
    ApiKey(name="writer", key=SecretStr(WRITER), scopes=frozenset({"events:write"})),
)


async def asked(server: Server, channel: str = "a", headers: dict[str, str] | None = None, **params: Any) -> Any:
    """The answer to one poll: its content if it is 200, else its status."""
    async with httpx.AsyncClient(timeout=PATIENCE) as http:
        url = f"{server.http_url}/api/v1/channels/{channel}/messages"
        answer = await http.get(url, params=params, headers=headers)
    return answer.json() if answer.status_code == 200 else answer.status_code


async def publish(server: Server, channel: str, *numbers: int) -> None:
    for number in numbers:
        await server.realtime.publish(channel, b"%d" % number)


def offsets(answer: Any) -> list[int]:
    return [message["offset"] for message in answer["messages"]]


async def test_the_first_poll_tells_where_the_channel_stands(redis_url: str) -> None:
    """At once; the next ones go on from there, and their messages are not given again."""
    async with serving(redis_url, channel_namespaces=NAMESPACES) as server:
        await publish(server, "a", 7)
        first = await asked(server)
        epoch = first["position"].partition(":")[0]
        assert first == {"messages": [], "position": f"{epoch}:1", "recovered": True}
        await publish(server, "a", 8, 9)

        second = await asked(server, after=first["position"])
        messages = [{"offset": 2, "data": 8}, {"offset": 3, "data": 9}]
        assert second == {"messages": messages, "position": f"{epoch}:3", "recovered": True}
        third = await asked(server, after=second["position"], wait=0)
        assert third == {"messages": [], "position": f"{epoch}:3", "recovered": True}


@pytest.mark.parametrize("channel", ["a", "last:a"])
async def test_a_poll_waits_for_something_new(redis_url: str, channel: str) -> None:
    """It is answered when that comes, and shows who published; with `cache_last` the newest is not given again."""
    async with serving(redis_url, channel_namespaces=NAMESPACES) as server, client(server) as author:
        await publish(server, channel, 1)
        position = (await asked(server, channel))["position"]
        waiting = asyncio.create_task(asked(server, channel, after=position))
        await until(lambda: server.subscribers(channel) == 1)
        assert server.realtime.stats.connections["poll"] == 1
        if channel == "a":
            await author.ask({"id": 2, "subscribe": {"channel": "a"}})
            await author.send({"id": 3, "publish": {"channel": "a", "data": "hi"}})
        else:
            await publish(server, channel, 2)

        answer = await waiting
        assert offsets(answer) == [2]
        assert answer["recovered"]
        assert answer["position"].endswith(":2")
        assert channel != "a" or answer["messages"][0]["info"]["user"] == ""
        await until(lambda: server.realtime.stats.connections["poll"] == 0)


async def test_nothing_new_is_an_answer_too(redis_url: str) -> None:
    """After the time that was asked for, with the same position."""
    async with serving(redis_url, channel_namespaces=NAMESPACES) as server:
        position = (await asked(server))["position"]
        began = time.monotonic()
        assert await asked(server, after=position, wait=1) == {"messages": [], "position": position, "recovered": True}
        assert time.monotonic() - began >= 1
        assert server.realtime._broker._feeds == {}


@pytest.mark.parametrize("after", ["{epoch}:1", "{epoch}:99", "0a1b2c3d:9", "0a1b2c3d:1"])
async def test_a_position_that_is_gone_gives_nothing_partial(redis_url: str, after: str) -> None:
    """Older than what is kept, of the future, of another epoch: told at once, with the position to go on from."""
    async with serving(redis_url, channel_namespaces=NAMESPACES) as server:
        await publish(server, "a", *range(1, 10))
        position = (await asked(server))["position"]
        epoch = position.partition(":")[0]
        found = await asked(server, after=after.format(epoch=epoch))
        assert found == {"messages": [], "position": position, "recovered": False}


async def test_a_history_that_goes_while_it_waits_is_told(redis_url: str) -> None:
    """Redis came back empty."""
    async with serving(redis_url, channel_namespaces=NAMESPACES) as server:
        await publish(server, "a", 1)
        position = (await asked(server))["position"]
        waiting = asyncio.create_task(asked(server, after=position))
        await until(lambda: server.subscribers("a") == 1)
        await server.redis.flushall()
        await publish(server, "a", 2)

        found = await waiting
        assert found["messages"] == []
        assert not found["recovered"]
        assert found["position"] != position


async def test_answers_are_bounded(redis_url: str) -> None:
    """By number and by bytes; each goes on behind the one before, and one large message comes alone."""
    async with serving(redis_url, channel_namespaces=NAMESPACES) as server:
        position = (await asked(server, "long:a"))["position"]
        await publish(server, "long:a", *range(250))
        found: list[int] = []
        for expected in (100, 100, 50):
            answer = await asked(server, "long:a", after=position, limit=100)
            assert len(answer["messages"]) == expected
            position = answer["position"]
            found += offsets(answer)
        assert found == list(range(1, 251))
        for size in (10, 600_000, 600_000, MAX_ANSWER + 1, 10):
            await server.realtime.publish("long:a", b'"%b"' % (b"x" * size))
        counts = []
        while (answer := await asked(server, "long:a", after=position, wait=0))["messages"]:
            counts.append(len(answer["messages"]))
            position = answer["position"]
        assert counts == [2, 1, 1, 1]


async def test_who_may_poll(redis_url: str) -> None:
    """A connection token, an API key with the scope `read`, or nobody where anonymous clients may."""
    async with serving(redis_url, channel_namespaces=NAMESPACES, api_keys=API_KEYS) as server:
        allowed = [{"Authorization": f"Bearer {token('ann')}"}, {"Authorization": f"Bearer {READER}"}]
        for headers in [*allowed, {"X-API-Key": READER}]:
            assert (await asked(server, "members:a", headers))["recovered"], headers
        assert (await asked(server, "members:a", token=token("ann")))["recovered"]
        assert (await asked(server, "a"))["recovered"]
        assert await asked(server, "members:a") == 403
        assert await asked(server, "members:a", {"X-API-Key": WRITER}) == 403
        assert await asked(server, "a", {"X-API-Key": "unknown"}) == 401
        assert await asked(server, "a", {"Authorization": "Bearer unknown"}) == 401
        assert await asked(server, "a", token=token("ann", exp=1)) == 401
    async with serving(redis_url, channel_namespaces=NAMESPACES, realtime_anonymous=False) as server:
        assert await asked(server, "a") == 401


@pytest.mark.parametrize(
    "params",
    [{"after": text} for text in ("", "nonsense", "a:b", "a:-1", ":1", "x" * 65, "a:1 ", "é:1")]
    + [{"wait": each} for each in (-1, 61, "x", "nan", "1e3")]
    + [{"limit": each} for each in (0, -1, 1001, "x")],
)
async def test_what_cannot_be_asked_is_refused(redis_url: str, params: dict[str, Any]) -> None:
    """400 or FastAPI's 422, which the app makes 400; never an error of ours, never a wait."""
    async with serving(redis_url, channel_namespaces=NAMESPACES) as server:
        assert await asked(server, "a", **params) in {400, 422}
        assert server.realtime.stats.connections["poll"] == 0


async def test_a_channel_without_history_cannot_be_polled(redis_url: str) -> None:
    """The answer says which setting it lacks."""
    async with serving(redis_url, channel_namespaces=NAMESPACES) as server, httpx.AsyncClient() as http:
        answer = await http.get(f"{server.http_url}/api/v1/channels/plain:a/messages")
        assert answer.status_code == 400
        assert answer.json()["field"] == "channel"
        assert "history_size" in answer.json()["detail"]
        assert await asked(server, "a b") == 400


async def test_polls_count_as_subscribers(redis_url: str) -> None:
    """The limit of a channel's subscribers holds for those that wait."""
    async with serving(redis_url, channel_namespaces=NAMESPACES) as server:
        position = (await asked(server, "one:a"))["position"]
        waiting = asyncio.create_task(asked(server, "one:a", after=position))
        await until(lambda: server.subscribers("one:a") == 1)
        assert await asked(server, "one:a", after=position) == 403
        await publish(server, "one:a", 1)
        assert offsets(await waiting) == [1]


async def test_an_address_has_so_many_polls_a_second(redis_url: str) -> None:
    """They come in by the same door as other connections."""
    async with serving(redis_url, channel_namespaces=NAMESPACES, connects_per_second=1) as server:
        answers = [await asked(server) for _ in range(4)]
        assert answers[-1] == 429


async def test_draining_answers_at_once(redis_url: str) -> None:
    """Those that wait, and those that come meanwhile; a client goes on with another process."""
    async with (
        serving(redis_url, channel_namespaces=NAMESPACES) as one,
        serving(redis_url, channel_namespaces=NAMESPACES) as two,
    ):
        position = (await asked(one))["position"]
        empty = {"messages": [], "position": position, "recovered": True}
        waiting = asyncio.create_task(asked(one, after=position, wait=60))
        await until(lambda: one.subscribers("a") == 1)
        await one.realtime.drain(0)
        assert await waiting == empty
        assert await asked(one, after=position, wait=60) == empty
        await publish(one, "a", 1)
        assert offsets(await asked(two, after=position)) == [1]


async def test_nothing_is_left_of_a_client_that_went(redis_url: str) -> None:
    """At once, not when its time is up."""
    async with serving(redis_url, channel_namespaces=NAMESPACES) as server:
        position = (await asked(server))["position"]
        waiting = asyncio.create_task(asked(server, after=position, wait=60))
        await until(lambda: server.subscribers("a") == 1)
        waiting.cancel()
        await until(lambda: server.subscribers("a") == 0)
        assert server.realtime.stats.connections["poll"] == 0
        assert not server.realtime._clients.all
        assert server.realtime._broker._feeds == {}


async def test_a_token_that_expires_ends_the_wait(redis_url: str) -> None:
    """A client whose time is up gets nothing after it."""
    async with serving(redis_url, channel_namespaces=NAMESPACES) as server:
        position = (await asked(server))["position"]
        began = time.monotonic()
        answer = await asked(server, after=position, wait=60, token=token("ann", exp=time.time() + 2))
        assert answer["messages"] == []
        assert time.monotonic() - began < PATIENCE


async def test_a_redis_that_does_not_answer_is_unavailable(redis_url: str) -> None:
    """503, and nothing is left of the attempt."""
    async with serving(redis_url, channel_namespaces=NAMESPACES, timing=Timing(redis=0.05)) as server:
        await server.redis.client_pause(300)
        assert await asked(server) == 503
        assert server.realtime.stats.connections["poll"] == 0


async def test_allowed_pages_of_other_sites_may_poll(redis_url: str) -> None:
    """CORS as for event streams."""
    async with (
        serving(redis_url, channel_namespaces=NAMESPACES, allowed_origins=("https://app.example",)) as server,
        httpx.AsyncClient() as http,
    ):
        url = f"{server.http_url}/api/v1/channels/a/messages"
        answer = await http.get(url, headers={"Origin": "https://app.example"})
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        assert answer.headers["cache-control"] == "no-store"
        answer = await http.get(url, headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in answer.headers
