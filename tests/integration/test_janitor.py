"""A running app keeps what Redis holds within its bounds, and comes back by itself from a Redis that was full."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from redis.asyncio import Redis

from hookcast_app.delivery import janitor
from hookcast_app.delivery.checker import check
from hookcast_app.delivery.models import Place
from hookcast_app.events.remembered import ID_BYTES
from hookcast_app.redis import Keys
from tests.support.app import RunningApp, eventually, running_app, settings_for
from tests.support.receiver import Receiver, Reply

KEYS = Keys()
MEBIBYTE = 1_048_576


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(janitor, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(janitor, "BEATS_TO_LEFTOVERS", 2)


def metric(app: RunningApp, name: str) -> float:
    return app.application.metrics.registry.get_sample_value(f"hookcast_{name}") or 0


async def test_events_and_ids_stay_within_their_bounds(
    redis_url: str, redis: Redis, tmp_path: Path, receiver: Receiver
) -> None:
    """And the metrics say so."""
    bounds = settings_for(redis_url, tmp_path, retention_bytes=20_000, dedup_bytes=10 * ID_BYTES)
    async with running_app(bounds) as app:
        await app.subscribe(receiver.url)
        assert metric(app, "dedup_window_seconds") == 86_400
        for number in range(40):
            await app.publish(id=f"id-{number}", source="/s", data="x" * 1_000)
        await receiver.wait_for(40)

        await eventually(lambda: 0 < metric(app, "events_kept_bytes") <= 20_000)
        await eventually(lambda: metric(app, "dedup_window_seconds") < 60)

        async def is_small() -> bool:
            keys = [key async for key in redis.scan_iter(KEYS.event("*"), count=1_000)]
            ids = await redis.hlen(KEYS.remembered)
            return len(keys) == await redis.xlen(KEYS.events) < 15 and ids == 10

        await eventually(is_small)
        assert 0 < metric(app, "events_kept_seconds") < 60
        listed = (await app.client.get("/api/v1/events")).json()["items"]
        assert listed[0]["event"]["id"] == "id-39"
        assert (await check(redis, KEYS)).violations == []


async def test_a_deleted_subscription_leaves_nothing_behind(
    redis_url: str, redis: Redis, tmp_path: Path, receiver: Receiver
) -> None:
    """Once the time of what it delivered and of its dead letters is over."""
    receiver.behaviour = lambda request: Reply(400 if b"bad" in request.body else 200)
    brief = {"retention_seconds": 1, "dead_letter_retention_seconds": 1, "deletion_grace_seconds": 0}
    async with running_app(settings_for(redis_url, tmp_path, **brief)) as app:
        uid = await app.subscribe(receiver.url)
        await app.publish(data="good")
        await app.publish(data="bad")
        await eventually(lambda: redis.sismember(KEYS.buried, uid))
        await eventually(lambda: redis.xlen(KEYS.lane(uid, "delivered")))
        await app.write("orders.yaml", "")

        async def is_forgotten() -> bool:
            known = [key async for key in redis.scan_iter(KEYS.lane(uid, "*"))]
            return not (known or await redis.exists(KEYS.hungry, KEYS.buried, KEYS.failing, KEYS.disabled))

        await eventually(is_forgotten, within=30)


class Full:
    """An app whose subscription is suspended, so that events fill its Redis."""

    def __init__(self, app: RunningApp, redis: Redis) -> None:
        self.app = app
        self.redis = redis
        self.taken = 0

    async def look(self) -> None:
        """Has the app see how full Redis is."""
        for watch in self.app.application._watches.each.values():
            await watch.look()

    async def used(self) -> int:
        used: int = (await self.redis.info("memory"))["used_memory"]
        return used

    async def fill(self) -> dict[str, Any]:
        """Publishes until that is refused; the refusal."""
        while True:
            batch = [{"type": "order.created", "data": "x" * 20_000}] * 10
            answer = await self.app.client.post("/api/v1/events", json=batch)
            if answer.status_code != 202:
                refusal: dict[str, Any] = answer.json()
                return refusal
            self.taken += 10
            await self.look()

    async def ask(self, method: str, path: str, body: object, expected: int) -> dict[str, Any]:
        """What a request answers."""
        answer = await self.app.client.request(method, f"/api/v1{path}", json=body)
        assert answer.status_code == expected, answer.text
        content: dict[str, Any] = answer.json() if answer.content else {}
        return content


@pytest.fixture
async def full(redis_url: str, redis: Redis, tmp_path: Path, receiver: Receiver) -> AsyncIterator[Full]:
    await redis.config_set("maxmemory", str(24 * MEBIBYTE))
    key = SecretStr(Fernet.generate_key().decode())
    bounds = settings_for(redis_url, tmp_path, retention_bytes=MEBIBYTE, high_water=0.5, encryption_keys=(key,))
    async with running_app(bounds) as app:
        await app.subscribe(receiver.url, suspend=True)
        yield Full(app, redis)
        await redis.config_set("maxmemory", "0")


async def test_a_full_redis_recovers_by_itself(full: Full, receiver: Receiver, redis: Redis) -> None:
    """Publishing is refused before Redis refuses; what waited is delivered, and goes; then events are taken again."""
    refusal = await full.fill()
    assert "HOOKCAST_HIGH_WATER" in refusal["detail"]
    assert 11 * MEBIBYTE < await full.used() < 14 * MEBIBYTE

    await full.app.subscribe(receiver.url)
    await receiver.wait_for(full.taken, within=30)

    async def is_taken() -> bool:
        answer = await full.app.client.post("/api/v1/events", json={"type": "order.created"})
        return answer.status_code == 202

    await eventually(is_taken)
    await receiver.wait_for(full.taken + 1)
    await eventually(lambda: metric(full.app, "events_kept_bytes") <= MEBIBYTE)
    assert await full.used() < 6 * MEBIBYTE
    await eventually(lambda: is_sound(redis, dead=0))


async def test_what_users_change_while_redis_is_full(full: Full, receiver: Receiver, redis: Redis) -> None:
    """Above the high-water mark all but publishing works; where Redis itself refuses, what needs memory says 503.

    Deleting and retrying work even then, and nothing is half done.
    """
    receiver.behaviour = lambda request: Reply(400 if request.path == "/dead" else 200)
    uid = await full.app.subscribe(f"{receiver.url}/dead", "dead.*", name="dead")
    letters = [await full.app.delivery((await full.app.publish("dead.x"))["id"], "dead") for _ in range(3)]
    await full.fill()

    kept = (await full.ask("POST", "/webhook-subscriptions", kept_as("first", receiver), 201))["uid"]
    await full.ask("POST", f"/deliveries/{letters[0]['id']}/retry", None, 202)
    await full.ask("POST", f"/webhook-subscriptions/{uid}/replay", {"status": ["delivered"]}, 202)

    await redis.config_set("maxmemory", str(MEBIBYTE))
    refusal = await full.ask("POST", "/webhook-subscriptions", kept_as("second", receiver), 503)
    assert "out of memory" in refusal["detail"]
    await full.ask("PATCH", f"/webhook-subscriptions/{kept}", {"spec": {"suspend": True}}, 503)
    await full.ask("POST", f"/webhook-subscriptions/{uid}/replay", {"status": ["dead"]}, 503)
    await full.ask("DELETE", "/dead-letters", None, 503)
    await full.ask("POST", f"/deliveries/{letters[1]['id']}/retry", None, 202)
    await full.ask("DELETE", f"/webhook-subscriptions/{kept}", None, 204)
    assert len((await full.ask("GET", "/webhook-subscriptions", None, 200))["items"]) == 2

    await redis.config_set("maxmemory", str(100 * MEBIBYTE))
    await full.ask("DELETE", "/dead-letters", None, 202)
    await eventually(lambda: is_sound(redis, dead=0))


def kept_as(name: str, receiver: Receiver) -> dict[str, Any]:
    """A subscription to be kept by REST."""
    return {"name": name, "spec": {"endpoint": {"url": receiver.url}, "events": {"types": ["kept.*"]}}}


async def is_sound(redis: Redis, *, dead: int) -> bool:
    """Whether all has come to rest, with every delivery in its place and so many dead letters."""
    report = await check(redis, KEYS)
    return report.violations == [] and report.places[Place.DEAD] == dead
