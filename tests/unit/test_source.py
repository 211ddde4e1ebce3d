"""The webhook source: what it takes, what it refuses and with which words, and its document."""

import copy
from typing import Any, get_args

import pytest

from hookcast_core.documents import parse_source_document, parse_subscription_document
from hookcast_core.errors import InvalidInput, Reason
from hookcast_core.source import EVENT_IDS, TIMED, Scheme, WebhookSource, parse_webhook_source
from hookcast_core.templates import Reference
from tests.support.schemas import unbounded

REF = {"name": "github", "key": "secret"}
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
FULL: dict[str, Any] = {
    "dispatcherRef": {"name": "hookcast"},
    "path": "github-a1B2",
    "verification": {
        "scheme": "HMAC",
        "secretRefs": [REF, {"name": "github", "key": "old"}],
        "header": "X-Signature",
        "algorithm": "SHA512",
        "encoding": "Base64",
        "prefix": "sha512=",
    },
    "event": {
        "type": "shop.{header:X-Topic}.{body:action}",
        "source": "/shops/1",
        "id": "body:data.id",
    },
    "channel": "shop:{body:shop.id}",
    "response": {"status": 200, "body": "thank you\n"},
}


def minimal(scheme: str = "GitHub", **verification: Any) -> dict[str, Any]:
    """The least that a source of this scheme needs."""
    needed: dict[str, Any] = {"scheme": scheme}
    if scheme != "None":
        needed["secretRefs"] = [{"name": "github"} if scheme == "Basic" else REF]
    if scheme == "HMAC":
        needed["header"] = "X-Signature"
    return {"verification": needed | verification, "event": {"type": "order.created"}}


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


def refusal(spec: Any) -> InvalidInput:
    """What is said of it."""
    with pytest.raises(InvalidInput) as caught:
        parse_webhook_source(spec)
    assert caught.value.reason is Reason.INVALID_SOURCE
    return caught.value


def test_everything_at_once_is_taken_and_written_back() -> None:
    """A specification with every field set survives a round trip through the model, names in camelCase."""
    spec = parse_webhook_source(FULL)

    again = spec.model_dump(mode="json", exclude_unset=True)

    assert again == FULL
    assert parse_webhook_source(again) == spec


@pytest.mark.parametrize("scheme", SCHEMES)
def test_each_scheme_needs_little(scheme: Scheme) -> None:
    """Scheme, a Secret and a type; the rest has the documented values."""
    spec = parse_webhook_source(minimal(scheme))

    assert spec.verification.tolerance_ms == 300_000
    assert (spec.verification.hmac_algorithm, spec.verification.hmac_encoding) == ("SHA256", "Hex")
    assert (spec.response.status, spec.response.body) == (202, None)
    assert spec.dispatcher_ref.name == "hookcast"
    assert (spec.event_id is None) == (scheme not in EVENT_IDS)


@pytest.mark.parametrize("scheme", sorted(TIMED))
def test_the_tolerance_is_for_signed_times(scheme: Scheme) -> None:
    """In the notation of every other duration."""
    assert parse_webhook_source(minimal(scheme, tolerance="90s")).verification.tolerance_ms == 90_000


def test_the_place_of_the_id_follows_the_scheme() -> None:
    """Or is what its user says."""
    assert parse_webhook_source(minimal("Stripe")).event_id == Reference("body", ("id",))
    assert parse_webhook_source(minimal()).event_id == Reference("header", ("x-github-delivery",))
    assert parse_webhook_source(FULL).event_id == Reference("body", ("data", "id"))


def test_the_verification_has_to_be_written_out() -> None:
    """Nobody takes requests from everyone by leaving something out."""
    assert refusal({"event": {"type": "a"}}).field == "verification"
    assert refusal(changed("verification.scheme", ...)).field == "verification.scheme"
    assert refusal(changed("verification.scheme", None)).field == "verification.scheme"


@pytest.mark.parametrize("scheme", [scheme for scheme in SCHEMES if scheme != "None"])
def test_only_none_goes_without_a_secret(scheme: Scheme) -> None:
    """Left out or empty."""
    assert "name the Secret" in refusal(minimal(scheme, secretRefs=[])).detail


