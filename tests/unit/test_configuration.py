"""The configuration document, and how subscriptions are resolved into its entries."""

import random
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from hookcast_core.configuration import ClientCertificate, Configuration, Entry, SigningKey, SourceEntry
from hookcast_core.egress import EgressPolicy
from hookcast_core.errors import EgressDenied, InvalidInput, Reason
from hookcast_core.resolve import Identity, SecretNotAllowed, resolve, resolve_source
from hookcast_core.signing import generate_private_key, generate_secret, parse_secret, public_key
from hookcast_core.source import parse_webhook_source
from hookcast_core.subscription import parse_subscription
from tests.support.certificates import Authority, mersenne_key, private_pem

KEY = "whsec_" + b64encode(bytes(32)).decode()
ED25519 = generate_private_key()
AUTHORITY = Authority().pem
CLIENT = Authority().sign("client.example")
BROKEN = AUTHORITY.replace("MII", "MIJ", 1)
ENCRYPTED = private_pem(ec.generate_private_key(ec.SECP256R1()), password=b"t0ken")
MERSENNE = mersenne_key(9_689, 4_423)
IDENTITY = Identity("uid-1", 3, "shop", "orders", "files")
POLICY = EgressPolicy(["127.0.0.1:9000"])
SECRETS: Mapping[str, Mapping[str, bytes]] = {
    "all": {
        "hmac": KEY.encode() + b"\n",
        "ed25519": ED25519.encode(),
        "public": public_key(parse_secret(ED25519)).encode(),
        "url": b"https://secret.example/t0ken",
        "private-url": b"https://10.0.0.1/t0ken",
        "no-url": b"t0ken",
        "token": b"Bearer t0ken",
        "two-lines": b"t0ken\r\nX-Evil: 1",
        "binary": b"\xff\xfe",
        "ca.crt": f"# Főtanúsítvány\n{AUTHORITY}".encode(),
        "broken": BROKEN.encode(),
        "large": (AUTHORITY * 120).encode(),
    },
    "client": {"tls.crt": CLIENT.chain.encode(), "tls.key": CLIENT.key.encode()},
    "half": {"tls.crt": CLIENT.chain.encode()},
    "others-key": {
        "tls.crt": CLIENT.chain.encode(),
        "tls.key": private_pem(ec.generate_private_key(ec.SECP256R1())).encode(),
    },
    "encrypted": {"tls.crt": CLIENT.chain.encode(), "tls.key": ENCRYPTED.encode()},
    "broken-client": {"tls.crt": BROKEN.encode(), "tls.key": CLIENT.key.encode()},
    "huge-key": {"tls.crt": CLIENT.chain.encode(), "tls.key": MERSENNE.encode()},
    "long-key": {"tls.crt": CLIENT.chain.encode(), "tls.key": CLIENT.key.encode() + b"#" * 16_384},
    "no-key-at-all": {"tls.crt": CLIENT.chain.encode(), "tls.key": b"t0ken"},
    "odd": {"empty": b"\n", "long": b"x" * 4097, "line": b"to\x00ken", "wide": "t0ken\u20ac".encode()},
    "basic": {"username": b"shop", "password": b"p\xc3\xa4ss:w0rd\n"},
    "colon": {"username": b"sh:op", "password": b"p"},
    "no-username": {"username": b"", "password": b"p"},
    "no-password": {"username": b"shop", "password": b""},
    "no-key": {"username": b"shop"},
    "bell": {"username": b"shop", "password": b"t0ken\x07"},
}


def entry_of(
    endpoint: dict[str, Any] | None = None,
    signing: dict[str, Any] | None = None,
    filter: str | None = None,  # noqa: A002  the field's name
    policy: EgressPolicy = POLICY,
) -> Entry:
    """The entry of a subscription of these parts."""
    events: dict[str, Any] = {"types": ["order.*"]} | ({"filter": filter} if filter else {})
    spec = {"endpoint": endpoint or {"url": "https://shop.example/hooks"}, "events": events, "signing": signing or {}}
    return resolve(IDENTITY, parse_subscription(spec), SECRETS.get, policy, lambda _: KEY, prefix="spec.")


