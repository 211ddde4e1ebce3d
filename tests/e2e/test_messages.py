"""Ten typical mistakes: what a user reads at once, or in `kubectl get`, names the field and what to write instead."""

import json
from collections.abc import Callable

import pytest

from tests.e2e.cluster import Object, Receiver, Release, until

pytestmark = pytest.mark.timeout(300)


def refusal(release: Release, spec: Object, name: str, *, server_side: bool) -> str:
    """What kubectl says of an object that is not taken."""
    verb = ("apply", "--server-side") if server_side else ("create",)
    given = release.subscription(name, spec)
    done = release.cluster.kubectl(*verb, "-f", "-", "-n", release.namespace, given=given, check=False)
    assert done.returncode != 0, done.stdout
    return done.stderr


Make = Callable[[str], Object]
REFUSED: dict[str, tuple[Make, list[str]]] = {
    "a wrong URL": (
        lambda _url: {"endpoint": {"url": "shop.example/hooks"}},
        ["spec.endpoint.url", "write a URL like https://"],
    ),
    "two URLs": (
        lambda url: {"endpoint": {"url": url, "urlSecretRef": {"name": "n", "key": "k"}}},
        ["spec.endpoint.url", "give exactly one of url and urlSecretRef"],
    ),
    "a negative duration": (
        lambda url: {"endpoint": {"url": url}, "delivery": {"timeout": "-5s"}},
        ["spec.delivery.timeout", "write a duration of 1s to 60s"],
    ),
    "an unknown field": (
        lambda url: {"endpoint": {"url": url}, "delivery": {"timout": "5s"}},
        ["spec.delivery.timout"],
    ),
    "a word that is none of the words": (
        lambda url: {"endpoint": {"url": url}, "format": "CloudEvent"},
        ["spec.format", '"CloudEvents", "Data"'],
    ),
}


@pytest.mark.parametrize("server_side", [False, True], ids=["create", "apply"])
@pytest.mark.parametrize("mistake", REFUSED)
def test_a_mistake_of_shape_is_refused_at_once(
    release: Release, receiver: Receiver, mistake: str, *, server_side: bool
) -> None:
    """On create, and on server-side apply."""
    spec, expected = REFUSED[mistake]

    said = refusal(release, spec(receiver.url("/")), "mistaken", server_side=server_side)

    for part in expected:
        assert part in said, said


def test_another_dispatcher_is_refused_for_one_that_exists(release: Release, receiver: Receiver) -> None:
    """It says how to get there all the same."""
    spec = {"endpoint": {"url": receiver.url("/stays")}}
    release.cluster.apply(release.subscription("stays", spec))

    said = refusal(release, spec | {"dispatcherRef": {"name": "other"}}, "stays", server_side=True)

    assert "spec.dispatcherRef.name" in said
    assert "delete it and create it anew" in said


TOLD: dict[str, tuple[Make, str, list[str]]] = {
    "a missing Secret": (
        lambda url: {"endpoint": {"url": url, "headers": [_from("missing")]}},
        "SecretNotFound",
        ["spec.endpoint.headers[0].valueFrom", "there is no Secret missing"],
    ),
    "a Secret that is not allowed": (
        lambda url: {"endpoint": {"url": url, "headers": [_from("not-allowed")]}},
        "SecretNotAllowed",
        ["spec.endpoint.headers[0].valueFrom", 'label it hookcast.dev/allow="true"'],
    ),
    "a bad filter": (
        lambda url: {"endpoint": {"url": url}, "events": {"filter": "data.amount >"}},
        "InvalidFilter",
        ["spec.events.filter"],
    ),
    "a private address": (
        lambda _url: {"endpoint": {"url": "https://192.168.1.7/hooks"}},
        "EgressDenied",
        ["spec.endpoint.url", "192.168.1.7", "HOOKCAST_EGRESS_ALLOW"],
    ),
}


def _from(secret: str) -> Object:
    return {"name": "Authorization", "valueFrom": {"secretKeyRef": {"name": secret, "key": "token"}}}


@pytest.mark.parametrize("mistake", TOLD)
def test_a_mistake_that_only_the_operator_sees_is_told_in_the_status(
    release: Release, receiver: Receiver, mistake: str
) -> None:
    """`kubectl get` shows it, and so does an Event."""
    make, reason, expected = TOLD[mistake]
    name = mistake.lower().replace(" ", "-")
    hidden = {"name": "not-allowed", "namespace": release.namespace}
    release.cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": hidden, "stringData": {"token": "t"}})

    release.cluster.apply(release.subscription(name, make(receiver.url("/told"))))

    until(lambda: release.condition(name, "Ready").get("reason") == reason or None, f"{reason} in the status")
    shown = release.cluster.kubectl("get", "whsub", name, "-n", release.namespace, "-o", "wide").stdout
    for part in expected:
        assert part in shown, shown

    def told() -> bool | None:
        events = json.loads(release.cluster.kubectl("get", "events", "-n", release.namespace, "-o", "json").stdout)[
            "items"
        ]
        return any(one["reason"] == reason and one["involvedObject"]["name"] == name for one in events) or None

    until(told, "an Event")
