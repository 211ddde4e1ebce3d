"""A real operator and a real server: from an object that is applied to the webhook that arrives, and its status."""

import json
import re
import signal
from base64 import b64decode
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from standardwebhooks import Webhook

from tests.support.app import eventually
from tests.support.cluster import NAMESPACE, Cluster, OperatorProcess, publish, running_cluster
from tests.support.kinds import SIGNING_SECRET, Raw, secret, source, subscription
from tests.support.receiver import Receiver, Reply, running_receiver
from tests.support.serving import Serving

OTHER_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster")) as running:
        running.api.apply(secret())
        yield running


@pytest.fixture(scope="module")
def started(cluster: Cluster) -> OperatorProcess:
    operator: OperatorProcess = cluster.operator(patches={"push.ASK_SECONDS": 0.3}).start()
    return operator


@pytest.fixture(scope="module")
def pods() -> dict[str, Serving]:
    return {}


@pytest.fixture
async def operator(started: OperatorProcess) -> OperatorProcess:
    await started.ready()
    return started


@pytest.fixture
async def server(cluster: Cluster, operator: OperatorProcess, pods: dict[str, Serving]) -> Serving:
    assert operator.process.poll() is None
    if not pods:
        pods["app-0"] = await cluster.pod()
        pods["app-0"].start()
        await pods["app-0"].ready()
    return pods["app-0"]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with running_receiver() as running:
        yield running


def to(receiver: Receiver, name: str, /, **spec: Any) -> Raw:
    """A subscription to events of its own name."""
    return subscription(name, **{"endpoint": {"url": receiver.url}, "events": {"types": [name]}, **spec})


async def test_what_is_applied_is_delivered(cluster: Cluster, server: Serving, receiver: Receiver) -> None:
    """With a signing key that was made for it; the object says that it is ready, and when it delivered last."""
    raw = to(receiver, "applied", signing={})
    cluster.api.apply(raw)
    await cluster.ready(raw)
    await cluster.says(raw, "Delivering", "NoDeliveriesYet", status="Unknown")

    assert await publish(server, "applied") == 1

    (request,) = await receiver.wait_for(1)
    made = cluster.api.get(secret("applied-webhook-secret"))
    assert made is not None
    Webhook(b64decode(made["data"]["secret"]).decode()).verify(request.body, request.headers)
    await cluster.says(raw, "Delivering", "Delivering", status="True")
    found = cluster.api.get(raw)
    assert found is not None
    assert found["status"]["signingSecret"] == {"name": "applied-webhook-secret"}
    assert found["status"]["endpoint"] == "127.0.0.1"
    assert found["status"]["lastDelivery"]["outcome"] == "Delivered"
    assert found["status"]["configurationSequence"] >= 1
    events = [one for one in cluster.api.all("events") if one["involvedObject"]["name"] == "applied"]
    assert [(one["type"], one["reason"]) for one in events] == [("Normal", "Programmed")]


async def test_an_edit_is_effective(cluster: Cluster, server: Serving, receiver: Receiver) -> None:
    """The next event goes to the new URL, and none to the old."""
    raw = to(receiver, "edited", endpoint={"url": f"{receiver.url}/old"})
    cluster.api.apply(raw)
    await cluster.ready(raw)
    raw["spec"]["endpoint"]["url"] = f"{receiver.url}/new"
    cluster.api.apply(raw)
    await cluster.ready(raw)

    await publish(server, "edited")

    (request,) = await receiver.wait_for(1)
    assert request.path == "/new"


async def test_a_suspended_one_waits(cluster: Cluster, server: Serving, receiver: Receiver) -> None:
    """And goes on when it is no longer suspended."""
    raw = to(receiver, "suspended", suspend=True)
    cluster.api.apply(raw)
    await cluster.says(raw, "Ready", "Suspended")
    assert await publish(server, "suspended") == 1

    raw["spec"]["suspend"] = False
    cluster.api.apply(raw)

    await cluster.ready(raw)
    await receiver.wait_for(1)


async def test_what_is_deleted_is_gone(cluster: Cluster, server: Serving, receiver: Receiver) -> None:
    """Nothing matches any more, and its generated Secret goes with it."""
    raw = to(receiver, "deleted", signing={})
    cluster.api.apply(raw)
    await cluster.ready(raw)

    cluster.api.delete(raw)

    async def matches_nothing() -> bool:
        return await publish(server, "deleted") == 0

    await eventually(matches_nothing)
    assert cluster.api.get(secret("deleted-webhook-secret")) is None