def ref(key: str, name: str = "all") -> dict[str, str]:
    """A reference to a value of a Secret."""
    return {"name": name, "key": key}


def test_every_reference_is_resolved() -> None:
    """URL, header, keys and certificates come out of their Secrets; line breaks at the end and comments are dropped."""
    entry = entry_of(
        {
            "urlSecretRef": ref("url"),
            "headers": [
                {"name": "X-Team", "value": "shop"},
                {"name": "Authorization", "valueFrom": {"secretKeyRef": ref("token")}},
            ],
            "tls": {"caSecretRef": ref("ca.crt"), "clientCertificateSecretRef": {"name": "client"}},
        },
        {
            "keys": [
                {"algorithm": "Ed25519", "secretRef": ref("ed25519")},
                {"secretRef": ref("hmac"), "expiresAt": "2001-01-01T00:00:00Z"},
            ]
        },
    )

    assert entry.url == "https://secret.example/t0ken"
    assert entry.headers == (("X-Team", "shop"), ("Authorization", "Bearer t0ken"))
    assert [(key.algorithm, key.secret.get_secret_value(), key.expires_at) for key in entry.signing_keys] == [
        ("Ed25519", ED25519, None),
        ("HMAC", KEY, 978_307_200_000),
    ]
    assert entry.ca_certificate == AUTHORITY
    assert entry.client_certificate == ClientCertificate(chain=CLIENT.chain, key=CLIENT.key)
    assert (entry.uid, entry.generation, entry.namespace, entry.name) == ("uid-1", 3, "shop", "orders")


def test_without_keys_one_is_generated() -> None:
    """The generator is asked for this subscription, and only then."""
    asked: list[Identity] = []

    def generate(identity: Identity) -> str:
        asked.append(identity)
        return KEY

    spec = parse_subscription({"endpoint": {"url": "https://shop.example"}, "events": {"types": ["*"]}})

    entry = resolve(IDENTITY, spec, SECRETS.get, POLICY, generate)

    assert asked == [IDENTITY]
    assert entry.signing_keys == (SigningKey.model_validate({"algorithm": "HMAC", "secret": KEY}),)


def test_allowed_private_addresses_may_be_reached_by_http() -> None:
    """HOOKCAST_EGRESS_ALLOW is asked for the scheme and literal addresses."""
    assert entry_of({"url": "http://127.0.0.1:9000/hooks"}).url == "http://127.0.0.1:9000/hooks"


HMAC_KEY = {"secretRef": ref("hmac")}


