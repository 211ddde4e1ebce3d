"""The definitions, judged by a real API server: accepted again and again, and what a user is told of mistakes."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hookcast_core.source import parse_webhook_source
from hookcast_core.subscription import parse_subscription
from hookcast_operator.crds.kinds import KINDS, SOURCE, SUBSCRIPTION, Kind
from tests.e2e.cluster import Release

ROOT = Path(__file__).parents[2]
NAMESPACE = "hookcast-crds"
GOOD = {"endpoint": {"url": "https://shop.example"}, "events": {"types": ["*"]}}
REF = {"name": "github", "key": "secret"}
GITHUB = {"scheme": "GitHub", "secretRefs": [REF]}
GOOD_SOURCE = {"verification": GITHUB, "event": {"type": "github.{header:X-GitHub-Event}.{body:action}"}}


def kubectl(*arguments: str, given: object = None) -> subprocess.CompletedProcess[str]:
    """Runs kubectl; `given` is passed as JSON."""
    text = None if given is None else json.dumps(given)
    return subprocess.run(["kubectl", *arguments], input=text, capture_output=True, text=True, check=False, timeout=60)


def an_object(kind: Kind, spec: object, name: str = "s") -> dict[str, Any]:
    return {
        "apiVersion": "hookcast.dev/v1alpha1",
        "kind": kind.name,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": spec,
    }


@pytest.fixture(scope="module", autouse=True)
def namespace(release: Release) -> Iterator[None]:
    assert release.name, "the chart's definitions are there"
    for _ in range(2):
        applied = kubectl("apply", "-f", str(ROOT / "manifests/crds"))
        assert applied.returncode == 0, applied.stderr
    server_side = kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "manifests/crds"))
    assert server_side.returncode == 0, server_side.stderr
    for kind in KINDS:
        ready = kubectl("wait", "--for=condition=Established", f"crd/{kind.plural}.hookcast.dev", "--timeout=30s")
        assert ready.returncode == 0, ready.stderr
    kubectl("create", "namespace", NAMESPACE)
    yield
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def refusals(kind: Kind, spec: object) -> list[str]:
    """What is said on create and on server-side apply."""
    given = an_object(kind, spec)
    create = kubectl("create", "--dry-run=server", "-f", "-", given=given)
    apply = kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", given=given)
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


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        pytest.param(kind, rule, id=f"{kind.name} {place} {number}")
        for kind in KINDS
        for place, rules in kind.rules.items()
        for number, rule in enumerate(rules)
        if rule.example is not None
    ],
)
def test_each_rule_refuses_its_example(kind: Kind, rule: Any) -> None:
    """With its message."""
    for text in refusals(kind, rule.example):
        assert rule.message in text


@pytest.mark.parametrize("scheme", ["GitHub", "GitLab", "Stripe", "Slack", "Shopify", "StandardWebhooks", "Bearer"])
def test_each_scheme_is_taken_with_a_secret(scheme: str) -> None:
    """And is shown as it was given; what depends on the scheme is not filled in."""
    verification = {"scheme": scheme, "secretRefs": [REF, REF | {"key": "old"}]}

    applied = kubectl(
        "apply", "-o", "json", "-f", "-", given=an_object(SOURCE, GOOD_SOURCE | {"verification": verification}, "takes")
    )

    assert applied.returncode == 0, applied.stderr
    assert json.loads(applied.stdout)["spec"]["verification"] == verification


@pytest.mark.parametrize(
    "spec",
    [
        {"verification": {"scheme": "None"}},
        {"verification": {"scheme": "None", "secretRefs": []}},
        {"verification": {"scheme": "Basic", "secretRefs": [{"name": "github"}]}},
        {"verification": {"scheme": "HMAC", "secretRefs": [REF], "header": "X-Signature", "prefix": "HMAC "}},
        {"verification": {"scheme": "Slack", "secretRefs": [REF], "tolerance": "90s"}},
        {"event": {"type": "{header:x_y}{body:$a.@b.0.c-d}-Z_", "source": "https://[::1]/a?b=c%20d#e'()*+,;=!&$"}},
        {"event": {"type": "a", "id": "body:data.object.id"}, "channel": "chat:{body:room}#{body:user},ann@b.c"},
        {"path": "github-a1B2._~", "response": {"status": 204}},
        {"response": {"status": 200, "body": "thank you"}},
    ],
)
def test_what_a_source_may_say_is_taken(spec: dict[str, Any]) -> None:
    """By the API server as by the model."""
    given = GOOD_SOURCE | spec
    parse_webhook_source(given)

    taken = kubectl("create", "--dry-run=server", "-f", "-", given=an_object(SOURCE, given))

    assert taken.returncode == 0, taken.stderr


def test_the_columns_of_a_source() -> None:
    """What `kubectl get` shows by its short name, in the order of its columns."""
    foreign = {"dispatcherRef": {"name": "nobody"}}  # whose status no operator writes
    kubectl("apply", "-f", "-", given=an_object(SOURCE, GOOD_SOURCE | foreign, "columns"))
    status = '{"status": {"path": "/webhooks/columns"}}'
    kubectl("patch", "whsrc/columns", "-n", NAMESPACE, "--subresource=status", "--type=merge", "-p", status)

    shown = kubectl("get", "whsrc/columns", "-n", NAMESPACE, "-o", "wide").stdout

    header, row = shown.splitlines()
    assert header.split() == ["NAME", "READY", "PROGRAMMED", "PATH", "SCHEME", "MESSAGE", "AGE"]
    assert {"/webhooks/columns", "GitHub"} < set(row.split())


@pytest.mark.parametrize(
    "delivery",
    [
        {"timeout": "15000ms", "circuitBreaker": {"open": "3600000ms"}},
        {"retry": {"schedule": ["0", "0s", "604800000ms", "1h30m0.5s"]}},
        {"maxBacklog": {"age": "31536000s"}},
        {"maxBacklog": {"age": "31536000000ms"}},
    ],
)
def test_durations_are_taken_in_any_unit(delivery: dict[str, Any]) -> None:
    """By the API server as by the model."""
    spec = GOOD | {"delivery": delivery}
    parse_subscription(spec)
    created = kubectl("create", "--dry-run=server", "-f", "-", given=an_object(SUBSCRIPTION, spec, "durations"))
    assert created.returncode == 0, created.stderr


@pytest.mark.parametrize(
    ("spec", "field", "hint"),
    [
        (GOOD | {"endpoint": {"url": "shop.example/hooks"}}, "spec.endpoint.url", "write a URL like https://"),
        (
            GOOD | {"endpoint": {"url": "https://a.example", "urlSecretRef": {"name": "n", "key": "k"}}},
            "spec.endpoint.url",
            "exactly one of url and urlSecretRef",
        ),
        (GOOD | {"delivery": {"timeout": "-5s"}}, "spec.delivery.timeout", "1s to 60s"),
        (GOOD | {"delivery": {"timeout": "90"}}, "spec.delivery.timeout", '"45s"'),
        (GOOD | {"delivery": {"timeout": "999999h999999h999999h"}}, "spec.delivery.timeout", "1s to 60s"),
        (GOOD | {"delivery": {"timeout": "99999h99999h99999h99999h"}}, "spec.delivery.timeout", "1s to 60s"),
        (GOOD | {"delivery": {"retry": {"schedule": ["5s", "5 minutes"]}}}, "spec.delivery.retry.schedule[1]", "1h30m"),
        (GOOD | {"endpont": {}}, "spec.endpont", "unknown field"),
        (GOOD | {"delivery": {"ordering": "Fifo"}}, "spec.delivery.ordering", '"FIFO"'),
        (GOOD | {"events": {"types": ["order.created", "order*"]}}, "spec.events.types[1]", '"order.*"'),
        ({"endpoint": {"url": "https://a.example"}}, "spec.events", "Required value"),
    ],
)
def test_a_mistake_is_named_with_its_fix(spec: Any, field: str, hint: str) -> None:
    """The text that a user sees on create and on server-side apply."""
    names_it(SUBSCRIPTION, spec, field, hint)


@pytest.mark.parametrize(
    ("spec", "field", "hint"),
    [
        ({"event": {"type": "a"}}, "spec.verification", "Required value"),
        (GOOD_SOURCE | {"verification": {"secretRefs": [REF]}}, "spec.verification.scheme", "Required value"),
        (GOOD_SOURCE | {"verification": {"scheme": "github"}}, "spec.verification.scheme", '"GitHub"'),
        (GOOD_SOURCE | {"verification": {"scheme": "GitHub"}}, "spec.verification.secretRefs", "name the Secret"),
        (
            GOOD_SOURCE | {"verification": GITHUB | {"secretRefs": [REF] * 11}},
            "spec.verification.secretRefs",
            "at most 10 items",
        ),
        (GOOD_SOURCE | {"verification": GITHUB | {"secret": "x"}}, "spec.verification.secret", "unknown field"),
        (GOOD_SOURCE | {"event": {"type": "github.{action}"}}, "spec.event.type", "{body:action}"),
        (GOOD_SOURCE | {"event": {"type": "a" * 257}}, "spec.event.type", "256"),
        (GOOD_SOURCE | {"event": {"type": "größe"}}, "spec.event.type", "letters, digits"),
        (GOOD_SOURCE | {"event": {"type": "a\n"}}, "spec.event.type", "letters, digits"),
        (GOOD_SOURCE | {"path": "../admin"}, "spec.path", "one segment of a URL"),
        (GOOD_SOURCE | {"response": {"status": 500}}, "spec.response.status", "202"),
    ],
)
def test_a_mistake_in_a_source_is_named_with_its_fix(spec: Any, field: str, hint: str) -> None:
    """As that in a subscription."""
    names_it(SOURCE, spec, field, hint)


def names_it(kind: Kind, spec: Any, field: str, hint: str) -> None:
    create, apply = refusals(kind, spec)

    assert hint in create
    assert field in create
    if hint != "unknown field":  # server-side apply words it itself
        assert hint in apply
        assert field in apply


@pytest.mark.parametrize(
    ("kind", "good"), [(SUBSCRIPTION, GOOD), (SOURCE, GOOD_SOURCE)], ids=["subscription", "source"]
)
def test_an_object_stays_with_its_dispatcher(kind: Kind, good: dict[str, Any]) -> None:
    """Not given, given, and changed."""
    kubectl("apply", "-f", "-", given=an_object(kind, good, "stays"))
    same = kubectl("apply", "-f", "-", given=an_object(kind, good | {"dispatcherRef": {"name": "hookcast"}}, "stays"))
    assert same.returncode == 0, same.stderr

    changed = kubectl("apply", "-f", "-", given=an_object(kind, good | {"dispatcherRef": {"name": "other"}}, "stays"))

    assert changed.returncode == 1
    assert "spec.dispatcherRef.name" in changed.stderr
    assert "delete it and create it anew" in changed.stderr


@pytest.mark.parametrize(
    ("kind", "good"), [(SUBSCRIPTION, GOOD), (SOURCE, GOOD_SOURCE)], ids=["subscription", "source"]
)
def test_a_long_name_is_refused(kind: Kind, good: dict[str, Any]) -> None:
    """Other names are made from it."""
    refused = kubectl("create", "--dry-run=server", "-f", "-", given=an_object(kind, good, "a" * 201))

    assert "at most 200 characters" in refused.stderr
