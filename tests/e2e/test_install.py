"""A fresh installation, and what a user does next: apply, edit, break, rotate; then Redis and pods are killed."""

import statistics
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from standardwebhooks import Webhook

from hookcast_core.signing import generate_secret
from tests.e2e.cluster import Cluster, Object, Receiver, Release, body_of, until

pytestmark = pytest.mark.timeout(600)


def endpoint(receiver: Receiver, path: str) -> Object:
    return {"url": receiver.url(path)}


def secret(name: str, namespace: str, allowed: str = "true", **data: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": {"hookcast.dev/allow": allowed}},
        "stringData": data,
    }


def verifies(key: str, request: Object) -> bool:
    """Whether a stock verifier accepts it."""
    Webhook(key).verify(body_of(request), request["headers"])
    return True


def measured(values: list[float]) -> str:
    ordered = sorted(values)
    return (
        f"p50 {1000 * statistics.median(ordered):.0f} ms, p99 {1000 * ordered[-1 - len(ordered) // 100]:.0f} ms, "
        f"max {1000 * ordered[-1]:.0f} ms of {len(ordered)}"
    )


def test_an_installation_is_ready_and_tests_itself(release: Release) -> None:
    """`helm install --wait` returned; every pod is ready within a minute of being made; `helm test` passes."""
    pods = release.cluster.list("pods", release.namespace, "app.kubernetes.io/instance=hookcast")
    assert {pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in pods} >= {"app", "operator"}

    said = release.cluster.helm("test", release.name, "-n", release.namespace, "--timeout", "120s").stdout

    assert "Succeeded" in said