@pytest.mark.parametrize(
    ("endpoint", "signing", "reason", "field"),
    [
        ({"url": "ftp://shop.example"}, None, Reason.INVALID_URL, "endpoint.url"),
        ({"url": "https://user:pw@shop.example"}, None, Reason.INVALID_URL, "endpoint.url"),
        ({"url": "https://10.0.0.1/"}, None, Reason.EGRESS_DENIED, "endpoint.url"),
        ({"url": "https://[::ffff:10.0.0.1]/"}, None, Reason.EGRESS_DENIED, "endpoint.url"),
        ({"urlSecretRef": ref("private-url")}, None, Reason.EGRESS_DENIED, "endpoint.urlSecretRef"),
        ({"urlSecretRef": ref("no-url")}, None, Reason.INVALID_URL, "endpoint.urlSecretRef"),
        ({"urlSecretRef": ref("url", "none")}, None, Reason.SECRET_NOT_FOUND, "endpoint.urlSecretRef"),
        ({"urlSecretRef": ref("nope")}, None, Reason.SECRET_KEY_NOT_FOUND, "endpoint.urlSecretRef"),
        ({"urlSecretRef": ref("binary")}, None, Reason.INVALID_SECRET, "endpoint.urlSecretRef"),
        (
            {"url": "https://a.example", "headers": [{"name": "A", "valueFrom": {"secretKeyRef": ref("two-lines")}}]},
            None,
            Reason.INVALID_SECRET,
            "endpoint.headers[0].valueFrom",
        ),
        (
            {"url": "https://a.example", "headers": [{"name": "A", "valueFrom": {"secretKeyRef": ref("long", "odd")}}]},
            None,
            Reason.INVALID_SECRET,
            "endpoint.headers[0].valueFrom",
        ),
        *(
            (
                {"url": "https://a.example", "tls": {"caSecretRef": ref(key)}},
                None,
                Reason.INVALID_SECRET,
                "endpoint.tls.caSecretRef",
            )
            for key in ("token", "broken", "large")
        ),
        *(
            (
                {"url": "https://a.example", "tls": {"clientCertificateSecretRef": {"name": name}}},
                None,
                Reason.INVALID_SECRET,
                "endpoint.tls.clientCertificateSecretRef",
            )
            for name in ("others-key", "encrypted", "broken-client", "no-key-at-all", "huge-key", "long-key")
        ),
        (
            {"url": "https://a.example", "tls": {"clientCertificateSecretRef": {"name": "half"}}},
            None,
            Reason.SECRET_KEY_NOT_FOUND,
            "endpoint.tls.clientCertificateSecretRef",
        ),
        (None, {"keys": [{"secretRef": ref("token")}]}, Reason.INVALID_SECRET, "signing.keys[0].secretRef"),
        (
            None,
            {"keys": [HMAC_KEY, {"secretRef": ref("no")}]},
            Reason.SECRET_KEY_NOT_FOUND,
            "signing.keys[1].secretRef",
        ),
        (None, {"keys": [{"secretRef": ref("ed25519")}]}, Reason.INVALID_SECRET, "signing.keys[0].secretRef"),
        (
            None,
            {"keys": [{"algorithm": "Ed25519", "secretRef": ref("public")}]},
            Reason.INVALID_SECRET,
            "signing.keys[0].secretRef",
        ),
    ],
)
def test_what_cannot_be_resolved_has_its_reason_and_field(
    endpoint: dict[str, Any] | None, signing: dict[str, Any] | None, reason: Reason, field: str
) -> None:
    """Each condition of the custom resource has its own reason; no message shows what a Secret holds."""
    with pytest.raises(InvalidInput) as caught:
        entry_of(endpoint, signing)

    assert caught.value.reason is reason
    assert caught.value.field == f"spec.{field}"
    for value in ("t0ken", "10.0.0.1/", KEY, ED25519):
        assert value not in str(caught.value)


def test_an_invalid_filter_is_refused_with_its_place() -> None:
    """The filter is compiled when the subscription is resolved, not when an event comes."""
    with pytest.raises(InvalidInput) as caught:
        entry_of(filter="data.amount >")

    assert caught.value.reason is Reason.INVALID_FILTER
    assert caught.value.field == "spec.events.filter"


def test_a_denied_url_is_an_egress_error() -> None:
    """The type by which the API tells it apart survives."""
    with pytest.raises(EgressDenied):
        entry_of({"url": "http://shop.example"}, policy=EgressPolicy([]))


def some_entries(count: int) -> list[Entry]:
    """Entries that differ in their UIDs."""
    entry = entry_of(signing={"keys": [HMAC_KEY]})
    return [entry.model_copy(update={"uid": f"uid-{number}"}) for number in range(count)]


def test_entries_are_kept_in_the_order_of_their_uids() -> None:
    """However the same subscriptions come in, the configuration is the same."""
    entries = some_entries(20)
    first = Configuration(sequence=1, entries=tuple(entries))
    random.Random(1).shuffle(entries)  # noqa: S311  only the order

    assert Configuration(sequence=1, entries=tuple(entries)) == first


