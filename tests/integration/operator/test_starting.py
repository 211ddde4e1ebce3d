"""An operator process that starts, whatever it finds, and ends when it is told to."""

import signal
import time

import pytest

from tests.integration.operator.conftest import holder, is_alive
from tests.support.app import eventually
from tests.support.cluster import RELEASE, Cluster, OperatorProcess
from tests.support.fake_pod import FakePod
from tests.support.kubernetes import Fault

CLAIM = {"kind": "ClusterRoleBinding", "metadata": {"name": "hookcast-dispatcher-hookcast"}}


def started(cluster: Cluster, name: str = "operator-0", **settings: str) -> OperatorProcess:
    operator: OperatorProcess = cluster.operator(name, patches={}, **settings).start()
    return operator


async def test_a_signal_ends_it_soon_and_gives_the_lease_back(cluster: Cluster, pod: FakePod) -> None:
    """With status 0; the next one need not wait for it to run out."""
    first = started(cluster)
    await first.ready()
    await eventually(lambda: pod.document)
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
    await eventually(lambda: pod.document)
    cluster.api.rules.append(lambda _: Fault(hang=True))
    began = time.monotonic()

    operator.send(signal.SIGTERM)

    assert await operator.ended() == 0
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("claim", "settings", "words"),
    [
        (None, {}, "there is no ClusterRoleBinding hookcast-dispatcher-hookcast"),
        ("other", {}, "is served by release another in namespace other"),
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
        cluster.api.apply(CLAIM | {"subjects": [{"name": f"{RELEASE}-operator", "namespace": claim}]})

    operator = started(cluster, **settings)

    assert await operator.ended() == 2
    assert words in operator.log.read_text()
    assert "Traceback" not in operator.log.read_text()
    assert cluster.writes() == []


async def test_it_waits_for_a_server_that_is_not_there_yet(cluster: Cluster, pod: FakePod) -> None:
    """The API server comes after the operator, as when a cluster starts."""
    cluster.api.down()
    operator = started(cluster)
    await eventually(lambda: is_alive(operator), 30)
    assert "start" in await operator.health()

    cluster.api.up()

    await operator.ready()
    await eventually(lambda: pod.document)
