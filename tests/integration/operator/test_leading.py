"""Operator processes that start, end, are killed, paused and overtaken: one leads, and nobody undoes its work."""

import asyncio
import signal
import time
from base64 import b64decode
from collections.abc import Callable

import pytest

from tests.support.app import eventually
from tests.support.cluster import CLAIM, NAMESPACE, RELEASE, Cluster, OperatorProcess
from tests.support.fake_pod import FakePod
from tests.support.kinds import Raw, subscription
from tests.support.kubernetes import Call, Fault

SHORT = {"lease.DURATION_SECONDS": 3, "lease.DEADLINE_SECONDS": 2, "lease.RENEW_SECONDS": 0.3}
"""A lease that runs out soon."""
LEASE = {"kind": "Lease", "metadata": {"name": f"{RELEASE}-operator", "namespace": NAMESPACE}}
MANIFEST = {"kind": "Secret", "metadata": {"name": f"{RELEASE}-configuration", "namespace": NAMESPACE}}


def started(cluster: Cluster, name: str = "operator-0", **settings: str) -> OperatorProcess:
    operator: OperatorProcess = cluster.operator(name, patches=SHORT, **settings).start()
    return operator


def holder(cluster: Cluster) -> str:
    found = cluster.api.get(LEASE)
    return found["spec"]["holderIdentity"] if found else ""


def stored(cluster: Cluster) -> int:
    """The sequence of what is stored."""
    found = cluster.api.get(MANIFEST)
    return int(b64decode(found["data"]["sequence"])) if found and found.get("data") else 0


def at_path(verb: str, part: str) -> Callable[[Call], bool]:
    return lambda call: call.verb == verb and part in call.path


async def test_a_signal_ends_it_soon_and_gives_the_lease_back(cluster: Cluster, pod: FakePod) -> None:
    """With status 0; the next one need not wait for it to run out."""
    first = started(cluster)
    await first.ready()
    assert pod.document is not None
    began = time.monotonic()

    first.send(signal.SIGTERM)

    assert await first.ended() == 0
    assert time.monotonic() - began < 5
    assert holder(cluster) == ""
    second = started(cluster, "operator-1")
    await second.ready()
    assert holder(cluster) == "operator-1"


async def test_a_signal_ends_it_soon_while_the_server_hangs(cluster: Cluster, pod: FakePod) -> None:
    """Whatever it waits for; the lease runs out."""
    operator = started(cluster)
    await operator.ready()
    assert pod.document is not None
    cluster.api.rules.append(lambda _: Fault(hang=True))
    began = time.monotonic()

    operator.send(signal.SIGTERM)

    assert await operator.ended() == 0
    assert time.monotonic() - began < 5


async def test_one_of_two_leads(cluster: Cluster, pod: FakePod) -> None:
    """The other is alive and not ready; it takes over when the first is killed, and goes on where that was."""
    first = started(cluster)
    await first.ready()
    second = started(cluster, "operator-1")
    await eventually(lambda: _alive(second), 30)
    cluster.api.apply(subscription())
    await cluster.ready(subscription())
    sequence = stored(cluster)
    assert "start" in await second.health()
    assert [call for call in cluster.api.calls if call.path.endswith(LEASE["metadata"]["name"])]  # type: ignore[index]

    first.kill()

    await second.ready()
    assert holder(cluster) == "operator-1"
    assert stored(cluster) == sequence, "nothing changed"
    assert pod.document is not None
    assert len(pod.document.entries) == 1


async def _alive(operator: OperatorProcess) -> bool:
    return await operator.health("live") == {}


async def test_whoever_lost_the_lease_ends(cluster: Cluster, pod: FakePod) -> None:
    """Deleted it is made again; held by another it is lost: status 1, with the reason."""
    operator = started(cluster)
    await operator.ready()
    assert pod.document is not None
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
    cluster.api.rules.append(lambda call: Fault(delay=1) if at_path("PUT", "-configuration")(call) else None)
    cluster.api.apply(subscription("first"))
    before = len(cluster.api.calls)
    await eventually(lambda: pod.document is not None)
    await asyncio.sleep(0.3)  # in the middle of the first write, which takes a second
    stale.send(signal.SIGSTOP)
    cluster.api.rules.clear()
    other = started(cluster, "operator-1")
    await other.ready()
    cluster.api.apply(subscription("second"))
    await cluster.ready(subscription("second"))
    manifest = cluster.api.get(MANIFEST)
    after = len(cluster.api.calls)

    stale.send(signal.SIGCONT)

    assert await stale.ended() == 1
    await cluster.quiet()
    assert cluster.api.get(MANIFEST) == manifest
    assert [one for one in cluster.writes(after) if " 20" in one] == []
    assert before < after
    assert pod.document is not None
    assert len(pod.document.entries) == 2


@pytest.mark.parametrize("part", ["-configuration-", "-configuration", "/status"])
async def test_one_that_is_killed_in_the_middle_is_made_up_for(cluster: Cluster, pod: FakePod, part: str) -> None:
    """Between chunk and manifest, within the manifest's write, within a status's: all ready, sequences rise."""
    operator = started(cluster)
    await operator.ready()
    before = stored(cluster)
    reached: list[Call] = []

    def cut(call: Call) -> Fault | None:
        if call.verb not in {"PUT", "POST", "PATCH"} or part not in call.path:
            return None
        reached.append(call)
        return Fault(delay=0.5, cut="after" if part == "-configuration-" else "before")

    cluster.api.rules.append(cut)
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


@pytest.mark.parametrize(
    ("claim", "settings", "words"),
    [
        (None, {}, "there is no ClusterRoleBinding hookcast-dispatcher-hookcast"),
        ("other", {}, "is served by release hookcast in namespace other"),
        ("system", {"EGRESS_ALLOW": "nonsense:x:y"}, "HOOKCAST_EGRESS_ALLOW"),
        ("system", {"NAMESPACE": "Not A Name"}, "HOOKCAST_NAMESPACE"),
        ("system", {"KEYS_SECRET": "signing", "NAMESPACE": "shop"}, "Fernet keys"),
    ],
)
async def test_an_installation_that_does_not_hold_is_told(
    cluster: Cluster, claim: str | None, settings: dict[str, str], words: str
) -> None:
    """At the start, in one line, with status 2."""
    if claim is None:
        cluster.api.delete(CLAIM)
    else:
        cluster.api.apply(CLAIM | {"subjects": [CLAIM["subjects"][0] | {"namespace": claim}]})  # type: ignore[index]

    operator = started(cluster, **settings)

    assert await operator.ended() == 2
    assert words in operator.log.read_text()
    assert "Traceback" not in operator.log.read_text()
    assert cluster.writes() == []


async def test_it_waits_for_a_server_that_is_not_there_yet(cluster: Cluster, pod: FakePod) -> None:
    """The API server comes after the operator, as when a cluster starts."""
    cluster.api.down()
    operator = started(cluster)
    await eventually(lambda: _alive(operator), 30)
    assert "start" in await operator.health()

    cluster.api.up()

    await operator.ready()
    assert pod.document is not None
