"""The examples in the OpenAPI document: every operation has them, and they are what the API takes and answers."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.fernet import Fernet
from pydantic import BaseModel, SecretStr
from websockets.asyncio.client import connect

from hookcast_app.delivery.actions import DeadLetterSelection, Sample, SubscriptionSelection
from hookcast_app.events import Event
from hookcast_app.events.cloudevents import Batch, Context, read_events
from hookcast_app.kept.models import GeneratedKey, KeptSubscription, entry_of
from hookcast_app.kept.routes import ChangedSubscription, NewSubscription, SecretValues, merged
from hookcast_app.openapi_examples import EXAMPLES, SECRET
from hookcast_app.server_api.resources import NewPublication, NewUserSubscription
from hookcast_app.settings import ChannelOptions
from hookcast_core.egress import EgressPolicy
from tests.support.app import RunningApp, running_app, settings_for
from tests.support.receiver import Receiver, Reply

KEYS = (SecretStr(Fernet.generate_key().decode()),)
SUBSCRIPTION = "/api/v1/webhook-subscriptions/{uid}"
CHANNEL, USER = "/api/v1/channels/{channel}", "/api/v1/users/{user}"
NAMESPACES = {"chat": ChannelOptions(subscribe="anyone", presence=True, history_size=10)}
WITH_BODY = [operation for operation, example in EXAMPLES.items() if example.request is not None]
MODELS: dict[tuple[str, str], type[BaseModel]] = {
    ("post", "/api/v1/webhook-subscriptions"): NewSubscription,
    ("put", SUBSCRIPTION): ChangedSubscription,
    ("patch", SUBSCRIPTION): ChangedSubscription,
    ("post", f"{SUBSCRIPTION}/test"): Sample,
    ("post", f"{SUBSCRIPTION}/replay"): SubscriptionSelection,
    ("put", "/api/v1/secrets/{name}"): SecretValues,
    ("post", "/api/v1/dead-letters/replay"): DeadLetterSelection,
    ("post", "/api/v1/channels/{channel}/publications"): NewPublication,
    ("post", "/api/v1/users/{user}/subscriptions/{channel}"): NewUserSubscription,
}


@pytest.fixture
async def app(redis_url: str, tmp_path: Path) -> AsyncIterator[RunningApp]:
    async with running_app(
        settings_for(redis_url, tmp_path, encryption_keys=KEYS, channel_namespaces=NAMESPACES)
    ) as running:
        yield running


@pytest.fixture
async def document(app: RunningApp) -> dict[str, Any]:
    await app.client.get("/openapi.json")
    content: dict[str, Any] = (await app.client.get("/openapi.json")).json()
    return content


def operations(document: dict[str, Any]) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    """The REST API's, by method and path."""
    for path, methods in document["paths"].items():
        if path.startswith("/api/v1/"):
            for method, operation in methods.items():
                yield (method, path), operation


async def test_no_operation_lacks_an_example(document: dict[str, Any]) -> None:
    """Of each kind of body that it takes, and of each with which it answers success."""
    lacking = []
    for operation, described in operations(document):
        bodies = [("request", described.get("requestBody", {}))]
        bodies += [(status, answer) for status, answer in described["responses"].items() if status.startswith("2")]
        assert len(bodies) > 1, operation
        for what, body in bodies:
            lacking += [
                (operation, what, kind) for kind, each in body.get("content", {}).items() if "example" not in each
            ]

    assert lacking == []


async def test_no_example_is_of_an_operation_that_there_is_not(document: dict[str, Any]) -> None:
    """And none is missing: what is not in the table has its own."""
    assert EXAMPLES.keys() | {("post", "/api/v1/events")} == {operation for operation, _ in operations(document)}


async def test_a_key_can_be_given_on_the_page(document: dict[str, Any]) -> None:
    """Each operation says how a key is shown."""
    schemes = document["components"]["securitySchemes"]
    for _, described in operations(document):
        assert {name for way in described["security"] for name in way} == schemes.keys() == {"bearer", "apiKey"}


@pytest.mark.parametrize("operation", WITH_BODY)
def test_an_example_of_a_request_is_accepted_by_its_model(operation: tuple[str, str]) -> None:
    """Of every operation that takes one."""
    MODELS[operation].model_validate(EXAMPLES[operation].request)


def test_an_example_of_a_specification_holds() -> None:
    """With the secret of the other example."""
    created = EXAMPLES["post", "/api/v1/webhook-subscriptions"].request["spec"]
    replaced = EXAMPLES["put", SUBSCRIPTION].request["spec"]
    patched = merged(replaced, EXAMPLES["patch", SUBSCRIPTION].request["spec"])
    secrets = {"shop": EXAMPLES["put", "/api/v1/secrets/{name}"].request["data"]}
    for spec in (created, replaced, patched):
        kept = KeptSubscription("u", "default", "orders", 1, spec, (GeneratedKey(SECRET),))
        assert entry_of(kept, secrets, EgressPolicy([])).headers == (("Authorization", secrets["shop"]["token"]),)
    assert EXAMPLES["patch", SUBSCRIPTION].answer["spec"] == patched


async def test_examples_of_events_are_accepted(document: dict[str, Any]) -> None:
    """In each of the three forms."""
    content = document["paths"]["/api/v1/events"]["post"]["requestBody"]["content"]
    context = Context(caller="shop", now_ms=0, max_bytes=262_144, idempotency_key=None, hops=0)
    for kind, each in content.items():
        read = read_events(kind, {}, msgspec.json.encode(each["example"]), context)
        events = read.entries if isinstance(read, Batch) else [read]
        assert all(isinstance(event, Event) for event in events), kind


