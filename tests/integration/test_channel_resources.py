"""Channels, users and nodes by the REST API: problems instead of codes, and scopes."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from hookcast_app.realtime import Disconnect, Order, Subscribe, Unsubscribe
from hookcast_app.settings import ChannelOptions
from tests.support.app import READER_KEY, RunningApp, eventually, running_app, settings_for

NAMESPACES = {"chat": ChannelOptions(history_size=10, presence=True), "plain": ChannelOptions()}
CHANNEL = "/api/v1/channels/chat:lobby"


@pytest.fixture
async def app(redis_url: str, tmp_path: Path) -> AsyncIterator[RunningApp]:
    settings = settings_for(redis_url, tmp_path, channel_namespaces=NAMESPACES, max_event_bytes=1_024)
    async with running_app(settings) as running:
        yield running


async def test_what_is_published_is_in_the_history(app: RunningApp) -> None:
    """As it was written; a key counts once; what is to be skipped is not there."""
    headers = {"Idempotency-Key": "k", "Content-Type": "application/json"}
    body = '{"data": {"n": 12345678901234567890.10}, "tags": {"a": "b"}}'
    first = await app.client.post(f"{CHANNEL}/publications", content=body, headers=headers)
    assert (first.status_code, first.json()["offset"]) == (200, 1)
    again = await app.client.post(f"{CHANNEL}/publications", json={"data": 2}, headers=headers)
    assert again.json() == first.json()
    skipped = await app.client.post(f"{CHANNEL}/publications", json={"data": 3, "skipHistory": True})
    assert skipped.json() == {"offset": 0, "epoch": ""}
    history = await app.client.get(f"{CHANNEL}/history")
    assert '"data":{"n": 12345678901234567890.10},"tags":{"a":"b"}}]' in history.text
    assert history.json()["epoch"] == first.json()["epoch"]


async def test_a_history_is_read_in_parts(app: RunningApp) -> None:
    """From a position on, or back, not from one of another epoch; removed it is empty, and stands where it stood."""
    for number in range(1, 6):
        await app.client.post(f"{CHANNEL}/publications", json={"data": number})

    async def offsets(**parameters: Any) -> list[int]:
        answer = await app.client.get(f"{CHANNEL}/history", params=parameters)
        assert answer.status_code == 200, answer.text
        return [item["offset"] for item in answer.json()["items"]]

    assert await offsets(limit=2) == [1, 2]
    assert await offsets(offset=3) == [4, 5]
    assert await offsets(reverse=True, offset=3) == [2, 1]
    other = await app.client.get(f"{CHANNEL}/history", params={"offset": 3, "epoch": "other"})
    assert (other.status_code, other.json()["field"]) == (409, "since.epoch")
    assert (await app.client.delete(f"{CHANNEL}/history")).status_code == 204
    assert (await app.client.get(f"{CHANNEL}/history")).json()["offset"] == 5
    assert await offsets() == []


REFUSED: list[tuple[str, str, Any, int, str | None]] = [
    ("POST", f"{CHANNEL}/publications", {}, 422, "data"),
    ("POST", f"{CHANNEL}/publications", {"data": 1, "skip_history": True}, 422, "skip_history"),
    ("POST", f"{CHANNEL}/publications", {"data": 1, "tags": {"a": 1}}, 422, "tags.a"),
    ("POST", f"{CHANNEL}/publications", {"data": "x" * 1_024}, 413, "data"),
    ("POST", "/api/v1/channels/a%20b/publications", {"data": 1}, 400, "channel"),
    ("GET", "/api/v1/channels/plain:a/presence", None, 404, "channel"),
    ("GET", "/api/v1/channels/plain:a/presence-stats", None, 404, "channel"),
    ("GET", "/api/v1/channels/plain:a/history", None, 404, "channel"),
    ("DELETE", "/api/v1/channels/plain:a/history", None, 404, "channel"),
    ("GET", f"{CHANNEL}/history?limit=1001", None, 400, "limit"),
    ("GET", f"{CHANNEL}/history?reverse=true&offset=0", None, 400, "since.offset"),
    ("GET", "/api/v1/channels?pattern=%7Ba%7D", None, 400, "pattern"),
    ("DELETE", "/api/v1/users/ann/connections?code=1000", None, 400, "disconnect.code"),
    ("DELETE", f"/api/v1/users/ann/connections?code=4000&reason={quote('ä' * 62)}", None, 400, "disconnect.reason"),
    ("POST", "/api/v1/users/ann/subscriptions/a%20b", None, 400, "channel"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "field"), REFUSED)
async def test_what_does_not_hold_is_a_problem(
    app: RunningApp, method: str, path: str, body: Any, status: int, field: str | None
) -> None:
    """Which names the field."""
    answer = await app.client.request(method, path, json=body)
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json().get("field")) == (status, field), answer.text


@pytest.mark.parametrize(
    ("method", "path", "may_read"),
    [
        ("GET", "/api/v1/channels", True),
        ("GET", "/api/v1/nodes", True),
        ("GET", f"{CHANNEL}/presence", True),
        ("GET", f"{CHANNEL}/presence-stats", True),
        ("GET", f"{CHANNEL}/history", True),
        ("DELETE", f"{CHANNEL}/history", False),
        ("POST", f"{CHANNEL}/publications", False),
        ("POST", "/api/v1/users/ann/subscriptions/chat:a", False),
        ("DELETE", "/api/v1/users/ann/subscriptions/chat:a", False),
        ("DELETE", "/api/v1/users/ann/connections", False),
    ],
)
async def test_a_key_to_read_changes_nothing(app: RunningApp, method: str, path: str, may_read: bool) -> None:  # noqa: FBT001  a parameter
    """And nobody without a key does anything."""
    answer = await app.client.request(method, path, headers={"X-API-Key": READER_KEY}, json={"data": 1})
    assert answer.status_code == (200 if may_read else 403)
    assert (await app.client.request(method, path, headers={"X-API-Key": "x" * 16})).status_code == 401


class Somebody:
    """A connection that remembers what it is told to do."""

    user, client, session = "ann", "a client", ""

    def __init__(self) -> None:
        self.orders: list[Order] = []

    def carry_out(self, order: Order) -> None:
        self.orders.append(order)


async def test_users_are_told(app: RunningApp) -> None:
    """Subscribed, unsubscribed and disconnected; a channel's name and a client's id are given URL-encoded."""
    somebody = Somebody()
    assert app.application._realtime is not None
    app.application._realtime._clients.enter(somebody)
    one = f"/api/v1/users/ann/subscriptions/{quote('chat:a#ann', safe='')}"
    answers = [
        await app.client.post(one, json={"data": {"d": 1}, "info": "guest"}),
        await app.client.post(one),
        await app.client.delete(one, params={"client": "a client"}),
        await app.client.delete("/api/v1/users/ann/connections", params={"code": 4001, "reason": "mine"}),
        await app.client.delete("/api/v1/users/bob/connections"),
    ]
    assert [(answer.status_code, answer.content) for answer in answers] == [(204, b"")] * 5
    await eventually(
        lambda: (
            somebody.orders
            == [
                Subscribe(user="ann", channel="chat:a#ann", data={"d": 1}, info="guest"),
                Subscribe(user="ann", channel="chat:a#ann"),
                Unsubscribe(
                    user="ann", client="a client", channel="chat:a#ann", code=2000, reason="server unsubscribe"
                ),
                Disconnect(user="ann", code=4001, reason="mine"),
            ]
        )
    )


async def test_nodes_tell_of_themselves(app: RunningApp) -> None:
    """This one alone."""
    (node,) = (await app.client.get("/api/v1/nodes")).json()["items"]
    assert (node["clients"], node["users"], node["channels"], node["subscriptions"]) == (0, 0, 0, 0)
    assert node["version"]
    assert node["uptimeSeconds"] >= 0


async def test_the_stock_clients_api_is_there_too(app: RunningApp) -> None:
    """On the same port, for the same keys."""
    answer = await app.client.post("/api/publish", json={"channel": "chat:lobby", "data": 1})
    assert answer.json()["result"]["offset"] == 1
    assert (await app.client.post("/api/connections", json={})).status_code == 404
    metrics = app.application.metrics.registry
    labels = {"route": "/api/publish", "method": "POST", "status": "200"}
    assert metrics.get_sample_value("hookcast_http_requests_total", labels) == 1