async def test_an_invalid_filter_is_told_and_stops_no_other(
    cluster: Cluster, server: Serving, receiver: Receiver
) -> None:
    """By its condition and a warning; what held before goes on, and the next object is served."""
    raw, other = to(receiver, "broken"), to(receiver, "sound")
    cluster.api.apply(raw)
    await cluster.ready(raw)
    raw["spec"]["events"]["filter"] = "data.x >"
    cluster.api.apply(raw)
    cluster.api.apply(other)

    condition = await cluster.says(raw, "Accepted", "InvalidFilter", status="False")
    await cluster.ready(other)

    assert condition["message"].startswith("spec.events.filter")
    assert "generation 1 stays in force" in cluster.conditions(raw)["Programmed"]["message"]
    assert [await publish(server, "broken"), await publish(server, "sound")] == [1, 1]
    await receiver.wait_for(2)
    await eventually(
        lambda: [one["reason"] for one in cluster.api.all("events") if one["type"] == "Warning"].count("InvalidFilter")
    )


async def test_a_secret_that_comes_later(cluster: Cluster, server: Serving, receiver: Receiver) -> None:
    """Is missed, seen without its label, then used."""
    keys = {"keys": [{"secretRef": {"name": "later", "key": "secret"}}]}
    raw = to(receiver, "waiting", signing=keys)
    cluster.api.apply(raw)
    await cluster.says(raw, "ResolvedRefs", "SecretNotFound", status="False")
    cluster.api.apply(secret("later"))

    await cluster.ready(raw)

    cluster.api.apply(secret("unlabelled", allowed=False))
    keys["keys"][0]["secretRef"]["name"] = "unlabelled"
    cluster.api.apply(raw)
    condition = await cluster.says(raw, "ResolvedRefs", "SecretNotAllowed", status="False")
    assert "hookcast.dev/allow" in condition["message"]
    assert await publish(server, "waiting") == 1
    cluster.api.apply(secret("unlabelled"))
    await cluster.ready(raw)


async def test_a_secret_that_is_deleted_and_restored(cluster: Cluster, server: Serving, receiver: Receiver) -> None:
    """Deliveries go on with what was known; then with what it says."""
    raw = to(receiver, "lost", signing={"keys": [{"secretRef": {"name": "lost", "key": "secret"}}]})
    cluster.api.apply(secret("lost"))
    cluster.api.apply(raw)
    await cluster.ready(raw)
    cluster.api.delete(secret("lost"))
    await cluster.says(raw, "ResolvedRefs", "SecretNotFound", status="False")
    await publish(server, "lost")
    (request,) = await receiver.wait_for(1)
    Webhook(SIGNING_SECRET).verify(request.body, request.headers)

    cluster.api.apply(secret("lost", secret=OTHER_SECRET))
    await cluster.ready(raw)

    await publish(server, "lost")
    *_, request = await receiver.wait_for(2)
    Webhook(OTHER_SECRET).verify(request.body, request.headers)


async def test_a_key_is_rotated(cluster: Cluster, server: Serving, receiver: Receiver) -> None:
    """Signed with both while both are named."""
    cluster.api.apply(secret("rotated", old=SIGNING_SECRET, new=OTHER_SECRET))
    raw = to(receiver, "rotated")
    raw["spec"]["signing"] = {"keys": [{"secretRef": {"name": "rotated", "key": key}} for key in ("new", "old")]}
    cluster.api.apply(raw)
    await cluster.ready(raw)

    await publish(server, "rotated")

    (request,) = await receiver.wait_for(1)
    for key in (SIGNING_SECRET, OTHER_SECRET):
        Webhook(key).verify(request.body, request.headers)


async def test_a_disabled_endpoint_is_enabled_by_annotation(
    cluster: Cluster, server: Serving, receiver: Receiver
) -> None:
    """410 disables; the condition says how to go on, and it does."""
    receiver.behaviour = lambda _: Reply(410)
    raw = to(receiver, "disabled")
    cluster.api.apply(raw)
    await cluster.ready(raw)
    await publish(server, "disabled")
    condition = await cluster.says(raw, "Delivering", "Disabled", status="False")
    assert "hookcast.dev/enable" in condition["message"]
    receiver.behaviour = lambda _: Reply()

    raw["metadata"]["annotations"] = {"hookcast.dev/enable": "2026-01-01T00:00:00Z"}
    cluster.api.apply(raw)

    await cluster.says(raw, "Delivering", "Failing")
    await publish(server, "disabled")
    await cluster.says(raw, "Delivering", "Delivering", status="True")


@pytest.mark.usefixtures("server")
async def test_sources_share_no_path(cluster: Cluster) -> None:
    """The first has it and says so; the second is refused until the first is gone."""
    first, second = source("one", path="shared"), source("two", path="shared")
    cluster.api.apply(first)
    await cluster.ready(first)
    cluster.api.apply(second)
    await cluster.says(second, "Accepted", "PathTaken", status="False")
    found = cluster.api.get(first)
    assert found is not None
    assert found["status"]["path"] == "shared"

    cluster.api.delete(first)

    await cluster.ready(second)


