"""From a published event to a settled delivery, through the whole app: real Valkey, real HTTP, files as manifests."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis
from standardwebhooks import Webhook

from hookcast_app.redis import Keys
from tests.support.app import API_KEY, READER_KEY, SIGNING_SECRET, RunningApp, eventually, running_app, settings_for
from tests.support.receiver import Receiver, Reply, Request

FAST = {"retry": {"schedule": ["0s", "0s"]}}


@pytest.fixture
async def app(redis_url: str, tmp_path: Path) -> AsyncIterator[RunningApp]:
    async with running_app(settings_for(redis_url, tmp_path)) as running:
        yield running


async def test_an_event_arrives_as_a_verified_webhook(app: RunningApp, receiver: Receiver) -> None:
    """The stock verifier accepts it, and the body is the CloudEvent with the data as it was written."""
    await app.subscribe(f"{receiver.url}/hook")

    answer = await app.publish(data={"amount": 1.5}, subject="order 7")

    (request,) = await receiver.wait_for(1)
    assert answer["matched"] == 1
    content = Webhook(SIGNING_SECRET).verify(request.body, request.headers)
    assert content["type"] == "order.created"
    assert content["data"] == {"amount": 1.5}
    assert request.headers["content-type"] == "application/cloudevents+json"
    assert request.headers["x-hookcast-attempt"] == "1"
    assert request.headers["x-hookcast-event"] == "order.created"
    assert request.headers["x-hookcast-hops"] == "1"
    assert request.headers["user-agent"].startswith("Hookcast/")


async def test_data_alone_is_sent_where_that_is_asked_for(app: RunningApp, receiver: Receiver) -> None:
    """Format Data: the very bytes of the data."""
    await app.subscribe(receiver.url, format="Data")

    await app.client.post(
        "/api/v1/events",
        content=b'{"type": "order.created", "data": {"n": 1.10}}',
        headers={"content-type": "application/json"},
    )

    (request,) = await receiver.wait_for(1)
    assert request.body == b'{"n": 1.10}'
    assert request.headers["content-type"] == "application/json"


async def test_the_delivery_tells_what_happened(app: RunningApp, receiver: Receiver) -> None:
    """Every attempt with its time, duration, status and the head of the answer; the correlation id goes through."""
    uid = await app.subscribe(receiver.url)
    receiver.behaviour = lambda _request: Reply(200, body=b"thanks")

    answer = await app.client.post(
        "/api/v1/events", json={"type": "order.created"}, headers={"X-Correlation-ID": "trace-me"}
    )
    shown = await app.delivery(answer.json()["id"], "delivered")

    assert shown["subscription"] == uid
    assert shown["correlationId"] == "trace-me"
    assert receiver.requests[0].headers["x-correlation-id"] == "trace-me"
    assert receiver.requests[0].headers["x-hookcast-delivery"] == shown["id"]
    assert receiver.requests[0].headers["webhook-id"] == shown["webhookId"]
    (attempt,) = shown["attempts"]
    assert (attempt["number"], attempt["status"], attempt["responseHead"]) == (1, 200, "thanks")


async def test_a_failing_endpoint_is_tried_again_by_its_schedule(app: RunningApp, receiver: Receiver) -> None:
    """The same webhook-id, a new timestamp and attempt number; then it is delivered."""
    await app.subscribe(receiver.url, delivery=FAST)
    statuses = iter([503, 500, 200])
    receiver.behaviour = lambda _request: Reply(next(statuses))

    answer = await app.publish()
    requests = await receiver.wait_for(3)
    shown = await app.delivery(answer["id"], "delivered")

    assert [request.headers["x-hookcast-attempt"] for request in requests] == ["1", "2", "3"]
    assert len({request.headers["webhook-id"] for request in requests}) == 1
    assert len({request.body for request in requests}) == 1
    assert [attempt["status"] for attempt in shown["attempts"]] == [503, 500, 200]


async def test_a_delivery_without_success_becomes_a_dead_letter(app: RunningApp, receiver: Receiver) -> None:
    """After the last attempt; it is listed as such, and its event stays."""
    uid = await app.subscribe(receiver.url, delivery=FAST)
    receiver.behaviour = lambda _request: Reply(500, body=b"broken")

    answer = await app.publish()
    shown = await app.delivery(answer["id"], "dead")

    assert shown["reason"] == "AttemptsExhausted"
    assert len(shown["attempts"]) == 3
    listed = await app.client.get("/api/v1/deliveries", params={"subscription": uid, "status": "dead"})
    assert [item["id"] for item in listed.json()["items"]] == [shown["id"]]


async def test_a_client_error_is_final(app: RunningApp, receiver: Receiver) -> None:
    """400 is not tried again."""
    await app.subscribe(receiver.url, delivery=FAST)
    receiver.behaviour = lambda _request: Reply(400)

    shown = await app.delivery((await app.publish())["id"], "dead")

    assert shown["reason"] == "BadStatus"
    assert len(receiver.requests) == 1


async def test_gone_disables_until_the_specification_changes(app: RunningApp, receiver: Receiver) -> None:
    """410: nothing more is sent, later events wait, and a changed subscription gets them."""
    await app.subscribe(receiver.url)
    receiver.behaviour = lambda _request: Reply(410)
    first = await app.publish()
    assert (await app.delivery(first["id"], "dead"))["reason"] == "Gone"

    receiver.behaviour = lambda _request: Reply(200)
    shown = await app.client.get("/api/v1/webhook-subscriptions")
    assert shown.json()["items"][0]["disabled"]["reason"] == "Gone"
    second = await app.publish()
    await app.delivery(second["id"], "waiting")
    await app.subscribe(f"{receiver.url}/changed")

    await app.delivery(second["id"], "delivered")
    assert receiver.requests[-1].path == "/changed"


async def test_a_hanging_endpoint_times_out_and_delays_no_other(app: RunningApp, receiver: Receiver) -> None:
    """Endpoints hang for their whole time-out, a long and a short one; the others' deliveries pass them by."""
    released = asyncio.Event()

    async def hang(request: Request) -> Reply:
        if request.path != "/fine":
            await released.wait()
        return Reply()

    receiver.behaviour = hang
    delivery = {"timeout": "30s", "retry": {"schedule": []}}
    await app.subscribe(f"{receiver.url}/hang", name="hanging", delivery=delivery)
    short = await app.subscribe(f"{receiver.url}/short", name="short", delivery={**delivery, "timeout": "1s"})
    await app.subscribe(f"{receiver.url}/fine", name="fine")

    answers = [await app.publish() for _ in range(40)]
    await eventually(lambda: sum(request.path == "/fine" for request in receiver.requests) == 40)
    assert sum(request.path == "/hang" for request in receiver.requests) <= 16

    async def dead() -> dict[str, Any]:
        answer = await app.client.get(f"/api/v1/deliveries/{answers[0]['id']}.{short}")
        content: dict[str, Any] = answer.json()
        return content

    async with asyncio.timeout(10):
        while (content := await dead())["status"] != "dead":
            await asyncio.sleep(0.05)
    released.set()
    assert content["attempts"][0]["reason"] == "ResponseTimeout"


