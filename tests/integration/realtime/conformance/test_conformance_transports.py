"""Server-sent events and HTTP streaming, with `/emulation` as the way up, word by word."""

import json
from typing import Any

import httpx
import pytest

from tests.integration.realtime.conformance.channels import fresh
from tests.integration.realtime.conformance.raw import (
    PATIENCE,
    TRANSPORTS,
    Emulated,
    Transport,
    connected,
    opened,
)
from tests.integration.realtime.conformance.target import Target, only_ours

EMULATED: tuple[Transport, ...] = ("sse", "http_stream")
STREAM_HEADERS = {
    "cache-control": "private, no-cache, no-store, must-revalidate, max-age=0",
    "x-accel-buffering": "no",
}


def http() -> httpx.AsyncClient:
    """A client that waits no longer than the test."""
    return httpx.AsyncClient(timeout=PATIENCE, trust_env=False)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_every_transport_does_the_same(target: Target, transport: Transport) -> None:
    """Commands in one message or in several, replies by id, pushes, errors."""
    channel = fresh()
    async with connected(target, channel, user="ann", transport=transport) as client:
        await client.push("join")
        await client.send(
            {"id": 2, "publish": {"channel": channel, "data": {"x": 1}}},
            {"id": 3, "presence_stats": {"channel": channel}},
        )
        assert await client.reply(2) == {"id": 2, "publish": {}}
        assert (await client.push("pub"))["pub"]["data"] == {"x": 1}
        assert await client.reply(3) == {"id": 3, "presence_stats": {"num_clients": 1, "num_users": 1}}
        await target.publish(channel, '{"text": "é\\n"}'.encode())
        assert (await client.push("pub"))["pub"]["data"] == {"text": "é\n"}
        assert (await client.ask({"id": 4, "subscribe": {"channel": channel}}))["error"]["code"] == 105


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_every_transport_recovers(target: Target, transport: Transport) -> None:
    """What was missed comes with the subscription."""
    channel = fresh()
    async with connected(target, transport=transport) as client:
        epoch = (await client.ask({"id": 2, "subscribe": {"channel": channel}}))["subscribe"]["epoch"]
    await target.publish(channel, b"1")
    async with connected(target, transport=transport) as client:
        ask = {"channel": channel, "recover": True, "epoch": epoch}
        reply = (await client.ask({"id": 2, "subscribe": ask}))["subscribe"]
        assert reply["recovered"] is True
        assert reply["publications"] == [{"data": 1, "offset": 1}]


@pytest.mark.parametrize("transport", EMULATED)
async def test_emulated_connections_have_a_session(target: Target, transport: Transport) -> None:
    """At the end of the connect reply; a session is no client's id, and nobody can guess it."""
    async with opened(target, transport) as one, opened(target, transport) as other:
        first, second = [(await client.ask({"id": 1, "connect": {}}))["connect"] for client in (one, other)]
        assert first["node"]
        assert len(first["session"]) >= 22
        assert first["session"] not in {second["session"], first["client"]}
        assert {"ping": 25, "pong": True}.items() <= first.items()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_every_transport_tells_a_disconnect(target: Target, transport: Transport) -> None:
    """By the close frame, or by a push and then the end."""
    async with connected(target, user="ann", transport=transport) as client:
        await target.disconnect("ann")
        assert await client.closed() == (3503, "force disconnect")


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("command", "told"),
    [
        ({"id": 1, "connect": {"token": "forged"}}, (3500, "invalid token")),
        ({"id": 1, "subscribe": {"channel": "full:a"}}, (3501, "bad request")),
    ],
    ids=["token", "no connect"],
)
async def test_every_transport_refuses_alike(
    target: Target, transport: Transport, command: Any, told: tuple[int, str]
) -> None:
    """Streams begin with status 200 all the same: clients read the code from the push."""
    async with opened(target, transport) as client:
        await client.send(command)
        assert await client.closed() == told


@pytest.mark.parametrize("transport", EMULATED)
async def test_a_bad_command_by_emulation_ends_the_stream(target: Target, transport: Transport) -> None:
    """The POST is answered 204; the stream says why it ends."""
    async with connected(target, transport=transport) as client:
        await client.send_text("{bad")
        assert await client.closed() == (3501, "bad request")


