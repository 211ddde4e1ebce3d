"""What users do to deliveries over REST: retry, cancel, replay, purge."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from standardwebhooks import Webhook

from hookcast_app.delivery import replay
from hookcast_app.delivery.checker import check
from hookcast_app.redis import Keys, Partition
from tests.support.app import READER_KEY, SIGNING_SECRET, RunningApp, eventually, running_app, settings_for
from tests.support.receiver import Receiver, Reply

KEYS = Keys()
ONCE = {"retry": {"schedule": []}, "circuitBreaker": {"failures": 10_000}}
LATER = {"retry": {"schedule": ["1h"]}}
FIFO_LATER = {"retry": {"schedule": ["1h"]}, "ordering": "FIFO"}


@pytest.fixture
async def app(redis_url: str, tmp_path: Path) -> AsyncIterator[RunningApp]:
    async with running_app(settings_for(redis_url, tmp_path)) as running:
        yield running


async def acted(app: RunningApp, path: str, expected: int = 202, **body: Any) -> dict[str, Any]:
    """What a POST answers."""
    answer = await app.client.post(f"/api/v1{path}", json=body or None)
    assert answer.status_code == expected, answer.text
    content: dict[str, Any] = answer.json()
    return content


async def finished(app: RunningApp, asked: dict[str, Any]) -> dict[str, Any]:
    """The task, once it is done."""
    found: dict[str, Any] = {}

    async def is_done() -> bool:
        found.update((await app.client.get(f"/api/v1/replays/{asked['id']}")).json())
        return bool(found["state"] == "done")

    await eventually(is_done)
    return found


async def events(app: RunningApp, count: int, type_: str = "order.created") -> list[str]:
    """Publishes so many events with their number as data; their ids."""
    batch = [{"type": type_, "data": number} for number in range(count)]
    answer = await app.client.post("/api/v1/events", json=batch)
    assert answer.status_code == 202, answer.text
    return [one["id"] for one in answer.json()]


async def placed(redis: Redis, uid: str) -> dict[str, int]:
    """How many deliveries are where, of those places that have any."""
    counts = {place: await redis.xlen(KEYS.lane(uid, place)) for place in ("waiting", "delivered", "dead", "discarded")}
    counts["later"] = await redis.zcard(KEYS.lane(uid, "later"))
    return {place: count for place, count in counts.items() if count}


async def test_a_dead_letter_is_retried(app: RunningApp, receiver: Receiver, redis: Redis) -> None:
    """From the beginning of its schedule, with the same webhook-id; it leaves the dead letters, and its log goes on."""
    uid = await app.subscribe(receiver.url, delivery=ONCE)
    receiver.behaviour = lambda _request: Reply(500)
    event = await app.publish()
    dead = await app.delivery(event["id"], "dead")
    receiver.behaviour = lambda _request: Reply()

    shown = await acted(app, f"/deliveries/{dead['id']}/retry")

    assert shown["status"] in {"waiting", "delivered"}
    delivered = await app.delivery(event["id"], "delivered")
    assert [attempt["status"] for attempt in delivered["attempts"]] == [500, 200]
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1
    assert await placed(redis, uid) == {"delivered": 1}
    assert not await redis.smembers(KEYS.buried)
    assert await redis.ttl(KEYS.event(event["id"])) > 0


@pytest.mark.parametrize("delivery", [LATER, FIFO_LATER])
async def test_a_delivery_that_waits_for_its_time_is_retried_at_once(
    app: RunningApp, receiver: Receiver, redis: Redis, delivery: dict[str, Any]
) -> None:
    """Also one that keeps its place in an order."""
    uid = await app.subscribe(receiver.url, delivery=delivery)
    receiver.behaviour = lambda _request: Reply(500)
    event = await app.publish()
    waits = await app.delivery(event["id"], "later")
    receiver.behaviour = lambda _request: Reply()

    await acted(app, f"/deliveries/{waits['id']}/retry")

    await app.delivery(event["id"], "delivered")
    assert await placed(redis, uid) == {"delivered": 1}


@pytest.mark.parametrize("delivery", [LATER, FIFO_LATER])
async def test_a_delivery_that_waits_for_its_time_is_cancelled(
    app: RunningApp, receiver: Receiver, redis: Redis, delivery: dict[str, Any]
) -> None:
    """It ends, and in an order the next one goes."""
    uid = await app.subscribe(receiver.url, delivery=delivery)
    receiver.behaviour = lambda request: Reply(500 if b'"data":0' in request.body else 200)
    first, second = await events(app, 2)
    waits = await app.delivery(first, "later")

    shown = await acted(app, f"/deliveries/{waits['id']}/cancel")

    assert (shown["status"], shown["reason"]) == ("discarded", "Cancelled")
    await app.delivery(second, "delivered")
    await eventually(lambda: is_placed(redis, uid, {"delivered": 1, "discarded": 1}))
    assert await redis.ttl(KEYS.event(first)) > 0
    refused = await acted(app, f"/deliveries/{waits['id']}/cancel", 409)
    assert refused["reason"] == "Conflict"


async def is_placed(redis: Redis, uid: str, expected: dict[str, int]) -> bool:
    return await placed(redis, uid) == expected


async def test_a_delivery_is_cancelled_while_it_is_attempted(app: RunningApp, receiver: Receiver, redis: Redis) -> None:
    """The request is not taken back, but no other follows."""
    uid = await app.subscribe(receiver.url, delivery=LATER)
    go = asyncio.Event()

    async def hang(_request: Any) -> Reply:
        await go.wait()
        return Reply(503)

    receiver.behaviour = hang
    event = await app.publish()
    await receiver.wait_for(1)
    waits = await app.delivery(event["id"], "waiting")

    await acted(app, f"/deliveries/{waits['id']}/cancel")
    go.set()

    await eventually(lambda: is_placed(redis, uid, {"discarded": 1}))
    shown = await app.delivery(event["id"], "discarded")
    assert (shown["reason"], [attempt["status"] for attempt in shown["attempts"]]) == ("Cancelled", [503])


async def test_many_dead_letters_are_replayed(app: RunningApp, receiver: Receiver, redis: Redis) -> None:
    """Those of the types and the time that are asked for, in the background, with progress; each once."""
    uid = await app.subscribe(receiver.url, "*", delivery=ONCE)
    receiver.behaviour = lambda _request: Reply(500)
    wanted = await events(app, 450)
    await events(app, 5, "user.created")
    await eventually(lambda: is_placed(redis, uid, {"dead": 455}))
    receiver.behaviour = lambda _request: Reply()

    asked = await acted(app, f"/webhook-subscriptions/{uid}/replay", types=["order.*"])
    done = await finished(app, asked)

    assert (done["examined"], done["moved"]) == (455, 450)
    await eventually(lambda: is_placed(redis, uid, {"dead": 5, "delivered": 450}))
    sent = Counter(json.loads(body)["id"] for body in receiver.bodies())
    assert {sent[event] for event in wanted} == {2}


async def test_delivered_ones_are_replayed_if_that_is_asked_for(
    app: RunningApp, receiver: Receiver, redis: Redis
) -> None:
    """Within a time; and a replay of nothing says zero."""
    uid = await app.subscribe(receiver.url)
    await events(app, 3)
    await eventually(lambda: is_placed(redis, uid, {"delivered": 3}))

    nothing = await finished(app, await acted(app, f"/webhook-subscriptions/{uid}/replay"))
    path, past = f"/webhook-subscriptions/{uid}/replay", "2020-01-01T00:00:00Z"
    too_old = await finished(app, await acted(app, path, status=["delivered"], until=past))
    done = await finished(app, await acted(app, f"/webhook-subscriptions/{uid}/replay", status=["delivered"]))

    assert (nothing["moved"], too_old["moved"], done["moved"]) == (0, 0, 3)
    await receiver.wait_for(6)
    await eventually(lambda: is_placed(redis, uid, {"delivered": 3}))


async def test_a_replay_goes_on_after_a_restart(
    redis_url: str, tmp_path: Path, receiver: Receiver, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asked for it is gone: another process finishes it, and nothing is replayed twice."""
    monkeypatch.setattr(replay, "PAGE", 5)
    step = replay.Replays._step
    steps: list[str] = []

    async def stops(self: replay.Replays, partition: Partition, progress: replay.Progress) -> None:
        if len(steps) == 3:
            await asyncio.Event().wait()
        steps.append(progress.step)
        await step(self, partition, progress)

    receiver.behaviour = lambda _request: Reply(500)
    settings = settings_for(redis_url, tmp_path)
    async with running_app(settings) as app:
        uid = await app.subscribe(receiver.url, delivery=ONCE)
        await events(app, 40)
        await eventually(lambda: is_placed(redis, uid, {"dead": 40}))
        receiver.behaviour = lambda _request: Reply()
        monkeypatch.setattr(replay.Replays, "_step", stops)
        asked = await acted(app, "/dead-letters/replay")
        await eventually(lambda: len(steps) == 3)
    monkeypatch.setattr(replay.Replays, "_step", step)
    # As if the task had been left alone for its ten seconds, and the lane for its thirty.
    await redis.zadd(KEYS.tasks, {asked["id"]: 0})
    await redis.delete(KEYS.lane(uid, "lease"))

    async with running_app(settings) as app:
        done = await finished(app, asked)
        await eventually(lambda: is_placed(redis, uid, {"delivered": 40}))

    assert (done["examined"], done["moved"]) == (40, 40)
    assert len(receiver.requests) == 80