async def test_a_private_address_is_never_reached(redis_url: str, tmp_path: Path, receiver: Receiver) -> None:
    """Without permission the subscription is refused; a name that turns out private is dead, and nothing was sent."""
    settings = settings_for(redis_url, tmp_path, egress_allow=("localhost:1",))
    async with running_app(settings) as app:
        text = (tmp_path / "manifests" / "x.yaml").name
        manifest = {
            "apiVersion": "hookcast.dev/v1alpha1",
            "kind": "WebhookSubscription",
            "metadata": {"name": "private"},
            "spec": {"endpoint": {"url": f"https://127.0.0.1:{receiver.port}"}, "events": {"types": ["*"]}},
        }
        await app.write(text, json.dumps(manifest))
        assert "EgressDenied" in app.application.configuration.problems[0]

        manifest["spec"]["endpoint"]["url"] = f"https://localhost:{receiver.port}"  # type: ignore[index]
        await app.write(text, json.dumps(manifest))
        shown = await app.delivery((await app.publish())["id"], "dead")

    assert shown["reason"] == "EgressDenied"
    assert receiver.requests == []


async def test_fifo_keeps_the_order_over_retries(app: RunningApp, receiver: Receiver) -> None:
    """Nothing overtakes an event that has to be sent again."""
    await app.subscribe(receiver.url, delivery={"ordering": "FIFO", "retry": {"schedule": ["100ms", "0s", "0s"]}})
    failures = iter([500, 200, 200, 500, 500, 200])
    receiver.behaviour = lambda _request: Reply(next(failures, 200))

    answers = [await app.publish(data=number) for number in range(6)]
    await app.delivery(answers[-1]["id"], "delivered")

    seen = [json.loads(body)["data"] for body in receiver.bodies()]
    assert seen == sorted(seen)
    assert sorted(set(seen)) == list(range(6))


