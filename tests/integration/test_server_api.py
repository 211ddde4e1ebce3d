"""Centrifugo's HTTP API beyond what its stock client asks: who may, hostile bodies, several calls at once."""

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from hookcast_app.server_api import ServerApiEndpoint
from hookcast_app.server_api.calls import MAX_CALLS, MAX_PUBLICATIONS
from hookcast_app.server_api.publications import MAX_CHANNELS
from hookcast_app.server_api.routes import BATCH_FACTOR, MIN_BODY_BYTES
from tests.integration.realtime.server import client
from tests.support.server_api import ADMIN, CHANNEL, MAX_DATA, PUBLISHER, READER, REQUESTS, Api, running


@pytest.fixture
async def api(redis_url: str) -> AsyncIterator[Api]:
    async with running(redis_url) as one:
        yield one


# Who may


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"X-API-Key": "another key altogether"}, 401),
        ({"Authorization": "Basic YTpi"}, 401),
        ({"X-API-Key": ADMIN}, 200),
        ({"Authorization": f"apikey {ADMIN}"}, 200),
        ({"Authorization": f"Bearer {ADMIN}"}, 200),
    ],
    ids=["none", "unknown", "basic", "header", "apikey", "bearer"],
)
async def test_a_key_opens_it(api: Api, headers: dict[str, str], status: int) -> None:
    """Shown in any of the ways that clients know."""
    assert (await api.send("info", "{}", **headers)).status_code == status


async def test_nothing_is_read_of_a_stranger(api: Api) -> None:
    """However much is announced."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
    writer.write(b"POST /api/batch HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 401 ")
    assert b"connection: close" in head


async def test_nothing_is_read_of_too_large_a_batch(api: Api) -> None:
    """An announced size is believed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
    size = BATCH_FACTOR * MIN_BODY_BYTES
    writer.write(b"POST /api/batch HTTP/1.1\r\nHost: a\r\nX-API-Key: %b\r\n" % ADMIN.encode())
    writer.write(b"Content-Length: %d\r\n\r\n" % (size + 1))
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    assert b"limit exceeded: the body of this request has at most %d bytes" % size in answer


async def test_a_get_is_no_call(api: Api) -> None:
    """405, which says what is."""
    async with httpx.AsyncClient(base_url=api.server.http_url) as http:
        answer = await http.get("/api/publish")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("method", REQUESTS)
async def test_scopes(api: Api, method: str) -> None:
    """Whoever lacks the scope gets error 103, which names it; `admin` may all."""
    may = {
        PUBLISHER: method in {"publish", "broadcast"},
        READER: method in {"presence", "presence_stats", "history", "channels", "info"},
        ADMIN: True,
    }
    for key, allowed in may.items():
        assert await api.code(method, key, **REQUESTS[method]) == (0 if allowed else 103), key
        (reply,) = (await api("batch", key, commands=[{method: REQUESTS[method]}]))["replies"]
        assert list(reply) == [method if allowed else "error"]
    message = (await api("history_remove", READER, channel=CHANNEL))["error"]["message"]
    assert message == "permission denied: the API key 'watch' lacks the scope admin"


# What is no request