async def test_sse_is_one_event_for_each_line(target: Target) -> None:
    """Headers that keep proxies from holding it back; a line break first, then `data: …` and an empty line."""
    channel = fresh()
    commands = f'{{"id":1,"connect":{{}}}}\n{{"id":2,"subscribe":{{"channel":"{channel}"}}}}'
    async with http() as client, client.stream("GET", target.sse_url, params={"cf_connect": commands}) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].replace("; charset=utf-8", "") == "text/event-stream"
        assert STREAM_HEADERS.items() <= response.headers.items()
        text = b""
        async for part in response.aiter_bytes():
            text += part
            if text.count(b"\n\n") >= 3:
                break
        events = text.decode().lstrip("\r\n").split("\n\n")
        lines = [json.loads(event.removeprefix("data: ")) for event in events if event]
        assert all(event.startswith("data: {") and "\n" not in event for event in events if event)
        assert [line.get("id") for line in lines[:2]] == [1, 2]
        assert "join" in lines[2]["push"]


async def test_sse_takes_a_post_too(target: Target) -> None:
    """For tokens that are too long for a URL."""
    async with http() as client, client.stream("POST", target.sse_url, content='{"id":1,"connect":{}}') as response:
        async for line in response.aiter_lines():
            if line:
                assert json.loads(line.removeprefix("data: "))["connect"]["session"]
                break


async def test_http_stream_is_lines(target: Target) -> None:
    """One reply or push on each."""
    commands = '{"id":1,"connect":{}}\n{"id":2,"unsubscribe":{"channel":"a"}}'
    async with http() as client, client.stream("POST", target.stream_url, content=commands) as response:
        assert response.status_code == 200
        assert STREAM_HEADERS.items() <= response.headers.items()
        text = b""
        async for part in response.aiter_bytes():
            text += part
            if text.count(b"\n") >= 2:
                break
        first, second, rest = text.split(b"\n")
        assert json.loads(first)["connect"]["session"]
        assert json.loads(second) == {"id": 2, "unsubscribe": {}}
        assert rest == b""


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/connection/sse", 400),
        ("PUT", "/connection/sse", 405),
        ("GET", "/connection/http_stream", 405),
        ("GET", "/emulation", 405),
        ("POST", "/emulation", 400),
    ],
)
async def test_other_requests_are_refused(target: Target, method: str, path: str, status: int) -> None:
    """Without a command, or by another method."""
    async with http() as client:
        assert (await client.request(method, f"{target.http_url}{path}")).status_code == status


@pytest.mark.parametrize("path", ["/connection/http_stream", "/emulation"])
async def test_browsers_may_ask_first(target: Target, path: str) -> None:
    """The preflight is 204."""
    headers = {"Origin": "https://app.test", "Access-Control-Request-Method": "POST"}
    async with http() as client:
        answer = await client.options(f"{target.http_url}{path}", headers=headers)
        assert answer.status_code == 204
        assert "POST" in answer.headers["access-control-allow-methods"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, 204),
        ({"session": "gone"}, 204),
        ({"later": 1}, 204),
        ({"data": "x" * 70_000}, 413),
    ],
    ids=["sound", "gone", "more", "big"],
)
async def test_emulation_is_answered_by_status_alone(target: Target, change: Any, status: int) -> None:
    """204 without a body, also for a session that is gone: its client learns that from its stream.

    A refusal may say why.
    """
    async with connected(target, transport="sse") as client, http() as poster:
        assert isinstance(client, Emulated)
        command = json.dumps({"id": 2, "unsubscribe": {"channel": "a"}})
        answer = await poster.post(target.emulation_url, json={**client.session, "data": command, **change})
        assert answer.status_code == status
        assert status != 204 or answer.content == b""
        if "session" not in change and status == 204:
            assert await client.reply(2) == {"id": 2, "unsubscribe": {}}


async def test_emulation_of_an_unknown_node_is_404(target: Target) -> None:
    """The client connects again then."""
    async with connected(target, transport="sse") as client, http() as poster:
        assert isinstance(client, Emulated)
        answer = await poster.post(target.emulation_url, json={**client.session, "node": "gone", "data": "{}"})
        assert answer.status_code == 404


@only_ours("which origins may ask is a setting")
async def test_other_origins_are_not_let_in(target: Target) -> None:
    """No header that lets a page of another origin read it."""
    async with http() as client:
        answer = await client.options(
            f"{target.http_url}/emulation",
            headers={"Origin": "https://evil.test", "Access-Control-Request-Method": "POST"},
        )
        assert answer.status_code in {204, 403}
        assert "access-control-allow-origin" not in answer.headers