def test_every_pod_is_admitted_where_restricted_is_enforced(release: Release) -> None:
    """The namespace enforces the strictest Pod Security Standard; nothing was refused, nobody is root."""
    namespace = release.cluster.get("namespace", release.namespace, release.namespace)
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"

    events = release.cluster.list("events", release.namespace)
    pods = release.cluster.list("pods", release.namespace, "app.kubernetes.io/instance=hookcast")

    assert [event["message"] for event in events if "violates PodSecurity" in event.get("message", "")] == []
    for pod in pods:
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        for container in [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_an_applied_subscription_delivers_verified_webhooks(release: Release, receiver: Receiver) -> None:
    """Apply, `kubectl wait`, publish: the webhook verifies with the generated key that the status names."""
    release.cluster.apply(release.subscription("first", {"endpoint": endpoint(receiver, "/first")}))
    release.wait_ready("first", within=10)

    published = release.publish(data={"amount": 1})
    (request,) = receiver.wait_for("/first")

    status = release.cluster.get("whsub", "first", release.namespace)["status"]
    key = release.cluster.decoded(status["signingSecret"]["name"], release.namespace)["secret"]
    assert verifies(key, request)
    assert published["id"] in body_of(request).decode()
    until(lambda: release.condition("first", "Delivering").get("status") == "True" or None, "Delivering is true")
    assert release.cluster.get("whsub", "first", release.namespace)["status"]["lastDelivery"]["outcome"] == "Delivered"


@pytest.fixture
def pod_sequence(release: Release) -> Iterator[Callable[[], int]]:
    """The sequence that is in force in the app's pod."""
    pod = f"pod/{release.pods()[0]}"
    with release.cluster.forwarded(pod, release.namespace, 9090) as url, httpx.Client(base_url=url) as client:
        yield lambda: client.get("/internal/configuration").json()["sequence"]


def test_an_edit_takes_effect_within_a_second(
    release: Release, receiver: Receiver, pod_sequence: Callable[[], int], capsys: pytest.CaptureFixture[str]
) -> None:
    """From the API server's answer to being in force in the pod, 50 times; then events go to the new URL."""
    release.cluster.apply(release.subscription("edited", {"endpoint": endpoint(receiver, "/edited/start")}))
    release.wait_ready("edited")
    path = f"/apis/hookcast.dev/v1alpha1/namespaces/{release.namespace}/webhooksubscriptions/edited"
    seconds = []
    for turn in range(50):
        before = pod_sequence()
        patch = {"spec": {"endpoint": {"url": receiver.url(f"/edited/{turn}")}}}
        headers = {"Content-Type": "application/merge-patch+json"}
        answer = release.cluster.api.patch(path, json=patch, headers=headers)
        began = time.monotonic()
        assert answer.status_code == 200
        until(lambda before=before: pod_sequence() > before or None, "a newer configuration", every=0.002)  # type: ignore[misc]
        seconds.append(time.monotonic() - began)

    with capsys.disabled():
        print(f"\nedit → in force: {measured(seconds)}")
    release.publish()
    assert len(receiver.wait_for("/edited/49")) == 1
    assert receiver.requests("/edited/48") == []
    assert sorted(seconds)[-2] < 1.0


def test_what_is_invalid_is_refused_or_told_and_disturbs_no_other(release: Release, receiver: Receiver) -> None:
    """A wrong shape is refused at apply; a wrong filter gets its reason; a valid one beside them works."""
    wrong = release.subscription("wrong", {"endpoint": {"url": "ftp://shop.example"}})
    refused = release.cluster.kubectl("apply", "-f", "-", given=wrong, check=False)
    assert refused.returncode != 0
    assert "spec.endpoint.url" in refused.stderr
    release.cluster.apply(
        release.subscription(
            "bad-filter", {"endpoint": endpoint(receiver, "/bad"), "events": {"filter": "data.amount >"}}
        ),
        release.subscription("beside", {"endpoint": endpoint(receiver, "/beside")}),
    )
    release.wait_ready("beside")

    ready = until(lambda: release.condition("bad-filter", "Ready") or None, "a status")
    release.publish()

    assert (ready["status"], ready["reason"]) == ("False", "InvalidFilter")
    assert "spec.events.filter" in ready["message"]
    assert receiver.wait_for("/beside")
    assert receiver.requests("/bad") == []
    events = release.cluster.list("events", release.namespace)
    until(
        lambda: (
            any(
                event["reason"] == "InvalidFilter" and event["involvedObject"]["name"] == "bad-filter"
                for event in release.cluster.list("events", release.namespace)
            )
            or None
        ),
        f"an Event with the reason among {len(events)}",
    )


def test_a_signing_key_is_rotated_without_a_gap(release: Release, receiver: Receiver) -> None:
    """Both keys sign while both are listed; afterwards only the new one does."""
    old, new = generate_secret(), generate_secret()
    release.cluster.apply(secret("key-old", release.namespace, key=old), secret("key-new", release.namespace, key=new))

    def keys(*names: str) -> Object:
        return {"signing": {"keys": [{"secretRef": {"name": name, "key": "key"}} for name in names]}}

    spec = {"endpoint": endpoint(receiver, "/rotated")}
    for number, (names, signatures) in enumerate(
        [(("key-old",), [old]), (("key-new", "key-old"), [new, old]), (("key-new",), [new])], 1
    ):
        release.cluster.apply(release.subscription("rotated", spec | keys(*names)))
        release.wait_ready("rotated")
        release.publish()
        request = receiver.wait_for("/rotated", number)[-1]
        assert len(request["headers"]["webhook-signature"].split()) == len(signatures)
        assert all(verifies(key, request) for key in signatures)


def test_a_rotated_secret_takes_effect_without_an_edit(release: Release, receiver: Receiver) -> None:
    """Secrets that are referred to are watched; one that is deleted leaves the last good key in force."""
    old, new = generate_secret(), generate_secret()
    release.cluster.apply(secret("watched", release.namespace, key=old))
    reference = {"signing": {"keys": [{"secretRef": {"name": "watched", "key": "key"}}]}}
    release.cluster.apply(release.subscription("watching", {"endpoint": endpoint(receiver, "/watching")} | reference))
    release.wait_ready("watching")

    def signed_with(key: str) -> bool | None:
        before = len(receiver.requests("/watching"))
        release.publish()
        try:
            return verifies(key, receiver.wait_for("/watching", before + 1)[-1])
        except Exception:  # noqa: BLE001  signed with the other one
            return None

    assert signed_with(old)
    release.cluster.apply(secret("watched", release.namespace, key=new))
    until(lambda: signed_with(new), "the new key")
    release.cluster.delete("secret", "watched", release.namespace)
    until(lambda: release.condition("watching", "Ready").get("reason") == "SecretNotFound" or None, "SecretNotFound")
    assert signed_with(new)
    release.cluster.apply(secret("watched", release.namespace, key=old))
    release.wait_ready("watching")
    until(lambda: signed_with(old), "the restored key")


def test_a_killed_redis_loses_nothing_that_was_acknowledged(
    release: Release, receiver: Receiver, cluster: Cluster
) -> None:
    """Twice, with deliveries waiting: Kubernetes restarts it alone, the second time with a back-off."""
    release.cluster.apply(release.subscription("killed", {"endpoint": endpoint(receiver, "/killed")}))
    release.wait_ready("killed")
    accepted = set()
    for _ in range(2):
        accepted |= {release.publish(data={"n": n})["id"] for n in range(20)}
        cluster.on_node("kill", "-9", cluster.process(release.pods()[0], "redis", release.namespace))
        accepted |= {release.publish(data={"n": n})["id"] for n in range(20)}

    def missing() -> set[str]:
        bodies = b"".join(body_of(request) for request in receiver.requests("/killed")).decode()
        return {found for found in accepted if found not in bodies}

    until(lambda: not missing() or None, "every acknowledged event at the endpoint")


def test_deliveries_that_wait_outlive_their_pod(release: Release, receiver: Receiver) -> None:
    """They wait in the sidecar's volume: the next pod delivers them."""
    retry = {"delivery": {"retry": {"schedule": ["1s"] * 30}}}
    release.cluster.apply(release.subscription("outliving", {"endpoint": endpoint(receiver, "/outliving")} | retry))
    release.wait_ready("outliving")
    receiver.behave({"/outliving": {"status": 503}})
    published = release.publish()["id"]
    receiver.wait_for("/outliving")
    (pod,) = release.pods()

    release.cluster.kubectl("delete", "pod", pod, "-n", release.namespace, "--wait=true")
    receiver.behave({})
    before = len(receiver.requests("/outliving"))

    release.cluster.kubectl("rollout", "status", "statefulset/hookcast", "-n", release.namespace, "--timeout=120s")
    delivered = receiver.wait_for("/outliving", before + 1)[-1]
    assert published in body_of(delivered).decode()