async def test_a_rate_limit_spreads_requests(app: RunningApp, receiver: Receiver) -> None:
    """Five a second and eight events: three of them have to wait, and use up no attempt."""
    await app.subscribe(receiver.url, delivery={"rateLimit": {"requests": 5, "per": "1s"}})
    loop = asyncio.get_running_loop()
    times: list[float] = []

    def note(_request: Request) -> Reply:
        times.append(loop.time())
        return Reply()

    receiver.behaviour = note
    for _ in range(8):
        await app.publish()
    await receiver.wait_for(8)

    assert times[7] - times[0] > 0.5
    assert {request.headers["x-hookcast-attempt"] for request in receiver.requests} == {"1"}


async def test_suspend_holds_deliveries(app: RunningApp, receiver: Receiver) -> None:
    """They wait, and go out when the subscription is resumed."""
    await app.subscribe(receiver.url, suspend=True)
    answer = await app.publish()
    await app.delivery(answer["id"], "waiting")

    await app.subscribe(receiver.url, suspend=False)

    await app.delivery(answer["id"], "delivered")


async def test_nothing_is_sent_unsigned(app: RunningApp, receiver: Receiver) -> None:
    """With every key expired deliveries wait, and the subscription says why; with another key they go out."""
    expired = {"secretRef": {"name": "orders-signing", "key": "secret"}, "expiresAt": "2020-01-01T00:00:00Z"}
    uid = await app.subscribe(receiver.url, signing={"keys": [expired]})
    answer = await app.publish()
    await app.delivery(answer["id"], "waiting")
    shown = (await app.client.get(f"/api/v1/webhook-subscriptions/{uid}")).json()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app.application.admin), base_url="http://a") as admin:
        health = (await admin.get("/internal/deliveries/health")).json()
    assert shown["held"] == {"reason": "NoSigningKey"}
    assert [(one["state"], one["reason"]) for one in health["deliveries"]] == [("NoSigningKey", "NoSigningKey")]
    assert receiver.requests == []

    await app.subscribe(receiver.url)

    delivery = await app.delivery(answer["id"], "delivered")
    assert [attempt["number"] for attempt in delivery["attempts"]] == [1]
    assert (await app.client.get("/api/v1/webhook-subscriptions")).json()["items"][0]["held"] is None


async def test_a_deleted_subscription_discards_what_waits(redis_url: str, tmp_path: Path, receiver: Receiver) -> None:
    """Once it has been gone for the grace, pending deliveries end as discarded, with the reason."""
    async with running_app(settings_for(redis_url, tmp_path, deletion_grace_seconds=0)) as app:
        await app.subscribe(receiver.url, suspend=True)
        answer = await app.publish()
        await app.delivery(answer["id"], "waiting")

        await app.write("orders.yaml", "")

        shown = await app.delivery(answer["id"], "discarded")
    assert shown["reason"] == "SubscriptionDeleted"
    assert receiver.requests == []


