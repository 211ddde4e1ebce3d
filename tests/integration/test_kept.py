"""Subscriptions and secrets that are kept by REST."""

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from redis.asyncio import Redis
from standardwebhooks import Webhook

from hookcast_app.settings import Settings
from tests.support.app import READER_KEY, RunningApp, eventually, running_app, settings_for
from tests.support.receiver import Receiver

KEY = Fernet.generate_key().decode()
TOKEN = "t0ken-that-nobody-may-see"


def settings(redis_url: str, tmp_path: Path, *keys: str, **more: Any) -> Settings:
    return settings_for(redis_url, tmp_path, encryption_keys=tuple(map(SecretStr, keys or (KEY,))), **more)


@pytest.fixture
async def app(redis_url: str, tmp_path: Path) -> AsyncIterator[RunningApp]:
    async with running_app(settings(redis_url, tmp_path)) as running:
        yield running


def spec(url: str, **more: Any) -> dict[str, Any]:
    return {"endpoint": {"url": url}, "events": {"types": ["order.*"]}} | more


async def call(app: RunningApp, method: str, path: str, status: int, body: Any = None) -> Any:
    """What is answered, which has this status."""
    answer = await app.client.request(method, f"/api/v1{path}", json=body)
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else None


async def created(app: RunningApp, url: str, name: str = "orders", **more: Any) -> dict[str, Any]:
    content: dict[str, Any] = await call(
        app, "POST", "/webhook-subscriptions", 201, {"name": name, "spec": spec(url, **more)}
    )
    return content


async def test_a_subscription_is_in_force_when_its_creation_is_answered(app: RunningApp, receiver: Receiver) -> None:
    """Its generated key is shown once, and verifies what is sent."""
    made = await created(app, receiver.url)

    await app.publish()

    (request,) = await receiver.wait_for(1)
    assert Webhook(made["secret"]).verify(request.body, request.headers)
    shown = await call(app, "GET", f"/webhook-subscriptions/{made['uid']}", 200)
    assert (shown["source"], shown["namespace"], shown["name"]) == ("api", "default", "orders")
    assert made["secret"] not in json.dumps(shown)


async def test_a_specification_is_replaced_patched_and_deleted(app: RunningApp, receiver: Receiver) -> None:
    """Each is in force when it is answered; the key stays."""
    made = await created(app, f"{receiver.url}/first")
    path = f"/webhook-subscriptions/{made['uid']}"

    replaced = await call(app, "PUT", path, 200, {"spec": spec(f"{receiver.url}/second", format="Data")})
    await app.publish(data=1)
    await receiver.wait_for(1)
    patch = {"endpoint": {"url": f"{receiver.url}/third"}, "format": None}
    patched = await call(app, "PATCH", path, 200, {"spec": patch})
    await app.publish(data=2)
    await receiver.wait_for(2)
    await call(app, "DELETE", path, 204)

    assert (replaced["generation"], patched["generation"]) == (2, 3)
    assert "secret" not in replaced
    assert "format" not in patched["spec"]
    assert [request.path for request in receiver.requests] == ["/second", "/third"]
    assert receiver.bodies()[0] == b"1"
    assert Webhook(made["secret"]).verify(receiver.requests[1].body, receiver.requests[1].headers)
    assert (await app.publish())["matched"] == 0
    await call(app, "GET", path, 404)
    await call(app, "DELETE", path, 404)


async def test_a_rotated_key_signs_beside_the_one_of_before(redis_url: str, tmp_path: Path, receiver: Receiver) -> None:
    """For a day; then it is gone."""
    async with running_app(settings(redis_url, tmp_path)) as app:
        made = await created(app, receiver.url)
        rotated = await call(app, "POST", f"/webhook-subscriptions/{made['uid']}/rotate-secret", 200)
        await app.publish()
        (request,) = await receiver.wait_for(1)
        (entry,) = app.application.configuration.entries.values()

    assert rotated["secret"] != made["secret"]
    for secret in (made["secret"], rotated["secret"]):
        assert Webhook(secret).verify(request.body, request.headers)
    assert len(request.headers["webhook-signature"].split()) == 2
    newest, older = entry.signing_keys
    assert newest.expires_at is None
    assert older.expires_at is not None