def test_none_takes_no_secret() -> None:
    """Whoever names one means another scheme."""
    assert "None verifies nothing" in refusal(minimal("None", secretRefs=[REF])).detail


@pytest.mark.parametrize("scheme", [scheme for scheme in SCHEMES if scheme != "HMAC"])
@pytest.mark.parametrize("option", [{"header": "X-A"}, {"algorithm": "SHA256"}, {"encoding": "Hex"}, {"prefix": "a="}])
def test_options_of_hmac_are_for_hmac(scheme: Scheme, option: dict[str, str]) -> None:
    """To pass them over could be to verify otherwise than asked."""
    assert "are for the scheme HMAC" in refusal(minimal(scheme, **option)).detail


@pytest.mark.parametrize("scheme", [scheme for scheme in SCHEMES if scheme not in TIMED])
def test_other_schemes_have_no_tolerance(scheme: Scheme) -> None:
    """They sign no time."""
    assert "tolerance is for the schemes" in refusal(minimal(scheme, tolerance="5m")).detail


@pytest.mark.parametrize(
    ("verification", "words"),
    [
        (minimal("HMAC")["verification"] | {"header": None}, "header: name the header"),
        ({"scheme": "GitHub", "secretRefs": [REF, {"name": "github"}]}, "secretRefs[1].key: name the key"),
        ({"scheme": "Basic", "secretRefs": [REF]}, "secretRefs[0].key: Basic reads username and password"),
    ],
)
def test_what_does_not_fit_the_scheme_is_named(verification: dict[str, Any], words: str) -> None:
    """With what to write instead."""
    error = refusal({"verification": verification, "event": {"type": "a"}})

    assert error.field == "verification"
    assert words in error.detail


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("nonsense", 1, "nonsense"),
        ("verification.secret", "x", "verification.secret"),
        ("verification.scheme", "github", "verification.scheme"),
        ("verification.scheme", ["GitHub"], "verification.scheme"),
        ("verification.secretRefs", [REF] * 11, "verification.secretRefs"),
        ("verification.secretRefs", REF, "verification.secretRefs"),
        ("verification.secretRefs.0", "secret", "verification.secretRefs[0]"),
        ("verification.secretRefs.0.name", "../etc", "verification.secretRefs[0].name"),
        ("verification.secretRefs.1.key", "a/b", "verification.secretRefs[1].key"),
        ("verification.tolerance", "2h", "verification.tolerance"),
        ("verification.tolerance", "0s", "verification.tolerance"),
        ("verification.header", "X Signature", "verification.header"),
        ("verification.header", "X-Sïg", "verification.header"),
        ("verification.header", "x" * 129, "verification.header"),
        ("verification.algorithm", "MD5", "verification.algorithm"),
        ("verification.encoding", "hex", "verification.encoding"),
        ("verification.prefix", "", "verification.prefix"),
        ("verification.prefix", " v1=", "verification.prefix"),
        ("verification.prefix", "v1=\r\n", "verification.prefix"),
        ("verification.prefix", "v" * 65, "verification.prefix"),
        ("event", ..., "event"),
        ("event.type", ..., "event.type"),
        ("event.type", "", "event.type"),
        ("event.type", "a" * 129, "event.type"),
        ("event.type", "a" * 1_000_000, "event.type"),
        ("event.type", "order created", "event.type"),
        ("event.type", "order.\u202ecreated", "event.type"),
        ("event.type", "hookcast.{body:a}", "event.type"),
        ("event.type", "{header:Authorization}", "event.type"),
        ("event.type", {"template": "a"}, "event.type"),
        ("event.source", "a b", "event.source"),
        ("event.source", "/{body:a}", "event.source"),
        ("event.source", "/" * 257, "event.source"),
        ("event.id", "{body:id}", "event.id"),
        ("event.id", "data.id", "event.id"),
        ("event.id", "header:cookie", "event.id"),
        ("channel", "a/b", "channel"),
        ("channel", "a b", "channel"),
        ("channel", "{body:a", "channel"),
        ("channel", [], "channel"),
        ("path", "", "path"),
        ("path", "..", "path"),
        ("path", ".hidden", "path"),
        ("path", "a/b", "path"),
        ("path", "a%2fb", "path"),
        ("path", "a?b", "path"),
        ("path", "ä", "path"),
        ("path", "a\n", "path"),
        ("path", "a" * 201, "path"),
        ("response.status", 201, "response.status"),
        ("response.status", 500, "response.status"),
        ("response.status", "200", "response.status"),
        ("response.status", True, "response.status"),
        ("response.status", 204, "response"),
        ("response.body", "x" * 4097, "response.body"),
        ("response.body", "\u0000", "response.body"),
        ("response.body", {}, "response.body"),
        ("response.headers", [], "response.headers"),
    ],
)
def test_a_wrong_value_is_refused_with_its_path(path: str, value: Any, field: str) -> None:
    """One wrong value among good ones is refused, and the error says where it stands, in a few words."""
    error = refusal(changed(path, value))

    assert error.field == field
    assert len(str(error)) < 400


