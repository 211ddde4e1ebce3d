"""What the operator does about its pods, and what it says of them."""

import time

import httpx
import pytest
from aiohttp import web
from cryptography.fernet import Fernet

from tests.integration.operator.conftest import Inside, applied, carries_suspended, give_key
from tests.support.app import eventually
from tests.support.cluster import Cluster
from tests.support.fake_pod import FakePod, running_pod
from tests.support.kinds import secret, subscription
from tests.support.operator import document, entry, seal
from tests.support.ports import free_port

pytestmark = pytest.mark.usefixtures("inside")


async def test_a_pod_that_hangs_delays_no_other(cluster: Cluster, pod: FakePod) -> None:
    """The other one has the edit at once; the condition counts both; when the slow one went all is well."""
    async with running_pod() as slow:
        give_key(cluster, slow)
        cluster.slice("app-1", slow.port)
        raw = await applied(cluster)
        slow.hangs = True
        began = time.monotonic()
        raw["spec"]["suspend"] = True
        cluster.api.apply(raw)

        await eventually(lambda: carries_suspended(pod))

        assert time.monotonic() - began < 5
        condition = await cluster.says(raw, "Programmed", "PartiallyProgrammed")
        assert condition["message"] == "1 of 2 ready pods have it"
        cluster.no_slice("app-1")
        await cluster.says(raw, "Programmed", "Programmed")


async def test_a_pod_that_cannot_be_reached_is_named(cluster: Cluster, pod: FakePod) -> None:
    """With the problem; without any pod that was true stays true; the next pod gets all of it."""
    raw = await applied(cluster)
    cluster.no_slice("app-0")
    cluster.slice("app-1", free_port())
    condition = await cluster.says(raw, "Programmed", "DispatcherUnreachable")
    assert condition["message"].startswith("pod app-1: ")
    before = len(pod.tokens)
    cluster.no_slice("app-1")
    cluster.slice("app-2", pod.port)

    await cluster.says(raw, "Programmed", "Programmed")

    assert len(pod.tokens) == before, "it had this one already"


async def test_a_pod_s_refusal_is_told_in_its_words(cluster: Cluster, pod: FakePod) -> None:
    """409, for it has a newer one: whoever reads the condition learns of it."""
    refusal = {"title": "Conflict", "detail": "sequence 99 is in force"}
    raw = await applied(cluster)
    pod.behaviour = lambda request: web.json_response(refusal, status=409) if request.method == "PUT" else None
    raw["spec"]["suspend"] = True
    cluster.api.apply(raw)

    condition = await cluster.says(raw, "Programmed", "DispatcherUnreachable")

    assert condition["message"] == "pod app-0: 409: sequence 99 is in force"


async def test_a_pod_with_a_later_sequence_is_overtaken(cluster: Cluster, pod: FakePod) -> None:
    """Of the same origin, as after the cluster came back from an older backup: else it would refuse all for ever."""
    raw = await applied(cluster)
    pod.in_force |= {"sequence": 99, "revision": "another"}

    await eventually(lambda: pod.in_force["sequence"] == 100)

    assert pod.document is not None
    assert len(pod.document.entries) == 1
    raw["spec"]["suspend"] = True
    cluster.api.apply(raw)
    await cluster.says(raw, "Ready", "Suspended")
    assert pod.in_force["sequence"] == 101


async def test_a_pod_with_a_configuration_that_was_sealed_later_is_overtaken(cluster: Cluster, pod: FakePod) -> None:
    """A real one, by an operator whose clock was ahead: what is stored since then is sealed later still."""
    raw = await applied(cluster)
    cluster.no_slice("app-0")
    server = await cluster.pod("app-1", INTERNAL_KEY=pod.key)
    server.start()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.admin_port}") as admin:
        other = seal(document(99, entry("gone", "https://gone.example")), pod.key, at=int(time.time()) + 3_600)
        await server.ready()
        assert (await admin.put("/internal/configuration", content=other)).status_code == 200

        async def is_ours() -> bool:
            found = (await admin.get("/internal/configuration")).json()
            return bool(found["origin"] != "origin" and found["subscriptions"] == 1 and found["sequence"] < 99)

        await eventually(is_ours, 30)
    raw["spec"]["suspend"] = True
    cluster.api.apply(raw)
    await cluster.says(raw, "Ready", "Suspended")


async def test_a_pod_with_another_key_says_so(cluster: Cluster) -> None:
    """A real one: the condition names the setting that differs."""
    cluster.no_slice("app-0")
    server = await cluster.pod("app-1", INTERNAL_KEY=Fernet.generate_key().decode())
    server.start()
    raw = subscription()
    cluster.api.apply(raw)

    async def answers() -> bool:
        condition = cluster.conditions(raw).get("Programmed", {})
        return condition.get("reason") == "DispatcherUnreachable" and "INTERNAL_KEY" in condition["message"]

    await eventually(answers, 30)


