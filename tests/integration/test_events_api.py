"""`POST /api/v1/events` over real HTTP: what is stored, what is answered, and what is refused before it is read."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from redis.asyncio import Redis

from tests.support.app import API_KEY, RunningApp, running_app, settings_for

JSON = {"content-type": "application/json"}


@pytest.fixture
async def app(redis_url: str, tmp_path: Path) -> AsyncIterator[RunningApp]:
    async with running_app(settings_for(redis_url, tmp_path, max_event_bytes=4_096)) as running:
        yield running


@pytest.mark.parametrize("encode", [to_binary_event, to_structured_event])
async def test_the_cloudevents_sdk_publishes(app: RunningApp, encode: object) -> None:
    """Binary and structured, as the SDK makes them; attributes and data arrive, and again is a duplicate.

    The SDK fills in another time for each.
    """
    attributes = {
        "specversion": "1.0",
        "id": "sdk-1",
        "source": "/sdk",
        "type": "order.created",
        "channel": "orders",
        "team": "shop",
    }

    async def publish() -> httpx.Response:
        message = encode(CloudEvent(attributes=attributes, data={"amount": 5}))  # type: ignore[operator]
        return await app.client.post("/api/v1/events", content=message.body, headers=message.headers)

    answer = await publish()
    again = await publish()
    shown = await app.client.get("/api/v1/events/sdk-1", params={"source": "/sdk"})

    assert answer.status_code == 202, answer.text
    content = shown.json()["event"]
    assert (content["data"], content["team"], content["channel"]) == ({"amount": 5}, "shop", "orders")
    assert again.json() == {"id": "sdk-1", "matched": 0, "duplicate": True}


async def test_a_batch_is_answered_entry_by_entry(app: RunningApp) -> None:
    """Accepted, duplicate and refused ones each have their place in the answer."""
    event = {"specversion": "1.0", "id": "1", "source": "/s", "type": "a"}

    answer = await app.client.post(
        "/api/v1/events",
        content=json.dumps([event, {**event, "id": ""}, event, {**event, "type": "b"}]),
        headers={"content-type": "application/cloudevents-batch+json"},
    )

    assert answer.status_code == 202
    first, invalid, duplicate, reused = answer.json()
    assert first == {"id": "1", "matched": 0, "duplicate": False}
    assert (invalid["error"]["reason"], invalid["error"]["field"]) == ("InvalidEvent", "id")
    assert duplicate == {"id": "1", "matched": 0, "duplicate": True}
    assert reused["error"]["reason"] == "EventIdReused"


async def test_a_batch_without_a_good_event_is_a_failure(app: RunningApp) -> None:
    """A sender that looks at the status alone sees that nothing was taken."""
    answer = await app.client.post("/api/v1/events", json=[{"typ": "a"}, 5])

    assert answer.status_code == 400
    assert [entry["error"]["reason"] for entry in answer.json()] == ["InvalidEvent", "InvalidEvent"]


async def test_an_id_of_another_body_is_a_conflict(app: RunningApp) -> None:
    """The same id again is a duplicate; with another body it is 409."""
    event = {"type": "order.created", "id": "1", "data": 1}

    first = await app.client.post("/api/v1/events", json=event)
    again = await app.client.post("/api/v1/events", json=event)
    other = await app.client.post("/api/v1/events", json={**event, "data": 2})

    assert [answer.status_code for answer in (first, again, other)] == [202, 202, 409]
    assert again.json()["duplicate"] is True
    assert other.json()["reason"] == "EventIdReused"


async def test_an_idempotency_key_makes_a_repetition_a_duplicate(app: RunningApp) -> None:
    """Quoted or not, it is one key (RFC 9651 string)."""
    first = await app.client.post("/api/v1/events", json={"type": "a"}, headers={"Idempotency-Key": '"k-1"'})
    again = await app.client.post("/api/v1/events", json={"type": "a"}, headers={"Idempotency-Key": "k-1"})

    assert first.json()["id"] == again.json()["id"]
    assert again.json()["duplicate"] is True


@pytest.mark.parametrize(
    ("headers", "body", "status", "reason", "field"),
    [
        ({}, b"{}", 415, "UnsupportedMediaType", "content-type"),
        (JSON, b"{}", 400, "InvalidEvent", "type"),
        (JSON, b"{", 400, "InvalidEvent", None),
        (JSON, b'{"type":"hookcast.x"}', 403, "ReservedType", "type"),
        ({**JSON, "content-encoding": "gzip"}, b"{}", 415, "UnsupportedMediaType", "content-encoding"),
        ({**JSON, "x-hookcast-hops": "9"}, b'{"type":"a"}', 422, "TooManyHops", "x-hookcast-hops"),
        ({**JSON, "x-hookcast-hops": "many"}, b'{"type":"a"}', 400, "InvalidRequest", "x-hookcast-hops"),
        ({**JSON, "idempotency-key": "k" * 256}, b'{"type":"a"}', 400, "InvalidRequest", "idempotency-key"),
        ({"content-type": "application/cloudevents+json"}, b"x" * 5_000, 413, "TooLarge", None),
        (JSON, b'{"type":"a","data":"' + b"x" * 5_000 + b'"}', 413, "TooLarge", None),
    ],
)
async def test_a_refusal_is_a_problem_that_names_the_field(
    app: RunningApp, headers: dict[str, str], body: bytes, status: int, reason: str, field: str | None
) -> None:
    """RFC 9457, with the correlation id in its header."""
    answer = await app.client.post("/api/v1/events", content=body, headers=headers)

    problem = answer.json()
    assert (answer.status_code, problem["reason"], problem.get("field")) == (status, reason, field)
    assert problem["status"] == status
    assert problem["type"].endswith(reason)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-correlation-id"]


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic abc"}])
async def test_without_a_valid_key_nothing_is_read(app: RunningApp, headers: dict[str, str]) -> None:
    """401 with how to authenticate."""
    answer = await app.client.post("/api/v1/events", content=b"{", headers={"X-API-Key": "", **headers})

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_both_ways_to_show_a_key(app: RunningApp) -> None:
    """Authorization: Bearer, or X-API-Key."""
    bearer = {"Authorization": f"Bearer {API_KEY}", "X-API-Key": ""}

    assert (await app.client.post("/api/v1/events", json={"type": "a"}, headers=bearer)).status_code == 202


async def test_a_huge_body_is_refused_without_being_read(app: RunningApp) -> None:
    """The answer comes while the body is announced but not sent."""
    port = int(app.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /api/v1/events HTTP/1.1\r\nhost: x\r\nx-api-key: {API_KEY}\r\n"
    writer.write(f"{head}content-type: application/json\r\ncontent-length: 1000000000\r\n\r\n{{".encode())

    async with asyncio.timeout(5):
        answer = await reader.read(1_000)
        rest = await reader.read()
    writer.close()

    assert answer.startswith(b"HTTP/1.1 413")
    assert b"TooLarge" in answer + rest


async def test_a_chunked_body_is_refused_once_it_is_too_large(app: RunningApp) -> None:
    """Without an announced length reading stops at the limit."""

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b"x" * 1_000

    answer = await app.client.post("/api/v1/events", content=endless(), headers=JSON)

    assert answer.status_code == 413


async def test_a_client_that_leaves_in_mid_request_does_no_harm(app: RunningApp) -> None:
    """Half a body and a closed connection: nothing is stored, and the next request is served."""
    port = int(app.url.rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /api/v1/events HTTP/1.1\r\nhost: x\r\nx-api-key: {API_KEY}\r\ncontent-type: application/json\r\n"
    writer.write(f'{head}content-length: 50\r\n\r\n{{"type"'.encode())
    await writer.drain()
    writer.close()
    await writer.wait_closed()

    assert (await app.publish())["duplicate"] is False
    assert len((await app.client.get("/api/v1/events")).json()["items"]) == 1


async def test_a_client_that_leaves_before_its_answers_is_no_error(
    app: RunningApp, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three requests in one segment and a reset: the log holds no traceback, and the next request is served."""
    port = int(app.url.rpartition(":")[2])
    head = f"POST /api/v1/events HTTP/1.1\r\nhost: x\r\nx-api-key: {API_KEY}\r\ncontent-type: application/json\r\n"
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f'{head}content-length: 12\r\n\r\n{{"type":"a"}}'.encode() * 3)
    await writer.drain()
    writer.transport.abort()

    await app.publish()
    async with asyncio.timeout(10):
        while len((await app.client.get("/api/v1/events")).json()["items"]) < 2:
            await asyncio.sleep(0.02)

    assert "Traceback" not in capsys.readouterr().out + caplog.text


