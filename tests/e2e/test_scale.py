"""A thousand subscriptions: applied at once, one edited meanwhile, one among them later, and a restart with all.

Every figure is printed: seconds, the operator's CPU and memory, and its requests to the API server.
"""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from hookcast_core.signing import generate_secret
from tests.e2e.cluster import Cluster, Object, Receiver, Release, until

pytestmark = pytest.mark.timeout(600)
COUNT = 1_000
NAMESPACE = "hookcast-scale"
PATH = f"/apis/hookcast.dev/v1alpha1/namespaces/{NAMESPACE}/webhooksubscriptions"
MERGE = {"Content-Type": "application/merge-patch+json"}
WRITES = ("POST", "PUT", "PATCH", "DELETE")
HANDFUL = 12
MAX_BYTES = 200 * 1024 * 1024


class Usage:
    """The operator's process: CPU seconds and resident bytes, and what it asked of the API server."""

    def __init__(self, cluster: Cluster, release: Release) -> None:
        (self.pod,) = release.pods("operator")
        self._cluster = cluster
        self._pid = cluster.process(self.pod, "operator", release.namespace)
        self._ticks = int(cluster.on_node("getconf", "CLK_TCK"))

    def cpu(self) -> float:
        fields = self._cluster.on_node("cat", f"/proc/{self._pid}/stat").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / self._ticks

    def resident(self) -> int:
        found = re.search(r"VmRSS:\s+(\d+) kB", self._cluster.on_node("cat", f"/proc/{self._pid}/status"))
        assert found is not None
        return int(found[1]) * 1024


def requests_of(client: httpx.Client) -> Counter[str]:
    """Requests to the API server so far, by verb."""
    counted: Counter[str] = Counter()
    line = r'^hookcast_operator_api_requests_total\{code="[^"]*",verb="(\w+)"\} (\S+)$'
    for verb, number in re.findall(line, client.get("/metrics").text, re.MULTILINE):
        counted[verb] += int(float(number))
    return counted


@pytest.fixture
def metrics(release: Release) -> Iterator[Callable[[], Counter[str]]]:
    (pod,) = release.pods("operator")
    with (
        release.cluster.forwarded(f"pod/{pod}", release.namespace, 9090) as url,
        httpx.Client(base_url=url, timeout=10) as client,
    ):
        yield lambda: requests_of(client)


@pytest.fixture(scope="module")
def namespace(cluster: Cluster, release: Release) -> Iterator[str]:
    cluster.namespace(NAMESPACE)
    cluster.kubectl("delete", "whsub", "--all", "-n", NAMESPACE, "--wait=true", timeout=300)
    labels = {"hookcast.dev/allow": "true"}
    meta = {"name": "key", "namespace": NAMESPACE, "labels": labels}
    cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"key": generate_secret()}})
    yield release.namespace
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=true", timeout=300)


def thousandth(release: Release, receiver: Receiver, number: int) -> Object:
    """A realistic one: a filter, headers, a signing key of its own team."""
    return release.subscription(
        f"s-{number:04}",
        {
            "endpoint": {
                "url": receiver.url(f"/scale/{number}"),
                "headers": [{"name": "X-Team", "value": f"team-{number % 40}"}],
            },
            "events": {"types": [f"scale-{number}.created", "scale.all"], "filter": f"data.amount > {number}"},
            "signing": {"keys": [{"secretRef": {"name": "key", "key": "key"}}]},
            "delivery": {"maxInFlight": 8, "retry": {"schedule": ["1s", "1m", "1h"]}},
        },
        NAMESPACE,
    )


def not_ready(cluster: Cluster) -> int:
    """How many of them are not ready in their newest generation, all told."""
    items = cluster.api.get(PATH, params={"limit": 2 * COUNT}).json()["items"]
    ready = 0
    for item in items:
        conditions = item.get("status", {}).get("conditions", [])
        ready += any(
            one["type"] == "Ready"
            and one["status"] == "True"
            and one["observedGeneration"] == item["metadata"]["generation"]
            for one in conditions
        )
    return COUNT - ready