async def test_a_manifest_that_is_written_anew_loses_nothing(app: RunningApp, receiver: Receiver) -> None:
    """Emptied for a moment, as a shell's redirection does: what waited is delivered."""
    await app.subscribe(receiver.url, suspend=True)
    answer = await app.publish()
    await app.delivery(answer["id"], "waiting")
    path = app.manifests / "orders.yaml"
    text = path.read_text()

    path.write_text("")
    await eventually(lambda: not app.application.configuration.entries)
    path.write_text(text.replace("suspend: true", "suspend: false"))

    await app.delivery(answer["id"], "delivered")


async def test_one_broken_manifest_disturbs_no_other(app: RunningApp, receiver: Receiver) -> None:
    """It is reported with file, document and field; its own last good version goes on working."""
    await app.subscribe(f"{receiver.url}/a", name="a")
    await app.subscribe(f"{receiver.url}/b", name="b")

    await app.write(
        "a.yaml", "kind: WebhookSubscription\napiVersion: hookcast.dev/v1alpha1\nmetadata: {name: a}\nspec: 5\n"
    )

    listed = (await app.client.get("/api/v1/webhook-subscriptions")).json()
    assert "a.yaml, document 1" in listed["problems"][0]
    answer = await app.publish()
    assert answer["matched"] == 2
    await receiver.wait_for(2)
    assert {request.path for request in receiver.requests} == {"/a", "/b"}


async def test_filters_decide_by_the_data(app: RunningApp, receiver: Receiver) -> None:
    """CEL over the event; one that cannot be evaluated is no match."""
    await app.subscribe(receiver.url, events={"filter": "data.amount > 100.0"})

    assert (await app.publish(data={"amount": 50.0}))["matched"] == 0
    assert (await app.publish(data={}))["matched"] == 0
    assert (await app.publish(data={"amount": 500.0}))["matched"] == 1


async def test_after_redis_lost_everything_new_events_flow(app: RunningApp, receiver: Receiver, redis: Redis) -> None:
    """FLUSHALL: lanes are made anew by what is published."""
    await app.subscribe(receiver.url)
    await app.delivery((await app.publish())["id"], "delivered")

    await redis.flushall()

    await app.delivery((await app.publish())["id"], "delivered")


async def test_an_event_is_found_by_its_publishers_id(app: RunningApp, receiver: Receiver) -> None:
    """With its source, or by default the caller's own; it shows its deliveries."""
    await app.subscribe(receiver.url)
    await app.publish(id="order-7", source="/shop", data={"n": 1})
    await app.publish(id="mine")
    await app.publish(id="a/b")

    named = await app.client.get("/api/v1/events/order-7", params={"source": "/shop"})
    own = await app.client.get("/api/v1/events/mine")
    unknown = await app.client.get("/api/v1/events/order-7")

    assert (await app.client.get("/api/v1/events/a%2Fb")).json()["event"]["id"] == "a/b"
    assert named.json()["event"]["data"] == {"n": 1}
    assert len(named.json()["deliveries"]) == 1
    assert own.status_code == 200
    listed = await app.client.get("/api/v1/deliveries", params={"event": "mine"})
    assert [item["event"] for item in listed.json()["items"]] == ["mine"]
    assert unknown.status_code == 404
    assert unknown.json()["reason"] == "NotFound"


