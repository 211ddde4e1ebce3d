"""What stays when a release goes, who may take it over, and two releases beside each other."""

from collections.abc import Iterator

import pytest

from tests.e2e.cluster import Cluster, Object, Receiver, Release, body_of, until

pytestmark = pytest.mark.timeout(600)

DEFINITIONS = ("webhooksubscriptions.hookcast.dev", "webhooksources.hookcast.dev")
ROLES = ("hookcast-view", "hookcast-edit")
SMALL: Object = {"resources": {"requests": {"cpu": "20m"}}, "operator": {"resources": {"requests": {"cpu": "20m"}}}}


def uid(cluster: Cluster, kind: str, name: str, namespace: str) -> str:
    return str(cluster.get(kind, name, namespace).get("metadata", {}).get("uid"))


def what_lasts(release: Release, subscription: str) -> Object:
    """Everything that has to be the same afterwards."""
    cluster, namespace = release.cluster, release.namespace
    signing = cluster.get("whsub", subscription, namespace)["status"]["signingSecret"]["name"]
    found = [("pvc", f"{release.fullname}-redis"), ("whsub", subscription), ("secret", signing)]
    return {
        "uids": [uid(cluster, kind, name, namespace) for kind, name in found],
        "definitions": [uid(cluster, "crd", name, namespace) for name in DEFINITIONS],
        "roles": [uid(cluster, "clusterrole", name, namespace) for name in ROLES],
        "signing": cluster.decoded(signing, namespace),
        "keys": release.keys,
        "spec": cluster.get("whsub", subscription, namespace)["spec"],
    }


def waiting(release: Release, receiver: Receiver, name: str) -> str:
    """A subscription whose endpoint refuses, and the id of an event that waits for it."""
    retry = {"delivery": {"retry": {"schedule": ["2s"] * 32}}}
    release.cluster.apply(release.subscription(name, {"endpoint": {"url": receiver.url(f"/{name}")}} | retry))
    release.wait_ready(name)
    receiver.behave({f"/{name}": {"status": 503}})
    published = str(release.publish()["id"])
    receiver.wait_for(f"/{name}")
    return published


def arrives(release: Release, receiver: Receiver, name: str, event: str) -> bool:
    """Once its endpoint takes deliveries again, the event that waited is there."""
    receiver.behave({})
    before = len(receiver.requests(f"/{name}"))
    release.wait_ready(name)
    return event in body_of(receiver.wait_for(f"/{name}", before + 1)[-1]).decode()


def nothing_runs(release: Release) -> bool:
    """Deleting a StatefulSet does not wait for its pod; that of `helm test` stays to be read."""
    selector = f"app.kubernetes.io/instance={release.name},app.kubernetes.io/component!=test"
    until(
        lambda: not release.cluster.list("pods", release.namespace, selector) or None, "an end of all pods", every=0.5
    )
    return not release.cluster.list("deployments,statefulsets,networkpolicies", release.namespace, selector)


def test_a_reinstallation_finds_what_an_uninstallation_kept(release: Release, receiver: Receiver) -> None:
    """Definitions and their roles, objects, the claim with what waits, keys, signing Secrets: all are used again."""
    event = waiting(release, receiver, "kept")
    before = what_lasts(release, "kept")

    release.uninstall()

    try:
        assert nothing_runs(release)
        assert what_lasts(release, "kept") == before
    finally:
        release.install(release.values)
    assert what_lasts(release, "kept") == before
    assert arrives(release, receiver, "kept", event)


def test_another_name_takes_everything_over(release: Release, receiver: Receiver, cluster: Cluster) -> None:
    """With `fullnameOverride` and `--take-ownership`; without the second it is refused, naming who has it."""
    event = waiting(release, receiver, "taken-over")
    before = what_lasts(release, "taken-over")
    renamed = Release(cluster, "renamed", release.namespace, fullname=release.fullname)
    release.uninstall()
    try:
        assert nothing_runs(release)
        with pytest.raises(AssertionError) as refused:
            renamed.install(release.values)
        assert "invalid ownership metadata" in str(refused.value)
        assert 'must equal "renamed": current value is "hookcast"' in str(refused.value)

        renamed.install(release.values, "--take-ownership")

        assert what_lasts(renamed, "taken-over") == before
        assert arrives(renamed, receiver, "taken-over", event)
    finally:
        renamed.uninstall()
        assert nothing_runs(renamed)
        release.install(release.values, "--take-ownership")
    assert what_lasts(release, "taken-over") == before


@pytest.fixture
def second_namespace(cluster: Cluster) -> Iterator[str]:
    name = "hookcast-second"
    cluster.namespace(name)
    yield name
    cluster.helm("uninstall", "second", "-n", name, "--wait", "--ignore-not-found")
    cluster.kubectl("delete", "namespace", name, "--wait=true", "--timeout=180s", timeout=200)


def test_a_second_release_needs_a_dispatcher_of_its_own(
    release: Release, receiver: Receiver, cluster: Cluster, second_namespace: str
) -> None:
    """With the name of the first one's it is refused, naming both; with another they serve their own side by side."""
    values = {**SMALL, "crds": {"enabled": False}, "settings": {"EGRESS_ALLOW": ["*.svc.cluster.local:9000"]}}
    rival = Release(cluster, "second", second_namespace)
    with pytest.raises(AssertionError) as refused:
        rival.install(values)
    assert "hookcast-dispatcher-hookcast" in str(refused.value)
    assert 'must equal "second": current value is "hookcast"' in str(refused.value)
    assert cluster.list("pods", second_namespace) == []

    second = Release(cluster, "second", second_namespace, dispatcher="second")
    second.install(values)

    for each, name in ((release, "of-first"), (second, "of-second")):
        cluster.apply(each.subscription(name, {"endpoint": {"url": receiver.url(f"/{name}")}}))
        each.wait_ready(name)
    events = {name: each.publish()["id"] for each, name in ((release, "of-first"), (second, "of-second"))}
    for name, event in events.items():
        (request,) = receiver.wait_for(f"/{name}")
        assert event in body_of(request).decode()
    assert release.keys != second.keys
    cluster.delete("whsub", "of-second", second_namespace)
