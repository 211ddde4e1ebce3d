"""The specification: what it takes, what it refuses, and with which words."""

import copy
from typing import Any

import pytest

from hookcast_core.documents import (
    SecretDocument,
    parse_secret_document,
    parse_subscription_document,
)
from hookcast_core.errors import InvalidInput, Reason
from hookcast_core.schedule import delay_before
from hookcast_core.subscription import DEFAULT_SCHEDULE, Subscription, epoch_ms, parse_subscription
from tests.support.schemas import unbounded

FULL: dict[str, Any] = {
    "dispatcherRef": {"name": "hookcast"},
    "endpoint": {
        "url": "https://shop.example/hooks",
        "headers": [
            {"name": "X-Team", "value": "shop"},
            {"name": "Authorization", "valueFrom": {"secretKeyRef": {"name": "shop", "key": "token"}}},
        ],
        "tls": {
            "caSecretRef": {"name": "ca", "key": "ca.crt"},
            "clientCertificateSecretRef": {"name": "client"},
        },
    },
    "events": {"types": ["order.*", "user.created", "*"], "filter": "data.amount > 100"},
    "format": "Data",
    "signing": {
        "scheme": "StandardWebhooks",
        "keys": [
            {"algorithm": "Ed25519", "secretRef": {"name": "keys", "key": "new"}},
            {"secretRef": {"name": "keys", "key": "old"}, "expiresAt": "2027-01-31T00:00:00Z"},
        ],
        "generatedSecret": "Retain",
    },
    "delivery": {
        "timeout": "15s",
        "retry": {"schedule": ["5s", "5m"]},
        "maxInFlight": 16,
        "rateLimit": {"requests": 100, "per": "1s"},
        "ordering": "FIFO",
        "circuitBreaker": {"failures": 10, "window": "1m", "open": "30s"},
        "maxBacklog": {"count": 1000, "age": "24h"},
    },
    "suspend": True,
}
MINIMAL: dict[str, Any] = {"endpoint": {"url": "https://shop.example/hooks"}, "events": {"types": ["*"]}}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The full specification with one value set; `...` removes it."""
    spec = copy.deepcopy(FULL)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    target: Any = spec
    for part in parents:
        target = target[part]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return spec


def test_everything_at_once_is_taken_and_written_back() -> None:
    """A specification with every field set survives a round trip through the model, names in camelCase."""
    spec = parse_subscription(FULL)

    again = spec.model_dump(mode="json", exclude_unset=True)

    assert parse_subscription(again) == spec
    assert again["signing"]["keys"][1]["secretRef"] == {"name": "keys", "key": "old"}
    assert again["delivery"]["retry"]["schedule"] == ["5s", "5m"]
    assert spec.delivery.retry.schedule == (5_000, 300_000)


def test_the_defaults_are_those_of_the_design() -> None:
    """URL and types are enough; the rest has the documented values."""
    spec = parse_subscription(MINIMAL)

    assert spec.format == "CloudEvents"
    assert spec.signing.scheme == "StandardWebhooks"
    assert spec.signing.keys == ()
    assert spec.delivery.timeout == 15_000
    assert delay_before(2, spec.delivery.retry, lambda: 0.5) == DEFAULT_SCHEDULE[0]
    assert spec.delivery.max_in_flight == 16
    assert spec.delivery.rate_limit is None
    assert spec.delivery.ordering == "Unordered"
    assert spec.delivery.circuit_breaker.failures == 10
    assert not spec.suspend
    assert spec.dispatcher_ref.name == "hookcast"


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("nonsense", 1, "nonsense"),
        ("endpoint.uri", "x", "endpoint.uri"),
        ("endpoint", ..., "endpoint"),
        ("endpoint.url", ..., "endpoint"),
        ("endpoint.urlSecretRef", {"name": "a", "key": "b"}, "endpoint"),
        ("endpoint.url", "", "endpoint.url"),
        ("endpoint.url", "x" * 2049, "endpoint.url"),
        ("endpoint.headers.0.value", "a\r\nX-Evil: 1", "endpoint.headers[0].value"),
        ("endpoint.headers.0.value", "a\tb", "endpoint.headers[0].value"),
        ("endpoint.headers.0.value", "price €", "endpoint.headers[0].value"),
        ("endpoint.headers.0.value", " padded", "endpoint.headers[0].value"),
        ("endpoint.headers.0.value", "x" * 4097, "endpoint.headers[0].value"),
        ("endpoint.headers.0.value", 5, "endpoint.headers[0].value"),
        ("endpoint.headers.0.value", ..., "endpoint.headers[0]"),
        ("endpoint.headers.1.value", "both", "endpoint.headers[1]"),
        ("endpoint.headers.1.name", "x-team", "endpoint"),
        ("endpoint.headers.0.name", "X Team", "endpoint.headers[0].name"),
        ("endpoint.headers.0.name", "X-Team:", "endpoint.headers[0].name"),
        ("endpoint.headers", [{"name": f"X-{i}", "value": ""} for i in range(33)], "endpoint.headers"),
        ("endpoint.tls.caSecretRef.name", "../etc", "endpoint.tls.caSecretRef.name"),
        ("endpoint.tls.caSecretRef.key", "a/b", "endpoint.tls.caSecretRef.key"),
        ("endpoint.tls.caSecretRef.key", "..", "endpoint.tls.caSecretRef.key"),
        ("events.types", [], "events.types"),
        ("events.types", ["*"] * 65, "events.types"),
        ("events.types", "order.*", "events.types"),
        ("events.types.0", "order*", "events.types[0]"),
        ("events.filter", "x" * 1025, "events.filter"),
        ("format", "XML", "format"),
        ("signing.scheme", "GitHub", "signing"),
        ("signing.keys.0.algorithm", "RSA", "signing.keys[0].algorithm"),
        ("signing.keys.1.expiresAt", "tomorrow", "signing.keys[1].expiresAt"),
        ("signing.keys.1.expiresAt", 1_800_000_000, "signing.keys[1].expiresAt"),
        ("signing.keys.1.expiresAt", "2027-01-31T00:00:00", "signing.keys[1].expiresAt"),
        ("signing.keys", [FULL["signing"]["keys"][0]] * 11, "signing.keys"),
        ("delivery.timeout", "999ms", "delivery.timeout"),
        ("delivery.timeout", "61s", "delivery.timeout"),
        ("delivery.timeout", "soon", "delivery.timeout"),
        ("delivery.retry.schedule", ["1s"] * 33, "delivery.retry.schedule"),
        ("delivery.retry.schedule.1", "169h", "delivery.retry.schedule[1]"),
        ("delivery.retry.exponential", {"initial": "1s", "max": "1h", "attempts": 5}, "delivery.retry"),
        ("delivery.retry", {"exponential": {"initial": "1s", "max": "1h"}}, "delivery.retry.exponential.attempts"),
        ("delivery.maxInFlight", 0, "delivery.maxInFlight"),
        ("delivery.maxInFlight", "16", "delivery.maxInFlight"),
        ("delivery.maxInFlight", 1.5, "delivery.maxInFlight"),
        ("delivery.maxInFlight", 10**30, "delivery.maxInFlight"),
        ("delivery.rateLimit.requests", 0, "delivery.rateLimit.requests"),
        ("delivery.ordering", "fifo", "delivery.ordering"),
        ("delivery.circuitBreaker.open", "2h", "delivery.circuitBreaker.open"),
        ("delivery.maxBacklog.age", "0s", "delivery.maxBacklog.age"),
        ("suspend", "yes", "suspend"),
        ("suspend", 1, "suspend"),
    ],
)
def test_a_wrong_value_is_refused_with_its_path(path: str, value: Any, field: str) -> None:
    """One wrong value among good ones is refused, and the error says where it stands."""
    with pytest.raises(InvalidInput) as caught:
        parse_subscription(changed(path, value))

    assert caught.value.reason is Reason.INVALID_SUBSCRIPTION
    assert caught.value.field == field


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "host",
        "Connection",
        "Content-Type",
        "content-length",
        "Transfer-Encoding",
        "TE",
        "Trailer",
        "Upgrade",
        "Expect",
        "Proxy-Authorization",
        "Webhook-Id",
        "X-Hookcast-Event",
        "traceparent",
        "User-Agent",
        "X-Correlation-ID",
        "X-Hub-Signature-256",
    ],
)
def test_headers_that_hookcast_sets_are_refused(name: str) -> None:
    """No subscription can change how a request is framed, or pose as Hookcast."""
    with pytest.raises(InvalidInput, match="set by Hookcast"):
        parse_subscription(changed("endpoint.headers.0.name", name))


@pytest.mark.parametrize("value", [None, [], "text", 5])
def test_no_object_is_refused(value: object) -> None:
    """Whatever JSON holds instead of an object is refused, not a crash."""
    with pytest.raises(InvalidInput):
        parse_subscription(value, prefix="spec.")


def test_values_are_not_repeated_in_errors() -> None:
    """A secret that was put into the wrong field does not end up in a log."""
    with pytest.raises(InvalidInput) as caught:
        parse_subscription(changed("signing.keys.0.secretRef", "whsec_c2VjcmV0"), prefix="spec.")

    assert "c2VjcmV0" not in str(caught.value)
    assert caught.value.field == "spec.signing.keys[0].secretRef"


def test_further_errors_are_counted() -> None:
    """The first is described, and the user knows that it is not the only one."""
    with pytest.raises(InvalidInput, match="and 1 more"):
        parse_subscription({"endpoint": {"url": "https://a.example"}, "events": {}, "colour": "red"})


def test_github_takes_hmac_keys() -> None:
    """The scheme GitHub is fine without keys, and with HMAC ones."""
    spec = changed("signing", {"scheme": "GitHub", "keys": [{"secretRef": {"name": "a", "key": "b"}}]})

    assert parse_subscription(spec).signing.scheme == "GitHub"


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("2027-01-31T02:00:00.5+02:00", 1_801_353_600_500),
        ("9999-12-31T23:59:59-05:00", 253_402_318_799_000),
        ("0001-01-01T00:00:00+05:00", -62_135_614_800_000),
    ],
)
def test_times_are_epoch_milliseconds(text: str, milliseconds: int) -> None:
    """Whatever the zone that a time is written in, also where its year is none in UTC."""
    spec = parse_subscription(changed("signing.keys.1.expiresAt", text))

    expires = spec.signing.keys[1].expires_at

    assert expires is not None
    assert epoch_ms(expires) == milliseconds


def test_everything_is_bounded_and_described() -> None:
    """A CRD can be made from the model: the API server refuses schemas whose strings and lists have no limit."""
    assert unbounded(Subscription.model_json_schema()) == []


DOCUMENT: dict[str, Any] = {
    "apiVersion": "hookcast.dev/v1alpha1",
    "kind": "WebhookSubscription",
    "metadata": {"name": "orders", "managedFields": [], "labels": {"a": "b"}},
    "spec": MINIMAL,
    "status": {"conditions": []},
}


def test_an_object_as_the_cluster_stores_it_is_taken() -> None:
    """What kubectl and the API server add around the specification is no error."""
    document = parse_subscription_document(DOCUMENT)

    assert document.metadata.namespace == "default"
    assert document.spec == parse_subscription(MINIMAL)


def test_the_uid_is_stable_without_one() -> None:
    """Without metadata.uid it follows from namespace and name alone, for ever: deliveries are stored under it."""
    document = parse_subscription_document(DOCUMENT)
    other = parse_subscription_document(DOCUMENT | {"metadata": {"name": "orders", "namespace": "shop"}})
    given = parse_subscription_document(DOCUMENT | {"metadata": {"name": "orders", "uid": "u-1"}})

    assert document.metadata.stable_uid == "b80bc697-023e-566d-984c-80ee3ebd6f20"
    assert other.metadata.stable_uid != document.metadata.stable_uid
    assert given.metadata.stable_uid == "u-1"


@pytest.mark.parametrize(
    ("metadata", "field"),
    [
        ({"name": "Orders"}, "metadata.name"),
        ({"name": "a/../b"}, "metadata.name"),
        ({"name": "x" * 201}, "metadata.name"),
        ({"name": "a", "namespace": "a.b"}, "metadata.namespace"),
        ({"name": "a", "uid": "a b"}, "metadata.uid"),
        ({"name": "a", "generation": 0}, "metadata.generation"),
        ({}, "metadata.name"),
    ],
)
def test_names_are_those_of_kubernetes(metadata: dict[str, Any], field: str) -> None:
    """Names that could not exist in a cluster, or could leave a directory, are refused."""
    with pytest.raises(InvalidInput) as caught:
        parse_subscription_document(DOCUMENT | {"metadata": metadata})

    assert caught.value.field == field


SECRET: dict[str, Any] = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "type": "Opaque"}


def test_string_data_wins_over_data() -> None:
    """As in Kubernetes; and base64 may be folded over lines."""
    document = parse_secret_document(SECRET | {"data": {"a": "b2\nxk", "b": "eA=="}, "stringData": {"a": "new"}})

    assert document.values() == {"a": b"new", "b": b"x"}


def test_bad_base64_is_named_without_its_value() -> None:
    """The key is named, the value is not."""
    document = parse_secret_document(SECRET | {"data": {"token": "hunter2!"}})

    with pytest.raises(ValueError, match=r"data\.token") as caught:
        document.values()

    assert "hunter2" not in str(caught.value) + repr(document)


def test_a_secret_of_the_wrong_shape_is_refused_without_its_values() -> None:
    """Numbers in data are a common mistake; the error names the field alone."""
    with pytest.raises(InvalidInput) as caught:
        parse_secret_document(SECRET | {"stringData": {"pin": 12345678}})

    assert caught.value.field == "stringData.pin"
    assert "12345678" not in str(caught.value)
    assert "hidden" not in repr(SecretDocument.model_validate(SECRET | {"stringData": {"a": "hidden"}}))