async def test_secrets_are_named_and_never_shown(app: RunningApp, receiver: Receiver, redis: Redis) -> None:
    """They reach the endpoint; Redis has them encrypted, and no answer has them."""
    signing = "whsec_" + b64encode(b"k" * 32).decode()
    await call(app, "PUT", "/secrets/shop", 200, {"data": {"token": TOKEN, "signing": signing}})
    header = {"name": "Authorization", "valueFrom": {"secretKeyRef": {"name": "shop", "key": "token"}}}
    made = await created(
        app,
        receiver.url,
        endpoint={"url": receiver.url, "headers": [header]},
        signing={"keys": [{"secretRef": {"name": "shop", "key": "signing"}}]},
    )

    await app.publish()

    (request,) = await receiver.wait_for(1)
    assert request.headers["authorization"] == TOKEN
    assert Webhook(signing).verify(request.body, request.headers)
    assert "secret" not in made
    answers = [
        await call(app, "GET", path, 200)
        for path in ("/secrets", "/secrets/shop", "/webhook-subscriptions", f"/webhook-subscriptions/{made['uid']}")
    ]
    assert answers[0] == {"items": [{"name": "shop", "keys": ["signing", "token"]}]}
    assert TOKEN not in json.dumps(answers)
    assert signing not in json.dumps(answers)
    async for key in redis.scan_iter():
        value = await redis.dump(key)
        assert TOKEN.encode() not in (value or b"")


async def test_a_secret_that_is_needed_stays_and_one_that_would_break_something_is_refused(
    app: RunningApp, receiver: Receiver
) -> None:
    """The subscription is named; a value that holds is in force at once."""
    await call(app, "PUT", "/secrets/shop", 200, {"data": {"token": "old"}})
    header = {"name": "X-Token", "valueFrom": {"secretKeyRef": {"name": "shop", "key": "token"}}}
    made = await created(app, receiver.url, endpoint={"url": receiver.url, "headers": [header]})

    refused = await call(app, "DELETE", "/secrets/shop", 409)
    broken = await call(app, "PUT", "/secrets/shop", 409, {"data": {"other": "x"}})
    await call(app, "PUT", "/secrets/shop", 200, {"data": {"token": "new"}})
    await app.publish()

    (request,) = await receiver.wait_for(1)
    assert request.headers["x-token"] == "new"
    assert "default/orders" in refused["detail"]
    assert "default/orders" in broken["detail"]
    await call(app, "DELETE", f"/webhook-subscriptions/{made['uid']}", 204)
    await call(app, "DELETE", "/secrets/shop", 204)
    await call(app, "DELETE", "/secrets/shop", 404)


async def test_a_second_process_follows_and_a_restart_remembers(
    redis_url: str, tmp_path: Path, receiver: Receiver
) -> None:
    """What one of them is told is in force in the other one soon; afterwards both know it."""
    first, second = (tmp_path / name for name in ("first", "second"))
    for path in (first, second):
        path.mkdir()
    async with running_app(settings(redis_url, first)) as one, running_app(settings(redis_url, second)) as other:
        made = await created(one, receiver.url)
        await eventually(lambda: made["uid"] in other.application.configuration.entries)
        await call(other, "PATCH", f"/webhook-subscriptions/{made['uid']}", 200, {"spec": {"suspend": True}})
        await eventually(lambda: one.application.configuration.entries[made["uid"]].spec.suspend)

    async with running_app(settings(redis_url, first)) as again:
        assert again.application.configuration.entries[made["uid"]].spec.suspend
        assert again.application.configuration.complete