@pytest.mark.usefixtures("namespace")
def test_a_thousand_at_once_are_soon_ready_and_an_edit_meanwhile_is_not_held_up(
    cluster: Cluster, release: Release, receiver: Receiver, metrics: Callable[[], Counter[str]]
) -> None:
    """All are ready within seconds of the last one's being made; an edit meanwhile does not wait for their statuses."""
    usage = Usage(cluster, release)
    cpu, requests = usage.cpu(), metrics()
    bodies = [thousandth(release, receiver, number) for number in range(COUNT)]
    began = time.monotonic()

    with ThreadPoolExecutor(16) as pool:
        made = pool.map(lambda body: cluster.api.post(PATH, json=body).status_code, bodies)
        assert set(made) == {201}
    applied = time.monotonic()
    edited = edit(cluster, release, receiver, "/scale/edited-meanwhile")
    left = not_ready(cluster)
    until(lambda: not_ready(cluster) == 0 or None, "all ready", within=120, every=0.5)
    ready = time.monotonic()

    used = metrics() - requests
    print(
        f"\n{COUNT} applied in {applied - began:.1f} s; all ready {ready - began:.1f} s after the first; an edit right "
        f"after: in force in {edited:.2f} s, with {left} not yet ready; operator: {usage.cpu() - cpu:.1f} s of CPU, "
        f"{usage.resident() / 2**20:.0f} MiB, requests {dict(used)}"
    )
    assert edited < 1 or left > 0, "it waited for the statuses of all others"
    assert usage.resident() < MAX_BYTES
    assert used["PATCH"] <= 2 * COUNT + 100


@pytest.mark.usefixtures("namespace")
def test_an_edit_among_a_thousand_costs_a_handful_of_requests(
    cluster: Cluster, release: Release, receiver: Receiver, metrics: Callable[[], Counter[str]]
) -> None:
    """Its Secrets, its status, its Event: nothing for the other 999."""
    until(lambda: not_ready(cluster) == 0 or None, "all ready", within=120, every=0.5)
    before = settled(metrics)

    seconds = edit(cluster, release, receiver, "/scale/edited-after")
    until(lambda: not_ready(cluster) == 0 or None, "all ready again", every=0.2)

    used = writes(settled(metrics)) - writes(before)
    print(f"\nan edit among {COUNT}: in force in {1000 * seconds:.0f} ms, {used} writes to the API server")
    assert 0 < used <= HANDFUL


@pytest.mark.usefixtures("namespace")
def test_a_restart_with_a_thousand_writes_nothing(cluster: Cluster, release: Release) -> None:
    """The operator is killed: the next process finds that what is stored is what should be."""
    until(lambda: not_ready(cluster) == 0 or None, "all ready", within=120, every=0.5)
    usage = Usage(cluster, release)
    versions = [item["metadata"]["resourceVersion"] for item in cluster.api.get(PATH).json()["items"]]
    cluster.on_node("kill", "-9", cluster.process(usage.pod, "operator", release.namespace))
    until(lambda: restarted(cluster, release, usage.pod), "a new process", every=0.05)
    began = time.monotonic()

    until(lambda: is_ready(cluster, release, usage.pod) or None, "a ready operator", every=0.05)
    steady = time.monotonic() - began

    after = Usage(cluster, release)
    memory = after.resident() / 2**20
    print(f"\nrestart with {COUNT}: ready after {steady:.1f} s, {after.cpu():.1f} s of CPU, {memory:.0f} MiB")
    assert [item["metadata"]["resourceVersion"] for item in cluster.api.get(PATH).json()["items"]] == versions
    assert after.resident() < MAX_BYTES


def edit(cluster: Cluster, release: Release, receiver: Receiver, path: str) -> float:
    """Seconds from the API server's answer to an edit until an event goes to the new URL."""
    patch = {"spec": {"endpoint": {"url": receiver.url(path)}}}
    assert cluster.api.patch(f"{PATH}/s-0007", json=patch, headers=MERGE).status_code == 200
    began = time.monotonic()

    def arrives() -> bool | None:
        release.publish(type="scale-7.created", data={"amount": 8})
        return bool(receiver.requests(path)) or None

    until(arrives, f"a delivery to {path}", every=0.02)
    return time.monotonic() - began


def writes(counted: Counter[str]) -> int:
    """Those that are not the lease's."""
    return sum(counted[verb] for verb in WRITES)


def settled(metrics: Callable[[], Counter[str]]) -> Counter[str]:
    """The requests so far, when for a second nothing but the lease was written."""

    def quiet() -> Counter[str] | None:
        before = metrics()
        time.sleep(1)
        after = metrics()
        return after if writes(after) - writes(before) <= 1 else None

    return until(quiet, "an operator that is done")


def restarted(cluster: Cluster, release: Release, pod: str) -> bool | None:
    (status,) = cluster.get("pod", pod, release.namespace)["status"]["containerStatuses"]
    return (status["restartCount"] > 0 and "running" in status["state"] and not status["ready"]) or None


def is_ready(cluster: Cluster, release: Release, pod: str) -> bool:
    (status,) = cluster.get("pod", pod, release.namespace)["status"]["containerStatuses"]
    return bool(status["ready"])