DEEP = "[" * 65 + "]" * 65
HOSTILE: dict[str, tuple[str, str | bytes, int, str]] = {
    "empty": ("publish", "", 107, "channel"),
    "no JSON": ("publish", "{", 107, "the body is not the JSON expected here"),
    "array": ("publish", "[]", 107, "expected `object`"),
    "no UTF-8": ("publish", b'{"channel":"chat:a","data":"\xff"}', 107, "the body is not UTF-8 (byte 28)"),
    "half a surrogate": ("publish", r'{"channel":"chat:a","data":"\ud800"}', 107, "the body is not the JSON"),
    "not a number": ("publish", '{"channel":"chat:a","data":NaN}', 107, "the body is not the JSON"),
    "trailing": ("publish", '{"channel":"chat:a","data":1}}', 107, "the body is not the JSON"),
    "endless nesting": ("publish", '{"channel":"chat:a","data":' + "[" * 100_000, 107, "nested too deeply"),
    "deep data": ("publish", f'{{"channel":"chat:a","data":{DEEP}}}', 107, "data: is nested deeper than 64 levels"),
    "deep in base64": (
        "publish",
        json.dumps({"channel": "chat:a", "b64data": b64encode(DEEP.encode()).decode()}),
        107,
        "data: is nested deeper",
    ),
    "no channel": ("publish", '{"data":1}', 107, "channel: a channel's name is"),
    "channel null": ("publish", '{"channel":null,"data":1}', 107, "channel: expected `str`, got `null`"),
    "channel of another kind": ("publish", '{"channel":1,"data":1}', 107, "channel: expected `str`, got `int`"),
    "no name": ("publish", '{"channel":"a b","data":1}', 107, "channel: a channel's name is"),
    "long name": ("publish", f'{{"channel":"{"a" * 256}","data":1}}', 107, "channel: a channel's name is"),
    "no data": ("publish", '{"channel":"chat:a"}', 107, "data: is missing; send any JSON value"),
    "no base64": ("publish", '{"channel":"chat:a","b64data":"*"}', 107, "b64data: must be base64"),
    "no JSON in base64": ("publish", '{"channel":"chat:a","b64data":"AAEC"}', 107, "b64data: must be JSON"),
    "much data": ("publish", f'{{"channel":"chat:a","data":"{"x" * MAX_DATA}"}}', 106, "data: has 2002 bytes"),
    "many tags": (
        "publish",
        json.dumps({"channel": "chat:a", "data": 1, "tags": {"a": "x" * MAX_DATA}}),
        106,
        "tags: has, with the data, more than 2000 bytes",
    ),
    "tags of another kind": ("publish", '{"channel":"a","data":1,"tags":{"a":1}}', 107, "tags[...]: expected `str`"),
    "long key": (
        "publish",
        json.dumps({"channel": "chat:a", "data": 1, "idempotency_key": "k" * 256}),
        107,
        "idempotency_key: has 256 characters",
    ),
    "no channels": ("broadcast", '{"data":1}', 107, "channels: name at least one"),
    "many channels": (
        "broadcast",
        json.dumps({"channels": ["a"] * (MAX_CHANNELS + 1), "data": 1}),
        106,
        "channels: has 1001 channels",
    ),
    "broadcast without data": ("broadcast", '{"channels":["chat:a"]}', 107, "data: is missing"),
    "nobody": ("disconnect", "{}", 107, "user: is required"),
    "code below": ("disconnect", '{"user":"ann","disconnect":{"code":2999}}', 107, "disconnect.code: must be 3000"),
    "code above": ("disconnect", '{"user":"ann","disconnect":{"code":5000}}', 107, "disconnect.code: must be 3000"),
    "long reason": (
        "disconnect",
        json.dumps({"user": "ann", "disconnect": {"code": 4000, "reason": "ä" * 62}}),
        107,
        "disconnect.reason: has more than 123 bytes",
    ),
    "many spared": ("disconnect", json.dumps({"user": "ann", "whitelist": ["a"] * 1_001}), 106, "whitelist: has 1001"),
    "subscribe to nothing": ("subscribe", '{"user":"ann"}', 107, "channel: a channel's name is"),
    "override": ("subscribe", '{"user":"ann","channel":"a","override":{"presence":true}}', 107, "override"),
    "expires before 1970": ("refresh", '{"user":"ann","expire_at":-1}', 107, "expire_at: expected `int` >= 0"),
    "no presence": ("presence", '{"channel":"plain:a"}', 108, "channel: its namespace does not set presence"),
    "no presence to count": ("presence_stats", '{"channel":"plain:a"}', 108, "does not set presence"),
    "no history": ("history", '{"channel":"plain:a"}', 108, "channel: its namespace does not set history_size"),
    "no history to remove": ("history_remove", '{"channel":"plain:a"}', 108, "does not set history_size"),
    "back from nothing": (
        "history",
        '{"channel":"chat:a","limit":1,"since":{"offset":0},"reverse":true}',
        107,
        "since.offset: nothing was published before 0",
    ),
    "offset below": ("history", '{"channel":"chat:a","since":{"offset":-1}}', 107, "since.offset: expected `int` >= 0"),
    "another epoch": ("history", '{"channel":"chat:a","since":{"offset":1,"epoch":"other"}}', 112, "since.epoch"),
    "endless limit": ("history", '{"channel":"chat:a","limit":4294967296}', 107, "limit: expected `int` <= 2147483647"),
    "pattern with braces": ("channels", '{"pattern":"{a,b}"}', 107, "pattern: has at most"),
    "long pattern": ("channels", f'{{"pattern":"{"*" * 256}"}}', 107, "pattern: has at most"),
    "batch of another kind": ("batch", '{"commands":{}}', 107, "commands: expected `array`"),
    "command of another kind": ("batch", '{"commands":[{"publish":1}]}', 107, "commands[0].publish: expected"),
    "many commands": ("batch", json.dumps({"commands": [{}] * (MAX_CALLS + 1)}), 106, "commands: has 1001 commands"),
    "many publications": (
        "batch",
        json.dumps({"commands": [{"broadcast": {"channels": ["a"] * 1_000, "data": 1}}] * 11}),
        106,
        f"commands: publish more than {MAX_PUBLICATIONS} times",
    ),
    "many bytes": ("publish", b" " * (MIN_BODY_BYTES + 1), 106, f"has at most {MIN_BODY_BYTES} bytes"),
    "number out of range": ("subscribe", '{"user":"ann","channel":"a","data":1e999}', 107, "data: has a number"),
}