async def test_dead_letters_are_listed_and_purged(app: RunningApp, receiver: Receiver, redis: Redis) -> None:
    """Of all subscriptions, the newest first, in pages; afterwards their events expire like others."""
    receiver.behaviour = lambda _request: Reply(400)
    uids = [await app.subscribe(receiver.url, name=name) for name in ("first", "second")]
    ids = await events(app, 7)
    await eventually(lambda: is_placed(redis, uids[0], {"dead": 7}))
    await eventually(lambda: is_placed(redis, uids[1], {"dead": 7}))
    listed: list[str] = []
    cursor = None
    while True:
        params = {"limit": "3"} | ({"cursor": cursor} if cursor else {})
        page = (await app.client.get("/api/v1/dead-letters", params=params)).json()
        listed += [item["id"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break

    answer = await app.client.delete("/api/v1/dead-letters", params={"subscription": uids[0]})
    done = await finished(app, answer.json())

    assert len(listed) == len(set(listed)) == 14
    assert (done["action"], done["moved"]) == ("purge", 7)
    assert [await placed(redis, uid) for uid in uids] == [{"discarded": 7}, {"dead": 7}]
    ttl = await redis.ttl(KEYS.event(ids[0]))
    answer = await app.client.delete("/api/v1/dead-letters")
    await finished(app, answer.json())
    assert await redis.ttl(KEYS.event(ids[0])) < ttl
    assert (await app.client.get("/api/v1/dead-letters")).json() == {"items": [], "next": None}


async def test_a_disabled_subscription_is_enabled(app: RunningApp, receiver: Receiver) -> None:
    """What waits for it goes on."""
    uid = await app.subscribe(receiver.url)
    receiver.behaviour = lambda _request: Reply(410)
    await app.publish()

    async def is_disabled() -> bool:
        return (await app.client.get(f"/api/v1/webhook-subscriptions/{uid}")).json()["disabled"] is not None

    await eventually(is_disabled)
    event = await app.publish()
    receiver.behaviour = lambda _request: Reply()

    await acted(app, f"/webhook-subscriptions/{uid}/enable")

    await app.delivery(event["id"], "delivered")
    assert not await is_disabled()


async def test_a_disabled_subscription_is_an_event(app: RunningApp, receiver: Receiver) -> None:
    """Whoever subscribes to it hears of it once, with the reason."""
    gone = await app.subscribe(f"{receiver.url}/gone")
    await app.subscribe(f"{receiver.url}/alarm", "hookcast.*", name="alarm")
    receiver.behaviour = lambda request: Reply(410 if request.path == "/gone" else 200)

    await app.publish()

    requests = await receiver.wait_for(2)
    (alarm,) = [json.loads(request.body) for request in requests if request.path == "/alarm"]
    assert (alarm["type"], alarm["source"]) == ("hookcast.subscription.disabled", "/hookcast")
    assert alarm["data"]["subscription"]["uid"] == gone
    assert alarm["data"]["reason"] == "Gone"


async def test_a_subscription_s_statistics(app: RunningApp, receiver: Receiver, redis: Redis) -> None:
    """How many deliveries are where, since when its endpoint fails, and whether its breaker is open."""
    breaker = {"failures": 2, "open": "1h"}
    uid = await app.subscribe(receiver.url, delivery=LATER | {"circuitBreaker": breaker, "maxInFlight": 1})
    receiver.behaviour = lambda _request: Reply(503)
    await events(app, 5)
    await eventually(lambda: is_placed(redis, uid, {"waiting": 3, "later": 2}))

    async def shown() -> dict[str, Any]:
        content: dict[str, Any] = (await app.client.get(f"/api/v1/webhook-subscriptions/{uid}/stats")).json()
        return content

    await eventually(lambda: is_open(shown()))
    found = await shown()
    assert found["deliveries"] == {"waiting": 3, "later": 2, "dead": 0, "delivered": 0, "discarded": 0}
    assert found["failingSince"] is not None


async def is_open(shown: Any) -> bool:
    return bool((await shown)["circuitBreaker"] == "open")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "field"),
    [
        ("POST", "/deliveries/nothing.here/retry", None, 404, "delivery"),
        ("POST", "/deliveries/x/cancel", None, 404, "delivery"),
        ("POST", "/webhook-subscriptions/nobody/replay", None, 404, "subscription"),
        ("POST", "/webhook-subscriptions/nobody/enable", None, 404, "subscription"),
        ("POST", "/dead-letters/replay", {"subscription": "nobody"}, 404, "subscription"),
        ("POST", "/dead-letters/replay", {"sinse": "2026-01-01T00:00:00Z"}, 422, "sinse"),
        ("POST", "/dead-letters/replay", {"since": "yesterday"}, 422, "since"),
        ("POST", "/dead-letters/replay", {"since": "2999-01-01T00:00:00Z"}, 400, "since"),
        ("POST", "/dead-letters/replay", {"types": ["order.*.x"]}, 422, "types.0"),
        ("DELETE", "/dead-letters?since=now", None, 400, "since"),
        ("GET", "/dead-letters?cursor=5", None, 400, "cursor"),
        ("GET", "/replays/nothing", None, 404, "replay"),
        ("GET", "/webhook-subscriptions/nobody/stats", None, 404, "subscription"),
    ],
)
async def test_a_mistake_is_named(
    app: RunningApp, method: str, path: str, body: dict[str, Any] | None, status: int, field: str
) -> None:
    """By the field that is wrong."""
    answer = await app.client.request(method, f"/api/v1{path}", json=body)

    assert answer.status_code == status, answer.text
    assert answer.json()["field"] == field


