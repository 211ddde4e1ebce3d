"""Operator processes that are killed, paused and overtaken: one leads, and nobody undoes its work."""

import json
import signal
from base64 import b64decode

import pytest

from tests.integration.operator.conftest import LEASE, holder, is_alive
from tests.support.app import eventually
from tests.support.cluster import NAMESPACE, RELEASE, Cluster, OperatorProcess
from tests.support.fake_pod import FakePod
from tests.support.kinds import Raw, subscription
from tests.support.kubernetes import Call, Fault

SHORT = {"lease.DURATION_SECONDS": 3, "lease.DEADLINE_SECONDS": 2, "lease.RENEW_SECONDS": 0.3}
"""A lease that runs out soon."""
MANIFEST = {"kind": "Secret", "metadata": {"name": f"{RELEASE}-configuration", "namespace": NAMESPACE}}


def started(cluster: Cluster, name: str = "operator-0", **settings: str) -> OperatorProcess:
    operator: OperatorProcess = cluster.operator(name, patches=SHORT, **settings).start()
    return operator


def stored(cluster: Cluster) -> int:
    """The sequence of what is stored."""
    found = cluster.api.get(MANIFEST)
    return int(b64decode(found["data"]["sequence"])) if found and found.get("data") else 0


async def test_one_of_two_leads(cluster: Cluster, pod: FakePod) -> None:
    """The other is alive and not ready; it takes over when the first is killed, and goes on where that was."""
    first = started(cluster)
    await first.ready()
    second = started(cluster, "operator-1")
    await eventually(lambda: is_alive(second), 30)
    cluster.api.apply(subscription())
    await cluster.ready(subscription())
    sequence = stored(cluster)
    assert "start" in await second.health()

    first.kill()

    await second.ready()
    assert holder(cluster) == "operator-1"
    assert stored(cluster) == sequence, "nothing changed"
    assert pod.document is not None
    assert len(pod.document.entries) == 1


async def test_whoever_lost_the_lease_ends(cluster: Cluster, pod: FakePod) -> None:
    """Deleted it is made again; held by another it is lost: status 1, with the reason."""
    operator = started(cluster)
    await operator.ready()
    await eventually(lambda: pod.document)
    cluster.api.delete(LEASE)
    await eventually(lambda: holder(cluster) == "operator-0")
    found = cluster.api.get(LEASE)
    assert found is not None

    cluster.api.apply(found | {"spec": {**found["spec"], "holderIdentity": "another"}})

    assert await operator.ended() == 1
    assert "another operator leads" in operator.log.read_text()
    assert holder(cluster) == "another"


async def test_a_stale_writer_changes_nothing(cluster: Cluster, pod: FakePod) -> None:
    """Paused in the middle of a publication, overtaken, and going on: it ends, and what the other stored stays."""
    stale = started(cluster)
    await stale.ready()
    reached = delayed(cluster, f"{RELEASE}-configuration-", Fault(delay=0.5))
    cluster.api.apply(subscription("first"))
    await eventually(lambda: reached)
    stale.send(signal.SIGSTOP)
    cluster.api.rules.clear()
    other = started(cluster, "operator-1")
    await other.ready()
    cluster.api.apply(subscription("second"))
    await cluster.ready(subscription("second"))
    await cluster.quiet()
    manifest, after = cluster.api.get(MANIFEST), len(cluster.api.calls)

    stale.send(signal.SIGCONT)

    assert await stale.ended() == 1
    assert cluster.api.get(MANIFEST) == manifest
    assert [one for one in cluster.writes(after) if " 20" in one] == []
    assert pod.document is not None
    assert len(pod.document.entries) == 2


def delayed(cluster: Cluster, target: str, fault: Fault) -> list[Call]:
    """Has writes of objects whose name (and part) begins so meet a fault; those that did."""
    reached: list[Call] = []

    def rule(call: Call) -> Fault | None:
        if call.verb not in {"PUT", "POST", "PATCH"}:
            return None
        name = (
            json.loads(call.body)["metadata"].get("name", "") if call.verb != "PATCH" else call.path.rpartition("/")[2]
        )
        if not name.startswith(target):
            return None
        reached.append(call)
        return fault

    cluster.api.rules.append(rule)
    return reached


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        (f"{RELEASE}-configuration-", Fault(delay=0.5, cut="after")),
        (f"{RELEASE}-configuration", Fault(delay=0.5, cut="before")),
        ("status", Fault(delay=0.5, cut="before")),
    ],
    ids=["after a chunk", "before the manifest", "before a status"],
)
async def test_one_that_is_killed_in_the_middle_is_made_up_for(
    cluster: Cluster, pod: FakePod, target: str, fault: Fault
) -> None:
    """All are ready afterwards, and sequences rise."""
    operator = started(cluster)
    await operator.ready()
    before = stored(cluster)
    reached = delayed(cluster, target, fault)
    raws: list[Raw] = [subscription(f"s{number}") for number in range(5)]
    for raw in raws:
        cluster.api.apply(raw)
    await eventually(lambda: reached)

    operator.kill()
    cluster.api.rules.clear()
    operator.start()

    for raw in raws:
        await cluster.ready(raw)
    assert stored(cluster) > before
    assert pod.document is not None
    assert (pod.document.sequence, len(pod.document.entries)) == (stored(cluster), 5)