async def test_changes_at_the_same_time_come_one_after_the_other(app: RunningApp, receiver: Receiver) -> None:
    """Of twenty that want one name, one gets it; of twenty edits none is lost."""

    async def create() -> int:
        body = {"name": "wanted", "spec": spec(receiver.url)}
        return (await app.client.post("/api/v1/webhook-subscriptions", json=body)).status_code

    statuses = await asyncio.gather(*(create() for _ in range(20)))
    assert sorted(statuses) == [201, *[409] * 19]
    (uid,) = app.application.configuration.entries
    patches = [{"spec": {"delivery": {"maxInFlight": number}}} for number in range(1, 21)]
    await asyncio.gather(*(call(app, "PATCH", f"/webhook-subscriptions/{uid}", 200, patch) for patch in patches))
    assert (await call(app, "GET", f"/webhook-subscriptions/{uid}", 200))["generation"] == 21


async def test_what_is_kept_is_sealed_anew_with_the_newest_key(
    redis_url: str, tmp_path: Path, receiver: Receiver
) -> None:
    """New key first, old one behind it: after a start the old one may be taken away."""
    newer = Fernet.generate_key().decode()
    async with running_app(settings(redis_url, tmp_path)) as app:
        await call(app, "PUT", "/secrets/shop", 200, {"data": {"token": TOKEN}})
        await created(app, receiver.url)
        await app.application.drain(5)
    async with running_app(settings(redis_url, tmp_path, newer, KEY)) as app:
        await eventually(lambda: app.application.configuration.entries)
        await app.application.drain(5)

    async with running_app(settings(redis_url, tmp_path, newer)) as app:
        assert app.application.configuration.complete
        await app.publish()
        await receiver.wait_for(1)


async def test_without_the_right_key_nothing_is_lost(redis_url: str, tmp_path: Path, receiver: Receiver) -> None:
    """The problem is told, deliveries wait, and nothing is written over; with the key everything goes on."""
    async with running_app(settings(redis_url, tmp_path)) as app:
        made = await created(app, receiver.url)

    wrong = Fernet.generate_key().decode()
    async with running_app(settings(redis_url, tmp_path, wrong)) as app:
        listed = await call(app, "GET", "/webhook-subscriptions", 200)
        assert not app.application.configuration.complete
    async with running_app(settings(redis_url, tmp_path)) as app:
        assert made["uid"] in app.application.configuration.entries

    assert listed["items"] == []
    assert "HOOKCAST_ENCRYPTION_KEYS" in listed["problems"][0]


async def test_without_any_key_nothing_is_kept(redis_url: str, tmp_path: Path, receiver: Receiver) -> None:
    """It is said which setting is missing."""
    async with running_app(settings_for(redis_url, tmp_path)) as app:
        body = {"name": "orders", "spec": spec(receiver.url)}
        refused = await call(app, "POST", "/webhook-subscriptions", 409, body)

    assert refused["field"] == "encryption_keys"


async def test_an_emptied_redis_gets_back_what_was_kept(app: RunningApp, receiver: Receiver, redis: Redis) -> None:
    """Subscriptions and secrets, though no delivery; that some may be lost is an event of its own."""
    made = await created(app, receiver.url)
    await created(app, f"{receiver.url}/alarm", "alarm", events={"types": ["hookcast.redis.*"]})
    await redis.flushall()
    await redis.client_kill_filter(_type="pubsub")  # as at a restart: what is kept is read anew at once

    await eventually(lambda: redis.hexists("hookcast:{0}:kept:subscriptions", made["uid"]))

    (alarm,) = await receiver.wait_for(1)
    assert alarm.path == "/alarm"
    assert json.loads(alarm.body)["type"] == "hookcast.redis.emptied"
    await app.publish()
    await receiver.wait_for(2)