async def test_reading_is_not_enough(app: RunningApp) -> None:
    """A key with the scope `read` changes nothing."""
    answer = await app.client.post("/api/v1/dead-letters/replay", headers={"X-API-Key": READER_KEY})

    assert answer.status_code == 403


async def test_a_test_event_is_sent_at_once(app: RunningApp, receiver: Receiver, redis: Redis) -> None:
    """Signed as deliveries are, also to a subscription that is suspended and would not match; stored nowhere."""
    uid = await app.subscribe(f"{receiver.url}/hook", "user.*", suspend=True)
    receiver.behaviour = lambda _request: Reply(503, body=b"not now")

    failed = await acted(app, f"/webhook-subscriptions/{uid}/test", 200)
    receiver.behaviour = lambda _request: Reply()
    sent = await acted(app, f"/webhook-subscriptions/{uid}/test", 200, type="order.created", data={"n": 1})

    assert (failed["delivered"], failed["attempt"]["status"]) == (False, 503)
    assert (failed["attempt"]["reason"], failed["attempt"]["responseHead"]) == ("BadStatus", "not now")
    assert (sent["delivered"], sent["attempt"]["status"]) == (True, 200)
    first, second = receiver.requests
    assert Webhook(SIGNING_SECRET).verify(first.body, first.headers)["type"] == "hookcast.test"
    content = Webhook(SIGNING_SECRET).verify(second.body, second.headers)
    assert (content["type"], content["data"], content["id"]) == ("order.created", {"n": 1}, sent["event"])
    assert await placed(redis, uid) == {}