@pytest.mark.parametrize("case", HOSTILE)
async def test_what_does_not_hold_is_refused(api: Api, case: str) -> None:
    """With its code, the field and what to send instead; nothing is published."""
    method, body, code, message = HOSTILE[case]
    answer = await api.send(method, body, **{"X-API-Key": ADMIN})
    assert answer.status_code == 200
    error = answer.json()["error"]
    assert (error["code"], message in error["message"]) == (code, True), error
    assert await api.server.redis.keys("*history*") == []


async def test_what_we_do_not_know_is_ignored(api: Api) -> None:
    """Newer clients send more, and null for what they do not set."""
    request: dict[str, Any] = {
        "tags": None,
        "b64data": None,
        "skip_history": None,
        "idempotency_key": None,
        "delta": True,
        "new": {},
    }
    assert (await api("publish", channel=CHANNEL, data=None, **request))["result"]["offset"] == 1
    history = await api("history", channel=CHANNEL, limit=-1)
    assert history["result"]["publications"] == [{"offset": 1, "data": None}]


async def test_an_empty_body_asks_for_nothing_special(api: Api) -> None:
    """As `curl -X POST` sends it."""
    answer = await api.send("info", "", **{"X-API-Key": ADMIN})
    assert len(answer.json()["result"]["nodes"]) == 1


async def test_data_arrives_as_it_was_written(api: Api) -> None:
    """Numbers and white space too, but for line breaks, which end a message."""
    async with client(api.server, "plain:a") as one:
        for data in ('{"n":  12345678901234567890.10, "e":1e400}', '{\n"a":\r\n1}'):
            await api.send("publish", f'{{"channel":"plain:a","data":{data}}}', **{"X-API-Key": ADMIN})
            written = data.replace("\n", " ").replace("\r", " ")
            assert f'"data":{written}' in str(await one.connection.recv())


# Several at once


async def test_a_batch_keeps_its_order(api: Api) -> None:
    """What is asked after a publication knows of it, and an error stands in the place of its command."""
    publish = {"publish": {"channel": CHANNEL, "data": 1}}
    stats = {"history": {"channel": CHANNEL}}
    bad = {"publish": {"channel": "", "data": 1}}
    commands = [publish, publish, stats, publish, bad, stats, {"rpc": {"method": "m"}}, publish]
    replies = (await api("batch", commands=commands))["replies"]
    assert [next(iter(reply)) for reply in replies] == [
        *("publish", "publish", "history", "publish", "error", "history", "error", "publish"),
    ]
    assert [reply[method].get("offset") for reply in replies for method in reply] == [1, 2, 2, 3, None, 3, None, 4]
    assert [reply["error"]["code"] for reply in replies if "error" in reply] == [107, 104]


async def test_a_parallel_batch_answers_in_order(api: Api) -> None:
    """Whatever came first."""
    commands: list[dict[str, Any]] = [{"info": {}}, {"publish": {"channel": CHANNEL, "data": 1}}] * 20
    replies = (await api("batch", commands=commands, parallel=True))["replies"]
    assert [next(iter(reply)) for reply in replies] == ["info", "publish"] * 20
    assert [reply["publish"]["offset"] for reply in replies[1::2]] == list(range(1, 21))


async def test_an_empty_batch_has_no_replies(api: Api) -> None:
    """And no error."""
    assert await api("batch", commands=[]) == {"replies": []}


async def test_a_broadcast_reaches_the_channels_that_it_can(api: Api) -> None:
    """Others have their error."""
    responses = (await api("broadcast", channels=[CHANNEL, "no name", "plain:a"], data=1))["result"]["responses"]
    assert responses[0]["result"]["offset"] == 1
    assert (responses[1]["error"]["code"], responses[2]) == (107, {"result": {}})
    assert "channels[1]: a channel's name" in responses[1]["error"]["message"]


async def test_commands_may_name_their_method(api: Api) -> None:
    """At `/api`, one on each line, as older clients send them."""
    lines = [
        {"id": 1, "method": "publish", "params": REQUESTS["publish"]},
        {"method": "history_remove", "params": REQUESTS["history_remove"]},
        {"id": 3, "method": "publish", "params": {"channel": 1}},
        {"id": 4, "method": "connections"},
        {"id": 5, "method": "channels"},
    ]
    body = "\n".join(map(json.dumps, lines)) + "\n"
    answer = await api.send("", body, **{"X-API-Key": ADMIN})
    answers = [json.loads(line) for line in answer.text.split("\n")]
    assert [(each.get("id"), each.get("error", {}).get("code")) for each in answers] == [
        *((1, None), (None, None), (3, 107), (4, 104), (5, None)),
    ]
    assert answers[0]["result"]["offset"] == 1


def test_there_is_a_path_for_every_method() -> None:
    """And one for batches, and for commands that name theirs."""
    assert ServerApiEndpoint.paths == {"/api", "/api/batch", *(f"/api/{method}" for method in REQUESTS)}