def test_a_uid_stands_only_once() -> None:
    """Two entries with one UID would share their deliveries."""
    entries = some_entries(1) * 2

    with pytest.raises(ValueError, match="each UID once"):
        Configuration(sequence=1, entries=tuple(entries))


def test_nothing_secret_shows() -> None:
    """Neither the repr of a configuration nor a plain dump of its keys holds a secret, a header or a URL."""
    secret = generate_secret()
    entry = entry_of(
        {
            "urlSecretRef": ref("url"),
            "headers": [{"name": "Authorization", "valueFrom": {"secretKeyRef": ref("token")}}],
            "tls": {"clientCertificateSecretRef": {"name": "client"}},
        },
    ).model_copy(update={"signing_keys": (SigningKey.model_validate({"algorithm": "HMAC", "secret": secret}),)})
    configuration = Configuration(sequence=1, entries=(entry,))

    shown = repr(configuration) + str(configuration) + repr(entry.model_dump()["signing_keys"])

    for value in ("t0ken", secret, "PRIVATE KEY"):
        assert value not in shown


def forbid(name: str) -> Mapping[str, bytes] | None:
    """A reader of Secrets that nobody labelled."""
    raise SecretNotAllowed(name)


def test_a_secret_that_is_not_allowed_is_named_with_its_label() -> None:
    """For a subscription and for a source; told apart from one that is not there."""
    endpoint = {"url": "https://a.example", "headers": [{"name": "A", "valueFrom": {"secretKeyRef": ref("token")}}]}
    subscription = parse_subscription({"endpoint": endpoint, "events": {"types": ["*"]}})
    source = parse_webhook_source(source_spec("GitHub", ref("token")))

    with pytest.raises(InvalidInput) as of_subscription:
        resolve(IDENTITY, subscription, forbid, POLICY, lambda _: KEY, prefix="spec.")
    with pytest.raises(InvalidInput) as of_source:
        resolve_source(IDENTITY, source, forbid, prefix="spec.")

    assert of_subscription.value.field == "spec.endpoint.headers[0].valueFrom"
    assert of_source.value.field == "spec.verification.secretRefs[0]"
    for caught in (of_subscription, of_source):
        assert caught.value.reason is Reason.SECRET_NOT_ALLOWED
        assert caught.value.detail == 'the Secret all may not be used: label it hookcast.dev/allow="true"'


def source_spec(scheme: str, *references: dict[str, str], **more: Any) -> dict[str, Any]:
    """A source of that scheme."""
    verification: dict[str, Any] = {"scheme": scheme, "secretRefs": list(references)}
    if scheme == "HMAC":
        verification["header"] = "X-Signature"
    return {"verification": verification, "event": {"type": "order.created"}} | more


def source_of(scheme: str, *references: dict[str, str], uid: str = "uid-1", **more: Any) -> SourceEntry:
    """The entry of a source of that scheme."""
    identity = Identity(uid, 3, "shop", "orders", "files")
    spec = parse_webhook_source(source_spec(scheme, *references, **more))
    return resolve_source(identity, spec, SECRETS.get, prefix="spec.")


def test_the_secrets_of_a_source_are_resolved() -> None:
    """In their order, without a line break at the end; for Basic as a request sends them."""
    several = source_of("GitHub", ref("token"), ref("hmac"))
    basic = source_of("Basic", {"name": "basic"})

    assert [secret.get_secret_value() for secret in several.secrets] == ["Bearer t0ken", KEY]
    assert [secret.get_secret_value() for secret in basic.secrets] == ["shop:p\u00e4ss:w0rd"]
    assert source_of("None").secrets == ()
    assert (several.uid, several.generation, several.namespace, several.name) == ("uid-1", 3, "shop", "orders")


def test_path_and_source_follow_the_name() -> None:
    """Unless they are given."""
    named = source_of("None")
    given = source_of("None", path="p", event={"type": "a", "source": "/shop"})

    assert (named.path, named.event_source) == ("orders", "/webhooks/orders")
    assert (given.path, given.event_source) == ("p", "/shop")


