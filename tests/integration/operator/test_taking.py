"""Which objects the operator takes: of which namespaces and dispatchers, with which Secrets, and as many as fit."""

import random
from base64 import b64encode
from typing import Any

import httpx
import pytest

from hookcast_core import chunks
from hookcast_operator import operating, store
from tests.integration.operator.conftest import Inside, applied
from tests.support.app import eventually
from tests.support.cluster import Cluster
from tests.support.fake_pod import FakePod
from tests.support.kinds import Raw, secret, subscription


def in_namespace(namespace: str, name: str = "orders", **spec: Any) -> Raw:
    return subscription(name, meta={"namespace": namespace}, **spec)


def labelled(name: str, **labels: str) -> Raw:
    return {"kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def sizes(pod: FakePod) -> int:
    """How many a pod has."""
    return -1 if pod.document is None else len(pod.document.entries)


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize("more", [{"allowed_namespace_selector": "team=shop", "allowed_namespaces": ("named",)}])
async def test_namespaces_are_allowed_by_name_or_label(cluster: Cluster, pod: FakePod) -> None:
    """A label that comes lets objects in, one that goes takes them out, and the condition says why."""
    for namespace in ("shop", "named", "other"):
        cluster.api.apply(secret(meta={"namespace": namespace}))
        cluster.api.apply(in_namespace(namespace))
    cluster.api.apply(labelled("shop"))
    cluster.api.apply(labelled("other", team="shop"))

    await cluster.ready(in_namespace("named"))
    await cluster.ready(in_namespace("other"))
    condition = await cluster.says(in_namespace("shop"), "Accepted", "NamespaceNotAllowed", status="False")
    assert "allowedNamespaces" in condition["message"]
    cluster.api.apply(labelled("shop", team="shop"))
    await cluster.ready(in_namespace("shop"))
    cluster.api.apply(labelled("other", team="else"))
    await cluster.says(in_namespace("other"), "Accepted", "NamespaceNotAllowed")

    await eventually(lambda: sizes(pod) == 2)


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize("more", [{"watch_namespaces": ("shop", "more")}])
async def test_only_some_namespaces_are_watched(cluster: Cluster, pod: FakePod) -> None:
    """Each by its own lists and streams; nothing is asked of the whole cluster."""
    cluster.api.apply(secret(meta={"namespace": "more"}))
    for namespace in ("shop", "more", "other"):
        cluster.api.apply(in_namespace(namespace))

    await cluster.ready(in_namespace("shop"))
    await cluster.ready(in_namespace("more"))

    assert sizes(pod) == 2
    assert not cluster.conditions(in_namespace("other"))
    assert not [
        call.path
        for call in cluster.api.calls
        if call.path.endswith(("/secrets", "/webhooksubscriptions", "/webhooksources"))
        and "/namespaces/" not in call.path
    ]


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize("more", [{"secret_access": "Namespace", "generate_secrets_in": ()}])
async def test_every_secret_of_the_namespace_may_be_allowed(cluster: Cluster) -> None:
    """Without a label; and where no key is generated, that is told."""
    cluster.api.apply(secret("plain", allowed=False))
    raw = subscription(signing={"keys": [{"secretRef": {"name": "plain", "key": "secret"}}]})
    cluster.api.apply(raw)
    cluster.api.apply(subscription("keyless", signing={}))

    await cluster.ready(raw)
    condition = await cluster.says(subscription("keyless"), "ResolvedRefs", "SecretNotFound")

    assert "generateSecrets" in condition["message"]


@pytest.mark.usefixtures("inside")
async def test_another_dispatcher_s_objects_are_left_alone(
    cluster: Cluster, pod: FakePod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One Event says that nobody serves them; no status does."""
    monkeypatch.setattr(operating, "UNSERVED_SECONDS", -5)
    foreign = subscription("foreign", dispatcherRef={"name": "elsewhere"})
    cluster.api.apply(foreign)

    await eventually(lambda: [one for one in cluster.api.all("events") if one["reason"] == "NotServed"])

    found = cluster.api.get(foreign)
    assert found is not None
    assert "status" not in found
    assert sizes(pod) == 0


async def test_other_dispatchers_objects_are_counted_by_dispatcher(cluster: Cluster, inside: Inside) -> None:
    """Of the first ones by name, as users choose the names; whether one of them works is for its own metrics to say."""
    raws = [
        subscription(f"s{number}", dispatcherRef={"name": f"d{number}"})
        for number in range(operating.NAMED_DISPATCHERS + 5)
    ]
    metric = "hookcast_operator_foreign_subscriptions{"
    for raw in raws:
        cluster.api.apply(raw)

    async def counted() -> list[str]:
        async with httpx.AsyncClient() as client:
            text = (await client.get(f"{inside.url}/metrics")).text
        return [line for line in text.splitlines() if line.startswith(metric)]

    async def is_counted(number: int, others: int) -> bool:
        lines = await counted()
        return len(lines) == number and (f'{metric}dispatcher="(others)"}} {others}.0' in lines) == bool(others)

    await eventually(lambda: is_counted(operating.NAMED_DISPATCHERS + 1, 5))
    for raw in raws[:8]:
        cluster.api.delete(raw)

    await eventually(lambda: is_counted(operating.NAMED_DISPATCHERS - 3, 0))


@pytest.fixture(params=["packed", "unpacked"])
def ceiling(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Little room, as stored or as pods unpack it."""
    if request.param == "unpacked":
        monkeypatch.setattr(store, "MAX_BYTES", 20_000)
    else:
        monkeypatch.setattr(chunks, "MAX_CHUNKS", 1)
        monkeypatch.setattr(chunks, "CHUNK_BYTES", 20_000)


@pytest.mark.usefixtures("ceiling", "inside")
async def test_past_the_ceiling_an_edit_displaces_nobody(cluster: Cluster, pod: FakePod) -> None:
    """An object that grows over it stays as it was, and is told so; the newer ones keep their place."""
    text = b64encode(random.Random(1).randbytes(24_000)).decode()  # noqa: S311  content that does not pack
    headers = [{"name": f"X-{number}", "value": text[4_000 * number :][:4_000]} for number in range(8)]
    oldest = await applied(cluster, "oldest", endpoint={"url": "https://shop.example/", "headers": headers[:1]})
    newer = await applied(cluster, "newer", endpoint={"url": "https://shop.example/", "headers": headers[1:2]})
    oldest["spec"]["endpoint"]["headers"] = headers

    cluster.api.apply(oldest)

    await cluster.says(oldest, "Accepted", "CapacityExceeded", status="False")
    assert cluster.conditions(oldest)["Programmed"]["message"].endswith("generation 1 stays in force")
    assert cluster.conditions(newer)["Ready"]["status"] == "True"
    assert sizes(pod) == 2
    oldest["spec"]["endpoint"]["headers"] = headers[2:3]
    cluster.api.apply(oldest)
    await cluster.ready(oldest)


@pytest.mark.usefixtures("ceiling", "inside")
async def test_past_the_ceiling_the_newest_are_left_out(cluster: Cluster, pod: FakePod) -> None:
    """What came first fits and is ready; when some of it goes others get the place, as many as there is room for."""
    noise = random.Random(1)  # noqa: S311  content that does not pack
    raws = [
        subscription(f"s{number:02}", endpoint={"url": f"https://shop.example/{noise.randbytes(size).hex()}"})
        for number, size in enumerate([900] * 10 + [300] * 20)
    ]
    for raw in raws:
        cluster.api.apply(raw)

    def left_out() -> list[str]:
        told = [(raw["metadata"]["name"], cluster.conditions(raw).get("Accepted", {})) for raw in raws]
        return [name for name, accepted in told if accepted.get("reason") == "CapacityExceeded"]

    await eventually(lambda: 0 < len(left_out()) == 30 - sizes(pod))
    before = left_out()
    gone = [raw for raw in raws if raw["metadata"]["name"] not in before][:6]
    for raw in gone:
        cluster.api.delete(raw)

    await eventually(lambda: len(left_out()) < len(before))
    await eventually(lambda: len(left_out()) == 24 - sizes(pod))
    for raw in raws:
        if raw not in gone:
            cluster.api.delete(raw)
    await eventually(lambda: sizes(pod) == 0)
