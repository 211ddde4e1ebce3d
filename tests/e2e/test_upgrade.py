"""To the next version and back, with live subscriptions; and app and operator one version apart."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster import TAG, Cluster, Object, Receiver, Release, body_of, merged, until
from tests.e2e.next_version import NEXT_SCHEMA, NEXT_TAG, make_next_version

pytestmark = pytest.mark.timeout(600)

DEFINITION = "webhooksubscriptions.hookcast.dev"
VERSION = "hookcast.dev/schema-version"
POLICY = "hookcast-schema-version"
NOTE = "asked for by the shop"


@pytest.fixture(scope="module")
def chart(release: Release, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The next version's. In the end the definitions are this version's again, which the policy is there to refuse."""
    found = make_next_version(tmp_path_factory.mktemp("next"))
    cluster.load(f"hookcast:{NEXT_TAG}", f"hookcast-operator:{NEXT_TAG}")
    before = release.values
    yield found
    cluster.kubectl("delete", "whsub", "--all", "-n", release.namespace)
    cluster.kubectl("delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", POLICY)
    annotations = {"metadata": {"annotations": {VERSION: str(NEXT_SCHEMA - 1)}}}
    patch = ("patch", "crd", DEFINITION, "--type=merge", "-p", json.dumps(annotations), "--dry-run=server")
    until(lambda: cluster.kubectl(*patch, check=False).returncode == 0 or None, "an end of the policy", every=0.5)
    release.install(before)
    assert schema(cluster) == NEXT_SCHEMA - 1


def versions(*, app: str, operator: str) -> Object:
    return {"image": {"tag": app}, "operator": {"image": {"tag": operator}}}


def schema(cluster: Cluster) -> int:
    return int(cluster.get("crd", DEFINITION, "")["metadata"]["annotations"][VERSION])


def subscribe(release: Release, receiver: Receiver, name: str, **delivery: str) -> Object:
    """Applies a subscription that names no key."""
    found = release.subscription(name, {"endpoint": {"url": receiver.url(f"/{name}")}, "delivery": delivery})
    release.cluster.apply(found)
    return found


def delivers(release: Release, receiver: Receiver, name: str) -> bool:
    """Whether an event that is published now arrives."""
    before = len(receiver.requests(f"/{name}"))
    event = release.publish()["id"]
    request = receiver.wait_for(f"/{name}", before + 1)[-1]
    return event in body_of(request).decode()


def secrets_of(release: Release, name: str) -> Object:
    """The keys, and a subscription's generated signing key."""
    status = release.cluster.get("whsub", name, release.namespace)["status"]
    signing = status["signingSecret"]["name"]
    return {"keys": release.keys, signing: release.cluster.decoded(signing, release.namespace)}


def note_of(release: Release, name: str) -> str | None:
    spec = release.cluster.get("whsub", name, release.namespace)["spec"]
    found: str | None = spec["delivery"].get("note")
    return found


def revision(release: Release) -> str:
    history = release.cluster.helm("history", release.name, "-n", release.namespace, "-o", "json").stdout
    return str(json.loads(history)[-1]["revision"])


def test_an_upgrade_and_the_way_back_lose_nothing(
    release: Release, receiver: Receiver, cluster: Cluster, chart: Path
) -> None:
    """Keys, signing Secrets and stored fields stay; deliveries go on after each step.

    `helm rollback` over a newer schema is refused, saying what to do; what it says works; and up again.
    """
    old, own = revision(release), release.values
    subscribe(release, receiver, "lasting")
    release.wait_ready("lasting")
    assert delivers(release, receiver, "lasting")
    before = secrets_of(release, "lasting")

    release.install(merged(own, versions(app=NEXT_TAG, operator=NEXT_TAG)), chart=chart)
    subscribe(release, receiver, "noted", note=NOTE)
    for name in ("lasting", "noted"):
        release.wait_ready(name)
        assert delivers(release, receiver, name)

    rollback = ("rollback", release.name, old, "-n", release.namespace, "--wait", "--timeout", "120s")
    refused = cluster.helm(*rollback, check=False)
    assert refused.returncode != 0
    assert f"has schema version {NEXT_SCHEMA} and would get the older {NEXT_SCHEMA - 1}" in refused.stderr
    assert "helm upgrade --set crds.enabled=false" in refused.stderr
    assert delivers(release, receiver, "lasting")
    assert delivers(release, receiver, "noted")

    release.install(merged(own, {"crds": {"enabled": False}}))
    assert (schema(cluster), note_of(release, "noted")) == (NEXT_SCHEMA, NOTE)
    assert delivers(release, receiver, "lasting")
    received = len(receiver.requests("/noted"))
    assert delivers(release, receiver, "lasting")
    assert len(receiver.requests("/noted")) == received
    until(lambda: "note" in release.condition("noted", "Ready").get("message", "") or None, "the field that is unknown")

    release.install(merged(own, versions(app=NEXT_TAG, operator=NEXT_TAG)), chart=chart)
    for name in ("lasting", "noted"):
        release.wait_ready(name)
        assert delivers(release, receiver, name)
    assert note_of(release, "noted") == NOTE
    assert secrets_of(release, "lasting") == before


@pytest.mark.parametrize(
    ("app", "operator", "condition", "reason"),
    [
        pytest.param(TAG, NEXT_TAG, "Programmed", "Rejected", id="app behind"),
        pytest.param(NEXT_TAG, TAG, "Accepted", "InvalidSubscription", id="operator behind"),
    ],
)
def test_app_and_operator_may_be_one_version_apart(
    release: Release, receiver: Receiver, chart: Path, app: str, operator: str, condition: str, reason: str
) -> None:
    """A subscription that uses a field which one of them lacks is refused by name; every other one works."""
    release.install(merged(release.values, versions(app=app, operator=operator)), chart=chart)
    name, noted = f"plain-{operator}", f"noted-{operator}"
    subscribe(release, receiver, name)
    subscribe(release, receiver, noted, note=NOTE)
    release.wait_ready(name)
    assert delivers(release, receiver, name)

    found = until(
        lambda: said if (said := release.condition(noted, condition)).get("reason") == reason else None, reason
    )

    assert found["status"] == "False"
    assert "spec.delivery.note" in found["message"]
    assert release.condition(noted, "Ready")["reason"] == reason
    assert receiver.requests(f"/{noted}") == []
    subscribe(release, receiver, name, timeout="7s")
    release.wait_ready(name)
    assert delivers(release, receiver, name), "an edit beside it is taken"