async def test_a_rejected_object_is_told(cluster: Cluster, pod: FakePod) -> None:
    """By the pod's words, and others are ready; a restarted container of the same pod is asked again."""
    raw, other = subscription("rejected"), subscription("other")
    cluster.api.apply(raw)
    await cluster.ready(raw)
    found = cluster.api.get(raw)
    assert found is not None
    word = {"uid": found["metadata"]["uid"], "generation": 2, "reason": "InvalidSubscription"}
    pod.rejected = [{**word, "field": "unknown", "detail": "no such field"}]
    raw["spec"]["suspend"] = True
    cluster.api.apply(raw)
    cluster.api.apply(other)

    condition = await cluster.says(raw, "Programmed", "Rejected")
    assert condition["message"] == "pod app-0: unknown: no such field (InvalidSubscription)"
    await cluster.ready(other)
    pod.rejected = []
    pod.in_force = {"sequence": None}

    await cluster.says(raw, "Programmed", "Programmed")


async def test_content_of_before_under_a_new_sequence(cluster: Cluster, pod: FakePod) -> None:
    """A pod that missed a change and its taking back has what it should have, and is told the sequence."""
    raw = await applied(cluster)
    refusal = {"detail": "not now"}
    pod.behaviour = lambda request: web.json_response(refusal, status=503) if request.method == "PUT" else None
    cluster.api.apply(subscription("passing"))
    await cluster.says(subscription("passing"), "Programmed", "DispatcherUnreachable")
    cluster.api.delete(subscription("passing"))
    pod.behaviour = lambda _: None

    await cluster.says(raw, "Programmed", "Programmed")
    await eventually(lambda: pod.document is not None and pod.in_force["sequence"] >= 3)


@pytest.mark.parametrize(
    "answer",
    [
        web.json_response([1]),
        web.Response(text="nothing"),
        web.json_response({"sequence": "9", "rejected": []}),
        web.json_response({"sequence": 9, "rejected": [1]}),
        web.json_response({"sequence": 9, "rejected": 3, "cursor": 1}),
        web.json_response({"sequence": 9, "rejected": [], "cursor": 1, "deliveries": [{"uid": 1, "last": [1]}]}),
    ],
    ids=range(6),
)
async def test_whatever_listens_there_ends_nothing(
    cluster: Cluster, pod: FakePod, inside: Inside, answer: web.Response
) -> None:
    """An answer that is none of ours is a problem of that pod, and it is gone when that answers again."""
    text, kind = answer.body, answer.content_type
    pod.behaviour = lambda _: web.Response(body=text, content_type=kind)
    raw = subscription()
    cluster.api.apply(raw)
    await eventually(lambda: "Programmed" in cluster.conditions(raw))
    async with httpx.AsyncClient() as client:
        await eventually(lambda: _shows(client, inside, 'pods{state="unreachable"} 1.0'))

    pod.behaviour = lambda _: None

    await cluster.ready(raw)
    assert inside.runs


async def _shows(client: httpx.AsyncClient, inside: Inside, text: str) -> bool:
    return text in (await client.get(f"{inside.url}/metrics")).text


async def test_what_pods_say_of_deliveries_is_told(cluster: Cluster, pod: FakePod) -> None:
    """The condition, the last delivery, and nothing when the same is said again."""
    raw = await applied(cluster)
    found = cluster.api.get(raw)
    assert found is not None
    last = {"at": 1_767_225_600_000, "outcome": "Failed", "reason": "BadStatus"}
    pod.deliveries = [{"uid": found["metadata"]["uid"], "state": "Failing", "reason": "BadStatus", "last": last}]

    await cluster.says(raw, "Delivering", "Failing")

    found = cluster.api.get(raw)
    assert found is not None
    assert found["status"]["lastDelivery"] == {
        "time": "2026-01-01T00:00:00Z",
        "outcome": "Failed",
        "reason": "BadStatus",
    }
    before = len(cluster.api.calls)
    pod.deliveries *= 2
    await cluster.quiet(2.5)
    assert [call for call in cluster.writes(before) if "PATCH" in call] == []


async def test_a_generated_secret_that_is_lost_comes_back_the_same(cluster: Cluster, pod: FakePod) -> None:
    """Receivers go on verifying; one that cannot be made is tried again, and holds up no other."""
    raw = await applied(cluster, "generated", signing={})
    name = secret("generated-webhook-secret")
    before = cluster.api.get(name)
    assert before is not None
    cluster.api.delete(name)

    await eventually(lambda: cluster.api.get(name) is not None)
    await cluster.ready(raw)

    after = cluster.api.get(name)
    assert after is not None
    assert after["data"] == before["data"]
    assert after["metadata"]["ownerReferences"] == before["metadata"]["ownerReferences"]
    foreign = secret("foreign-webhook-secret", allowed=False)
    cluster.api.apply(foreign)
    cluster.api.apply(subscription("foreign", signing={}))
    condition = await cluster.says(subscription("foreign"), "ResolvedRefs", "SecretNotAllowed")
    assert "foreign-webhook-secret" in condition["message"]
    cluster.api.delete(foreign)
    await cluster.ready(subscription("foreign"))
    assert pod.document is not None
    assert len(pod.document.entries) == 2