async def test_lists_come_in_pages(app: RunningApp, receiver: Receiver) -> None:
    """Every event and delivery once, newest first, over as many pages as it takes."""
    uid = await app.subscribe(receiver.url)
    ids = [(await app.publish())["id"] for _ in range(7)]
    await receiver.wait_for(7)
    for event in ids:
        await app.delivery(event, "delivered")

    for path, params in (
        ("/api/v1/events", {}),
        ("/api/v1/deliveries", {}),
        ("/api/v1/deliveries", {"subscription": uid}),
        ("/api/v1/deliveries", {"subscription": uid, "status": "delivered"}),
    ):
        seen: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            query = {**params, "limit": "3", **({"cursor": cursor} if cursor else {})}
            page = (await app.client.get(path, params=query)).json()
            seen += [item["event"]["id"] if path.endswith("events") else item["event"] for item in page["items"]]
            cursor = page["next"]
        assert sorted(seen) == sorted(ids), (path, params)
        if "subscription" not in params:
            assert seen == ids[::-1]


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/api/v1/events/nothing", 404, "NotFound"),
        ("/api/v1/deliveries/nothing", 404, "NotFound"),
        ("/api/v1/deliveries/a.b", 404, "NotFound"),
        ("/api/v1/webhook-subscriptions/nothing", 404, "NotFound"),
        ("/api/v1/deliveries?status=in_flight", 400, "InvalidRequest"),
        ("/api/v1/deliveries?status=lost", 400, "InvalidRequest"),
        ("/api/v1/events?limit=0", 400, "InvalidRequest"),
        ("/api/v1/events?cursor=%0a", 400, "InvalidRequest"),
        ("/api/v1/events?cursor=abc", 400, "InvalidRequest"),
        ("/api/v1/events?cursor=99999999999999999999999", 400, "InvalidRequest"),
        ("/api/v1/deliveries?cursor=x~", 400, "InvalidRequest"),
        ("/api/v1/deliveries?subscription=u&cursor=later~5-5", 400, "InvalidRequest"),
        ("/api/v1/deliveries?subscription=u&cursor=later~99999999999999999999", 400, "InvalidRequest"),
        ("/api/v1/deliveries?subscription=u&cursor=waiting~1-2-3", 400, "InvalidRequest"),
        ("/api/v1/deliveries?subscription=u&cursor=dead~-", 400, "InvalidRequest"),
        ("/api/v1/deliveries?subscription=u&cursor=1-1", 400, "InvalidRequest"),
        ("/api/v1/nothing", 404, "NotFound"),
    ],
)
async def test_a_wrong_question_gets_a_problem(app: RunningApp, path: str, status: int, reason: str) -> None:
    """RFC 9457, with the stable reason."""
    answer = await app.client.get(path)

    assert (answer.status_code, answer.json()["reason"]) == (status, reason)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_reading_needs_a_key_with_the_scope(app: RunningApp) -> None:
    """No key: 401. A reader may read, and not publish."""
    nobody = await app.client.get("/api/v1/events", headers={"X-API-Key": "wrong"})
    reader = {"X-API-Key": READER_KEY}
    read = await app.client.get("/api/v1/events", headers=reader)
    published = await app.client.post("/api/v1/events", json={"type": "a"}, headers=reader)

    assert (nobody.status_code, read.status_code, published.status_code) == (401, 200, 403)
    assert API_KEY not in nobody.text


async def test_nothing_secret_is_shown(app: RunningApp, receiver: Receiver) -> None:
    """Neither signing keys nor what an endpoint echoes of them."""
    uid = await app.subscribe(receiver.url)
    receiver.behaviour = lambda _request: Reply(200, body=SIGNING_SECRET.encode())

    shown = await app.delivery((await app.publish())["id"], "delivered")
    subscription = await app.client.get(f"/api/v1/webhook-subscriptions/{uid}")

    assert shown["attempts"][0]["responseHead"] == "[redacted]"
    assert SIGNING_SECRET not in subscription.text


async def test_every_delivery_is_in_exactly_one_place(app: RunningApp, receiver: Receiver, redis: Redis) -> None:
    """After a mixed load: what was accepted is what the places hold together, and nothing is left open."""
    delivery = {"retry": {"schedule": ["0s"]}, "circuitBreaker": {"failures": 10_000}}
    uid = await app.subscribe(receiver.url, delivery=delivery)
    receiver.behaviour = lambda request: Reply(500 if json.loads(request.body)["data"] % 3 == 0 else 200)

    await asyncio.gather(*(app.publish(data=number) for number in range(60)))

    keys = Keys()

    async def counts() -> tuple[int, int, int]:
        return (
            await redis.xlen(keys.lane(uid, "waiting")) + await redis.zcard(keys.lane(uid, "later")),
            await redis.xlen(keys.lane(uid, "delivered")),
            await redis.xlen(keys.lane(uid, "dead")),
        )

    async with asyncio.timeout(15):
        while await counts() != (0, 40, 20):
            await asyncio.sleep(0.05)
