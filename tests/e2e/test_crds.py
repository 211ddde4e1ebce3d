"""The definitions, judged by a real API server: accepted, again and again, and the text that a user sees for mistakes.

Needs a cluster: the current context of kubectl.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hookcast_operator.crds.rules import RULES

ROOT = Path(__file__).parents[2]
NAMESPACE = "hookcast-crds"
GOOD = {"endpoint": {"url": "https://shop.example"}, "events": {"types": ["*"]}}


def kubectl(*arguments: str, given: object = None) -> subprocess.CompletedProcess[str]:
    """Runs kubectl; `given` is passed as JSON."""
    text = None if given is None else json.dumps(given)
    return subprocess.run(["kubectl", *arguments], input=text, capture_output=True, text=True, check=False, timeout=60)


def subscription(spec: object, name: str = "s", namespace: str = NAMESPACE) -> dict[str, Any]:
    return {
        "apiVersion": "hookcast.dev/v1alpha1",
        "kind": "WebhookSubscription",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


@pytest.fixture(scope="module", autouse=True)
def namespace() -> Iterator[None]:
    for _ in range(2):
        applied = kubectl("apply", "-f", str(ROOT / "manifests/crds"))
        assert applied.returncode == 0, applied.stderr
    server_side = kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "manifests/crds"))
    assert server_side.returncode == 0, server_side.stderr
    ready = kubectl("wait", "--for=condition=Established", "crd/webhooksubscriptions.hookcast.dev", "--timeout=30s")
    assert ready.returncode == 0, ready.stderr
    kubectl("create", "namespace", NAMESPACE)
    yield
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def refusals(spec: object) -> list[str]:
    """What is said on create and on server-side apply."""
    create = kubectl("create", "--dry-run=server", "-f", "-", given=subscription(spec))
    apply = kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", given=subscription(spec))
    assert (create.returncode, apply.returncode) == (1, 1), (create.stdout, apply.stdout)
    return [create.stderr, apply.stderr]


@pytest.mark.parametrize("sample", sorted((ROOT / "manifests/samples/kubernetes").glob("*.yaml")), ids=str)
def test_the_samples_are_accepted(sample: Path) -> None:
    """On create, and applied twice."""
    created = kubectl("create", "-n", NAMESPACE, "--dry-run=server", "-f", str(sample))
    assert created.returncode == 0, created.stderr
    for _ in range(2):
        applied = kubectl("apply", "-n", NAMESPACE, "-f", str(sample))
        assert applied.returncode == 0, applied.stderr


@pytest.mark.parametrize("rule", [rule for rules in RULES.values() for rule in rules if rule.example is not None])
def test_each_rule_refuses_its_example(rule: Any) -> None:
    """With its message."""
    for text in refusals(rule.example):
        assert rule.message in text


@pytest.mark.parametrize(
    ("spec", "field", "hint"),
    [
        (GOOD | {"endpoint": {"url": "shop.example/hooks"}}, "spec.endpoint.url", "begins with https://"),
        (
            GOOD | {"endpoint": {"url": "https://a.example", "urlSecretRef": {"name": "n", "key": "k"}}},
            "spec.endpoint.url",
            "exactly one of url and urlSecretRef",
        ),
        (GOOD | {"delivery": {"timeout": "-5s"}}, "spec.delivery.timeout", "1s to 60s"),
        (GOOD | {"delivery": {"timeout": "90"}}, "spec.delivery.timeout", '"15s"'),
        (GOOD | {"delivery": {"timeout": "999999h999999h999999h"}}, "spec.delivery.timeout", ""),
        (GOOD | {"delivery": {"retry": {"schedule": ["5s", "5 minutes"]}}}, "spec.delivery.retry.schedule[1]", "15s"),
        (GOOD | {"endpont": {}}, "spec.endpont", "unknown field"),
        (GOOD | {"delivery": {"ordering": "Fifo"}}, "spec.delivery.ordering", '"FIFO"'),
        (GOOD | {"events": {"types": ["order.created", "order*"]}}, "spec.events.types[1]", '"order.*"'),
        ({"endpoint": {"url": "https://a.example"}}, "spec.events", "Required value"),
    ],
)
def test_a_mistake_is_named_with_its_fix(spec: Any, field: str, hint: str) -> None:
    """The text that a user sees on create and on server-side apply."""
    create, apply = refusals(spec)

    assert hint in create
    assert field in create
    if hint != "unknown field":  # server-side apply words it itself
        assert hint in apply
        assert field in apply


def test_a_subscription_stays_with_its_dispatcher() -> None:
    """Not given, given, and changed."""
    kubectl("apply", "-f", "-", given=subscription(GOOD, "stays"))
    same = kubectl("apply", "-f", "-", given=subscription(GOOD | {"dispatcherRef": {"name": "hookcast"}}, "stays"))
    assert same.returncode == 0, same.stderr

    changed = kubectl("apply", "-f", "-", given=subscription(GOOD | {"dispatcherRef": {"name": "other"}}, "stays"))

    assert changed.returncode == 1
    assert "spec.dispatcherRef.name" in changed.stderr
    assert "delete it and create it anew" in changed.stderr


def test_a_long_name_is_refused() -> None:
    """Other names are made from it."""
    refused = kubectl("create", "--dry-run=server", "-f", "-", given=subscription(GOOD, "a" * 201))

    assert "at most 200 characters" in refused.stderr