class Caller:
    """Calls operations with their examples, and compares what they answer with the examples of that."""

    def __init__(self, app: RunningApp) -> None:
        self._app = app
        self.compared: set[tuple[str, str]] = set()

    async def __call__(self, method: str, path: str, body: Any = None, **names: str) -> Any:
        request = EXAMPLES[method, path].request if body is None else body
        answer = await self._app.client.request(method, path.format(**names), json=request)
        assert answer.is_success, answer.text
        example = EXAMPLES[method, path].answer
        content = answer.json() if answer.content else None
        assert shape(example, content) == shape(content, example), (method, path, content)
        self.compared.add((method, path))
        return content


def shape(value: Any, other: Any, name: str = "") -> Any:
    """Names and kinds of what is in it; what users chose is of no shape, nor is what the other has not."""
    if name in {"spec", "data"} or value is None or other is None:
        return None
    if isinstance(value, dict):
        known = other if isinstance(other, dict) else {}
        return {key: shape(each, known.get(key), key) for key, each in value.items()}
    if isinstance(value, list) and isinstance(other, list) and name != "keys":
        return shape(value[0], other[0]) if value and other else None
    return type(value).__name__


async def call_about_channels(call: Caller, app: RunningApp) -> None:
    """With a client on one."""
    names = {"channel": "chat:lobby", "user": "ann"}
    async with connect(f"ws{app.url.removeprefix('http')}/connection/websocket") as client:
        await client.send('{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"chat:lobby"}}')
        while '"id":2' not in await client.recv(decode=True):
            pass
        assert (await call("get", "/api/v1/channels"))["items"] == [{"channel": "chat:lobby", "clients": 1}]
        await call("post", f"{CHANNEL}/publications", **names)
        assert (await call("get", f"{CHANNEL}/presence", **names))["items"][0]["user"] == ""
        await call("get", f"{CHANNEL}/presence-stats", **names)
        assert (await call("get", f"{CHANNEL}/history", **names))["items"][0]["offset"] == 1
        assert (await call("get", f"{CHANNEL}/messages", **names))["recovered"]
        await call("delete", f"{CHANNEL}/history", **names)
        await call("post", f"{USER}/subscriptions/{{channel}}", **names)
        await call("delete", f"{USER}/subscriptions/{{channel}}", **names)
        await call("delete", f"{USER}/connections", **names)
        assert len((await call("get", "/api/v1/nodes"))["items"]) == 1


async def test_examples_are_what_the_api_answers(app: RunningApp, receiver: Receiver) -> None:
    """Every operation is called with its example, but for the endpoint's URL, and answers in the shape of its own."""
    call = Caller(app)
    await call("put", "/api/v1/secrets/{name}", name="shop")
    await call("get", "/api/v1/secrets")
    await call("get", "/api/v1/secrets/{name}", name="shop")
    wanted = EXAMPLES["post", "/api/v1/webhook-subscriptions"].request
    spec = {**wanted["spec"], "endpoint": {**wanted["spec"]["endpoint"], "url": receiver.url}}
    uid = (await call("post", "/api/v1/webhook-subscriptions", {**wanted, "spec": spec}))["uid"]
    await call("get", "/api/v1/webhook-subscriptions")
    await call("get", SUBSCRIPTION, uid=uid)
    await call("put", SUBSCRIPTION, {"spec": spec}, uid=uid)
    await call("post", f"{SUBSCRIPTION}/rotate-secret", uid=uid)
    await call("post", f"{SUBSCRIPTION}/test", uid=uid)
    await call("post", f"{SUBSCRIPTION}/enable", uid=uid)
    delivered = (await app.publish(data={"amount": 120}))["id"]
    await app.delivery(delivered, "delivered")
    receiver.behaviour = lambda _: Reply(404, body=b"no such hook")
    died = (await app.delivery((await app.publish(data={"amount": 121}))["id"], "dead"))["id"]
    await call("get", "/api/v1/events")
    await call("get", "/api/v1/events/{event_id}", event_id=delivered)
    await call("get", "/api/v1/deliveries")
    await call("get", "/api/v1/deliveries/{delivery_id}", delivery_id=died)
    await call("get", f"{SUBSCRIPTION}/deliveries", uid=uid)
    await call("get", f"{SUBSCRIPTION}/stats", uid=uid)
    await call("get", "/api/v1/dead-letters")
    await call("patch", SUBSCRIPTION, uid=uid)  # it is suspended, so that what is moved stays where it is
    await call("post", "/api/v1/deliveries/{delivery_id}/retry", delivery_id=died)
    await call("post", "/api/v1/deliveries/{delivery_id}/cancel", delivery_id=died)
    past = {"since": "2001-01-01T00:00:00Z", "until": "2001-01-02T00:00:00Z"}
    asked = await call("post", f"{SUBSCRIPTION}/replay", past, uid=uid)
    await call("post", "/api/v1/dead-letters/replay", past)
    await call("delete", "/api/v1/dead-letters")
    await call("get", "/api/v1/replays/{task_id}", task_id=asked["id"])
    await call("delete", SUBSCRIPTION, uid=uid)
    await call("delete", "/api/v1/secrets/{name}", name="shop")
    await call_about_channels(call, app)

    assert call.compared == EXAMPLES.keys()