async def test_what_is_in_a_file_is_read_only(app: RunningApp, receiver: Receiver) -> None:
    """And its name is taken."""
    uid = await app.subscribe(receiver.url)
    path = f"/webhook-subscriptions/{uid}"

    for method, at, body in (
        ("PUT", path, {"spec": spec(receiver.url)}),
        ("PATCH", path, {"spec": {"suspend": True}}),
        ("DELETE", path, None),
        ("POST", f"{path}/rotate-secret", None),
    ):
        refused = await call(app, method, at, 409, body)
        assert (refused["reason"], refused["field"]) == ("ReadOnly", "subscription")
    taken = {"name": "orders", "spec": spec(receiver.url)}
    assert (await call(app, "POST", "/webhook-subscriptions", 409, taken))["field"] == "name"


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"name": "No Name", "spec": {}}, 422, "name"),
        ({"name": "a", "namespace": "N", "spec": {}}, 422, "namespace"),
        ({"name": "a"}, 422, "spec"),
        ({"name": "a", "spec": {}, "extra": 1}, 422, "extra"),
        ({"name": "a", "spec": {"events": {"types": ["*"]}}}, 422, "spec.endpoint"),
        ({"name": "a", "spec": spec("https://a.example", timeout="1s")}, 422, "spec.timeout"),
        ({"name": "a", "spec": spec("https://10.0.0.1/")}, 422, "spec.endpoint.url"),
        (
            {"name": "a", "spec": spec("https://a.example", events={"types": ["*"], "filter": "data.a >"})},
            422,
            "spec.events.filter",
        ),
    ],
)
async def test_a_mistake_is_named(app: RunningApp, body: dict[str, Any], status: int, field: str) -> None:
    """By its field, with what to write; nothing is kept."""
    refused = await call(app, "POST", "/webhook-subscriptions", status, body)

    assert refused["field"] == field
    assert not app.application.configuration.entries


@pytest.mark.parametrize(
    ("name", "body", "status", "field"),
    [
        ("No%20Name", {"data": {"k": "v"}}, 422, "name"),
        ("shop", {"data": {}}, 422, "data"),
        ("shop", {"data": {"k k": "v"}}, 422, "data.k k"),
        ("shop", {"data": {"k": 5}}, 422, "data.k"),
        ("shop", {"data": {"k": TOKEN * 10_000}}, 413, "data"),
    ],
)
async def test_a_secret_s_mistake_is_named_without_its_value(
    app: RunningApp, name: str, body: dict[str, Any], status: int, field: str
) -> None:
    """The answer shows none of it."""
    answer = await app.client.put(f"/api/v1/secrets/{name}", json=body)

    assert (answer.status_code, answer.json()["field"]) == (status, field)
    assert TOKEN not in answer.text


async def test_reading_is_not_enough(app: RunningApp) -> None:
    """A key with the scope `read` changes nothing, and sees no secret's name."""
    async with httpx.AsyncClient(base_url=app.url, headers={"X-API-Key": READER_KEY}) as reader:
        for method, path in (("POST", "/webhook-subscriptions"), ("GET", "/secrets"), ("PUT", "/secrets/a")):
            assert (await reader.request(method, f"/api/v1{path}", json={})).status_code == 403


async def test_what_another_process_sealed_with_a_newer_key_stays_in_force(
    redis_url: str, tmp_path: Path, receiver: Receiver
) -> None:
    """A rolling restart with a new key first: the process of before goes on with what it knows, and changes nothing."""
    newer = Fernet.generate_key().decode()
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    async with running_app(settings(redis_url, tmp_path / "old")) as old:
        made = await created(old, receiver.url)
        async with running_app(settings(redis_url, tmp_path / "new", newer, KEY)):
            await eventually(lambda: old.application.configuration.problems)
            assert (await old.publish())["matched"] == 1
            patch = {"spec": {"suspend": True}}
            refused = await call(old, "PATCH", f"/webhook-subscriptions/{made['uid']}", 409, patch)

    assert refused["field"] == "encryption_keys"
    await receiver.wait_for(1)


@pytest.mark.parametrize("data", [{"k": "\ud800"}, {"\ud800": "v"}])
async def test_half_a_surrogate_pair_is_refused(app: RunningApp, data: dict[str, str]) -> None:
    """JSON can say it, and no text has it."""
    answer = await app.client.put(
        "/api/v1/secrets/a", content=json.dumps({"data": data}), headers={"content-type": "application/json"}
    )

    assert answer.status_code == 422