@pytest.mark.usefixtures("server")
async def test_names_and_secrets_at_their_limits(cluster: Cluster, receiver: Receiver) -> None:
    """A name of 200 characters with a generated Secret; a Secret of nearly a mebibyte."""
    raw = to(receiver, "n" * 200, signing={}, events={"types": ["limits"]})
    cluster.api.apply(secret("large", secret=SIGNING_SECRET, rest="x" * 1_000_000))
    large = to(receiver, "large", signing={"keys": [{"secretRef": {"name": "large", "key": "secret"}}]})
    cluster.api.apply(raw)
    cluster.api.apply(large)

    await cluster.ready(raw)
    await cluster.ready(large)


@pytest.mark.usefixtures("server")
async def test_absurd_objects_stop_no_other(cluster: Cluster, receiver: Receiver) -> None:
    """What a definition would refuse, should it ever be missing."""
    deep: object = 1
    for _ in range(200):
        deep = [deep]
    specs: list[object] = [None, "text", {"endpoint": deep}, {"endpoint": {"url": "https://" + "a" * 500_000}}]
    for number, spec in enumerate(specs):
        cluster.api.apply(to(receiver, f"absurd-{number}") | {"spec": spec})
    raw = to(receiver, "beside")
    cluster.api.apply(raw)

    await cluster.ready(raw)

    for number in range(len(specs)):
        found = subscription(f"absurd-{number}")
        await cluster.says(found, "Accepted", "InvalidSubscription", status="False")
        cluster.api.delete(found)


@pytest.mark.usefixtures("server")
async def test_one_edit_among_many_costs_a_handful(
    cluster: Cluster, operator: OperatorProcess, receiver: Receiver
) -> None:
    """Of requests: two Secrets, one status, its Event; and a restart with nothing changed writes nothing at all."""
    many = [to(receiver, f"many-{number}", suspend=True) for number in range(300)]  # of which no Event is told
    for raw in many:
        cluster.api.apply(raw)
    for raw in many:
        await cluster.says(raw, "Ready", "Suspended", within=60)
    await cluster.quiet()
    before = len(cluster.api.calls)

    many[7]["spec"]["suspend"] = False
    cluster.api.apply(many[7])
    await cluster.ready(many[7])
    await cluster.quiet()

    assert 3 <= len(cluster.writes(before)) <= 6, cluster.writes(before)
    operator.send(signal.SIGTERM)
    assert await operator.ended() == 0
    before = len(cluster.api.calls)
    operator.start()
    await operator.ready()
    await cluster.quiet()
    assert cluster.writes(before) == [], [call.body for call in cluster.api.calls[before:] if call.verb == "PATCH"]


async def test_a_container_that_restarts_gets_its_configuration_again(
    cluster: Cluster, server: Serving, receiver: Receiver
) -> None:
    """The pod is the same, and its mount is empty."""
    raw = to(receiver, "again")
    cluster.api.apply(raw)
    await cluster.ready(raw)

    server.kill()
    server.start()
    await server.ready()

    assert await publish(server, "again") == 1
    await receiver.wait_for(1)


async def test_nothing_shows_a_secret(
    cluster: Cluster, operator: OperatorProcess, server: Serving, receiver: Receiver
) -> None:
    """No log, status, Event, metric or stored configuration holds a signing key that is named or generated."""
    for raw in (to(receiver, "named"), to(receiver, "generated", signing={})):
        cluster.api.apply(raw)
        await cluster.ready(raw)
    keys = {SIGNING_SECRET, OTHER_SECRET}
    configuration: list[bytes] = []
    for raw in cluster.api.all("secrets"):
        values = {key: b64decode(value) for key, value in raw["data"].items()}
        if raw["metadata"]["name"].startswith("hookcast-configuration"):
            configuration += values.values()
        elif raw["metadata"]["namespace"] == NAMESPACE:
            keys |= {value.decode() for key, value in values.items() if key != "HOOKCAST_API_KEYS"}
        else:
            keys |= {value.decode() for key, value in values.items() if key in {"secret", "old", "new"}}
    shown = [
        operator.log.read_text(),
        server.log.read_text(),
        await operator.metrics(),
        *(
            json.dumps(cluster.api.all(plural))
            for plural in ("webhooksubscriptions", "webhooksources", "events", "leases")
        ),
        *(
            call.body.decode()
            for call in cluster.api.calls
            if "-configuration" in call.path or "/secrets" not in call.path
        ),
    ]
    assert len(keys) > 5
    assert configuration
    for text in (*shown, *(value.decode("latin-1") for value in configuration)):
        assert not re.search(r"whsec_[A-Za-z0-9+/]{8}", text)
        for key in keys:
            assert key not in text