async def test_a_test_event_that_reaches_nobody_says_why(app: RunningApp) -> None:
    """As an attempt of a delivery would; one to a subscription that is not there is refused."""
    uid = await app.subscribe("http://127.0.0.1:1/")

    sent = await acted(app, f"/webhook-subscriptions/{uid}/test", 200)

    assert (sent["delivered"], sent["attempt"]["status"], sent["attempt"]["reason"]) == (False, None, "ConnectFailed")
    await acted(app, "/webhook-subscriptions/nobody/test", 404)
    await acted(app, f"/webhook-subscriptions/{uid}/test", 422, type="no type")


async def test_above_the_high_water_mark_nothing_is_accepted(
    redis_url: str, tmp_path: Path, receiver: Receiver, redis: Redis
) -> None:
    """503 with the reason, while deliveries go on; below it again events are taken."""
    async with running_app(settings_for(redis_url, tmp_path, high_water=0.5)) as app:
        uid = await app.subscribe(receiver.url)
        await app.publish()
        used = (await redis.info("memory"))["used_memory"]
        await redis.config_set("maxmemory", str(used * 3 // 2))

        async def is_refused() -> bool:
            answer = await app.client.post("/api/v1/events", json={"type": "order.created"})
            return answer.status_code == 503 and "HOOKCAST_HIGH_WATER" in answer.json()["detail"]

        await eventually(is_refused)
        await redis.config_set("maxmemory", str(used * 100))

        async def is_taken() -> bool:
            return (await app.client.post("/api/v1/events", json={"type": "order.created"})).status_code == 202

        await eventually(is_taken)
        await eventually(lambda: redis.xlen(KEYS.lane(uid, "delivered")))


@pytest.mark.parametrize("ordering", ["FIFO", "Unordered"])
async def test_a_cancellation_that_nobody_came_to_is_taken_back(
    app: RunningApp, receiver: Receiver, redis: Redis, ordering: str
) -> None:
    """Cancelled and retried while its lane is suspended: it is sent once, however often that happens."""
    delivery = {"ordering": ordering, "retry": {"schedule": ["1h"]}}
    uid = await app.subscribe(receiver.url, delivery=delivery, suspend=True)
    event = await app.publish()
    waits = await app.delivery(event["id"], "waiting")
    for _ in range(3):
        await acted(app, f"/deliveries/{waits['id']}/cancel")
        await acted(app, f"/deliveries/{waits['id']}/retry")
    await app.subscribe(receiver.url, delivery=delivery)

    await eventually(lambda: is_placed(redis, uid, {"delivered": 1}))
    assert len(receiver.requests) == 1
    assert (await check(redis, KEYS)).violations == []


async def test_a_delivery_that_waits_for_its_turn_is_cancelled(app: RunningApp, receiver: Receiver) -> None:
    """It is loaded already, and the rate limit holds it: it is not sent."""
    await app.subscribe(receiver.url, delivery={"rateLimit": {"requests": 1, "per": "1s"}})
    ids = await events(app, 4)
    waits = await app.delivery(ids[2], "waiting")

    await acted(app, f"/deliveries/{waits['id']}/cancel")

    await app.delivery(ids[3], "delivered")
    assert [json.loads(body)["data"] for body in receiver.bodies()] == [0, 1, 3]