@pytest.mark.parametrize("value", [None, [], "text", 5, {"verification": {"verification": {}}}])
def test_no_source_is_refused(value: object) -> None:
    """Whatever JSON holds instead is refused, not a crash."""
    refusal(value)


def test_a_deeply_nested_value_is_refused() -> None:
    """Wherever it stands."""
    nested: Any = "x"
    for _ in range(10_000):
        nested = {"a": nested}

    assert refusal(nested).field is not None
    assert refusal(changed("event.type", nested)).field == "event.type"
    assert refusal(changed("verification.secretRefs.0.key", nested)).field == "verification.secretRefs[0].key"


def test_values_are_not_repeated_in_errors() -> None:
    """A secret that was put into the wrong field does not end up in a log."""
    for path in ("verification.secretRefs.0", "verification.scheme", "event.type", "event.id", "path", "channel"):
        assert "hunter2" not in str(refusal(changed(path, "hunter2 {")))


def test_everything_is_bounded_and_described() -> None:
    """A CRD can be made from the model: the API server refuses schemas whose strings and lists have no limit."""
    assert unbounded(WebhookSource.model_json_schema()) == []


DOCUMENT: dict[str, Any] = {
    "apiVersion": "hookcast.dev/v1alpha1",
    "kind": "WebhookSource",
    "metadata": {"name": "github", "managedFields": [], "labels": {"a": "b"}},
    "spec": minimal(),
    "status": {"conditions": [], "path": "/webhooks/github"},
}


def test_an_object_as_the_cluster_stores_it_is_taken() -> None:
    """What kubectl and the API server add around the specification is no error."""
    document = parse_source_document(DOCUMENT)

    assert document.metadata.namespace == "default"
    assert document.spec == parse_webhook_source(minimal())


def test_the_uid_is_stable_without_one_and_not_a_subscription_s() -> None:
    """Of one name there may be both kinds."""
    document = parse_source_document(DOCUMENT)
    subscription = parse_subscription_document(
        DOCUMENT
        | {
            "kind": "WebhookSubscription",
            "spec": {"endpoint": {"url": "https://shop.example"}, "events": {"types": ["*"]}},
        }
    )
    given = parse_source_document(DOCUMENT | {"metadata": {"name": "github", "uid": "u-1"}})

    assert document.metadata.stable_uid == parse_source_document(DOCUMENT).metadata.stable_uid
    assert document.metadata.stable_uid != subscription.metadata.stable_uid
    assert given.metadata.stable_uid == "u-1"


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ({"kind": "WebhookSubscription"}, "kind"),
        ({"apiVersion": "v1"}, "apiVersion"),
        ({"metadata": {"name": "x" * 201}}, "metadata.name"),
        ({"metadata": {"name": "GitHub"}}, "metadata.name"),
        ({"verification": {}}, "verification"),
        ({"spec": None}, "spec"),
        ({"spec": minimal() | {"event": {}}}, "spec.event.type"),
    ],
)
def test_a_document_that_is_none_is_refused(part: dict[str, Any], field: str) -> None:
    """With the path of what is wrong."""
    with pytest.raises(InvalidInput) as caught:
        parse_source_document(DOCUMENT | part)

    assert caught.value.field == field
    assert caught.value.reason is Reason.INVALID_SOURCE