@pytest.mark.parametrize(
    "scheme", ["GitHub", "GitLab", "Stripe", "Slack", "Shopify", "StandardWebhooks", "HMAC", "Bearer"]
)
@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("nope", Reason.SECRET_KEY_NOT_FOUND),
        ("empty", Reason.INVALID_SECRET),
        ("long", Reason.INVALID_SECRET),
    ],
)
def test_a_source_s_secret_has_to_be_one(scheme: str, key: str, reason: Reason) -> None:
    """Under an empty key anyone could sign."""
    with pytest.raises(InvalidInput) as caught:
        source_of(scheme, ref(key, "odd"))

    assert caught.value.reason is reason
    assert caught.value.field == "spec.verification.secretRefs[0]"


@pytest.mark.parametrize(
    ("scheme", "references", "reason", "index"),
    [
        ("GitHub", [ref("token"), ref("token", "none")], Reason.SECRET_NOT_FOUND, 1),
        ("GitHub", [ref("binary")], Reason.INVALID_SECRET, 0),
        ("StandardWebhooks", [ref("hmac"), ref("token")], Reason.INVALID_SECRET, 1),
        ("Bearer", [ref("two-lines")], Reason.INVALID_SECRET, 0),
        ("GitLab", [ref("line", "odd")], Reason.INVALID_SECRET, 0),
        ("Bearer", [ref("wide", "odd")], Reason.INVALID_SECRET, 0),
        ("Basic", [{"name": "none"}], Reason.SECRET_NOT_FOUND, 0),
        ("Basic", [{"name": "basic"}, {"name": "no-key"}], Reason.SECRET_KEY_NOT_FOUND, 1),
        ("Basic", [{"name": "colon"}], Reason.INVALID_SECRET, 0),
        ("Basic", [{"name": "no-username"}], Reason.INVALID_SECRET, 0),
        ("Basic", [{"name": "no-password"}], Reason.INVALID_SECRET, 0),
        ("Basic", [{"name": "bell"}], Reason.INVALID_SECRET, 0),
    ],
)
def test_what_a_source_cannot_verify_with_has_its_reason(
    scheme: str, references: list[dict[str, str]], reason: Reason, index: int
) -> None:
    """Each with its field; no message shows what a Secret holds."""
    with pytest.raises(InvalidInput) as caught:
        source_of(scheme, *references)

    assert caught.value.reason is reason
    assert caught.value.field == f"spec.verification.secretRefs[{index}]"
    assert "t0ken" not in str(caught.value)


@pytest.mark.parametrize("key", ["hmac", "public", "ed25519"])
def test_standard_webhooks_verifies_with_any_of_its_keys(key: str) -> None:
    """A shared one, or the sender's public one."""
    assert source_of("StandardWebhooks", ref(key)).secrets


def test_nothing_secret_of_a_source_shows() -> None:
    """Neither in its repr nor in a plain dump."""
    source = source_of("GitHub", ref("token"))

    assert "t0ken" not in repr(Configuration(sequence=1, sources=(source,))) + repr(source.model_dump())


def test_a_source_without_its_secrets_is_none() -> None:
    """However it was made: what verifies nothing by mistake must not be in force."""
    source = source_of("GitHub", ref("token"))

    for secrets in ([], [""], ["a", "b"]):
        with pytest.raises(ValueError, match="one text for each"):
            SourceEntry.model_validate(source.model_dump() | {"secrets": secrets})


def test_sources_are_kept_in_order_and_once() -> None:
    """By UID, as the subscriptions are; and one path is one source's."""
    first, second = (source_of("None", uid=uid, path=uid) for uid in ("a", "b"))

    assert Configuration(sequence=1, sources=(second, first)).sources == (first, second)
    with pytest.raises(ValueError, match="each UID once"):
        Configuration(sequence=1, sources=(first, first))
    with pytest.raises(ValueError, match="each path once"):
        Configuration(sequence=1, sources=(source_of("None", uid="a"), source_of("None", uid="b")))