async def test_many_at_once_are_all_stored(app: RunningApp) -> None:
    """Requests of the same loop tick share a write; each gets its own answer."""
    answers = await asyncio.gather(*(app.publish(data=number) for number in range(100)))

    assert len({answer["id"] for answer in answers}) == 100
    listed = await app.client.get("/api/v1/events", params={"limit": 200})
    assert {item["event"]["id"] for item in listed.json()["items"]} == {answer["id"] for answer in answers}


async def test_a_redis_that_refuses_writes_is_503_with_retry_after(app: RunningApp, redis: Redis) -> None:
    """Out of memory: the publisher is told to come back, and nothing is half stored; later it works again."""
    await redis.config_set("maxmemory", 1)
    refused = await app.client.post("/api/v1/events", json={"type": "a", "channel": "x"})
    await redis.config_set("maxmemory", 0)

    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["reason"] == "Unavailable"
    await app.publish()
    assert len((await app.client.get("/api/v1/events")).json()["items"]) == 1


async def test_the_openapi_tells_of_publishing(app: RunningApp) -> None:
    """Though its handler is no FastAPI route."""
    document = (await app.client.get("/openapi.json")).json()

    content = document["paths"]["/api/v1/events"]["post"]["requestBody"]["content"]
    assert set(content) == {
        "application/json",
        "application/cloudevents+json",
        "application/cloudevents-batch+json",
    }
    assert {"202", "400", "401", "409", "413", "503"} <= document["paths"]["/api/v1/events"]["post"]["responses"].keys()
