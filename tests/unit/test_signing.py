"""Signatures, checked against the stock verifier and against tampering."""

import hashlib
import hmac
from base64 import b64decode, b64encode
from datetime import UTC, datetime

import pytest
import standardwebhooks
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from hookcast_core.errors import InvalidInput, Reason
from hookcast_core.signing import (
    generate_private_key,
    generate_secret,
    github_signature,
    parse_secret,
    public_key,
    sign,
    verify,
)

BODY = '{"type":"order.created","data":{"name":"Zoë"}}'.encode()


def now() -> int:
    """Seconds, as the stock verifier's own clock has them."""
    return int(datetime.now(UTC).timestamp())


def headers(signature: str, *, at: int, message_id: str = "msg_1") -> dict[str, str]:
    """The three headers of a message."""
    return {"webhook-id": message_id, "webhook-timestamp": str(at), "webhook-signature": signature}


def secret(length: int) -> str:
    """An HMAC secret of so many bytes."""
    return "whsec_" + b64encode(bytes(range(length))).decode()


@pytest.mark.parametrize("length", [24, 32, 64])
def test_the_stock_verifier_accepts_v1(length: int) -> None:
    """The `standardwebhooks` package verifies what is signed with every allowed length of key."""
    text, at = secret(length), now()
    signature = sign(parse_secret(text), "msg_1", at, BODY)

    verified = standardwebhooks.Webhook(text).verify(BODY, headers(signature, at=at))

    assert verified["type"] == "order.created"


def test_we_accept_the_stock_signer() -> None:
    """What the `standardwebhooks` package signs, `verify` accepts."""
    text, at = generate_secret(), now()
    signature = standardwebhooks.Webhook(text).sign("msg_1", datetime.fromtimestamp(at, UTC), BODY.decode())

    verify([parse_secret(text)], headers(signature, at=at), BODY, at)


def test_v1a_is_ed25519_over_the_same_content() -> None:
    """An independent Ed25519 verifier accepts the signature over id.timestamp.body."""
    key = parse_secret(generate_private_key())
    version, signature = sign(key, "msg_1", 1_700_000_000, BODY).split(",")

    public = Ed25519PublicKey.from_public_bytes(b64decode(public_key(key).removeprefix("whpk_")))
    public.verify(b64decode(signature), b"msg_1.1700000000." + BODY)

    assert version == "v1a"


def test_the_public_key_verifies_and_cannot_sign() -> None:
    """`whpk_` is what a receiver is given."""
    private = parse_secret(generate_private_key())
    public = parse_secret(public_key(private))

    verify([public], headers(sign(private, "msg_1", 1_000, BODY), at=1_000), BODY, 1_000)

    assert public_key(public) == public.text
    assert private.can_sign
    assert not public.can_sign
    with pytest.raises(ValueError, match="cannot sign"):
        sign(public, "msg_1", 1_000, BODY)
    with pytest.raises(ValueError, match="no public part"):
        public_key(parse_secret(generate_secret()))


def test_a_private_key_may_carry_its_public_half() -> None:
    """64 bytes, seed and public key, as some generators write them; halves that do not match are refused."""
    text = generate_private_key()
    seed = b64decode(text.removeprefix("whsk_"))
    public = b64decode(public_key(parse_secret(text)).removeprefix("whpk_"))

    both = parse_secret("whsk_" + b64encode(seed + public).decode())

    assert sign(both, "m", 1, b"") == sign(parse_secret(text), "m", 1, b"")
    with pytest.raises(InvalidInput, match="belong together"):
        parse_secret("whsk_" + b64encode(seed + bytes(32)).decode())


def test_any_of_several_signatures_and_keys_will_do() -> None:
    """While keys rotate, a message signed with both is accepted by holders of either."""
    old, new, other = (parse_secret(generate_secret()) for _ in range(3))
    both = f"{sign(new, 'msg_1', 1_000, BODY)} v2,unknown v1,not-base64 {sign(old, 'msg_1', 1_000, BODY)}"

    verify([old], headers(both, at=1_000), BODY, 1_000)
    verify([other, new], {name.upper(): value for name, value in headers(both, at=1_000).items()}, BODY, 1_000)

    with pytest.raises(InvalidInput, match="no signature"):
        verify([other], headers(both, at=1_000), BODY, 1_000)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"webhook-id": "msg_2"}, "no signature"),
        ({"webhook-timestamp": "1001"}, "no signature"),
        ({"webhook-timestamp": "1000.0"}, "not a number"),
        ({"webhook-timestamp": "-1000"}, "not a number"),
        ({"webhook-timestamp": "٣"}, "not a number"),
        ({"webhook-timestamp": "9" * 5_000}, "not a number"),
        ({"webhook-timestamp": "699"}, "seconds off"),
        ({"webhook-timestamp": "1301"}, "seconds off"),
        ({"webhook-signature": ""}, "no signature"),
        ({"webhook-id": "\ud800"}, "no signature"),
    ],
)
def test_a_changed_header_is_refused(change: dict[str, str], message: str) -> None:
    """Id, time and signature are all covered; five minutes either way are tolerated and no more."""
    key = parse_secret(generate_secret())
    signed = headers(sign(key, "msg_1", 1_000, BODY), at=1_000)

    with pytest.raises(InvalidInput, match=message) as caught:
        verify([key], signed | change, BODY, 1_000)

    assert caught.value.reason is Reason.INVALID_SIGNATURE


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_missing_header_is_named(name: str) -> None:
    """Whoever integrates is told which header their proxy dropped."""
    signed = headers("v1,", at=1_000)
    del signed[name]

    with pytest.raises(InvalidInput, match=name):
        verify([], signed, BODY, 1_000)


@given(st.binary(max_size=200), st.binary(min_size=1, max_size=20))
def test_a_changed_body_is_refused(body: bytes, more: bytes) -> None:
    """No bytes added to a signed body go unnoticed, by either algorithm."""
    for key in (parse_secret(secret(24)), parse_secret("whsk_" + b64encode(bytes(32)).decode())):
        signed = headers(sign(key, "msg_1", 1_000, body), at=1_000)

        verify([key], signed, body, 1_000)

        with pytest.raises(InvalidInput):
            verify([key], signed, body + more, 1_000)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "secret",
        secret(23),
        secret(65),
        "whsec_not base64!",
        "whsec_" + "A" * 300,
        "whsk_AAAA",
        "whpk_AAAA",
        "WHSEC_" + secret(32)[6:],
        " " + secret(32),
        "whsec_é",
    ],
)
def test_a_bad_key_is_refused_without_being_shown(text: str) -> None:
    """The reason is InvalidSecret, and neither message nor repr holds the key."""
    with pytest.raises(InvalidInput) as caught:
        parse_secret(text, field="signing.keys[0].secretRef")

    assert caught.value.reason is Reason.INVALID_SECRET
    assert caught.value.field == "signing.keys[0].secretRef"
    assert len(text) < 8 or text[6:] not in str(caught.value)


def test_a_key_does_not_show_itself() -> None:
    """A key in a log line or a traceback is no leak."""
    text = generate_secret()

    assert text[6:] not in repr(parse_secret(text))


def test_generated_secrets_are_random_and_long_enough() -> None:
    """32 bytes from the source of randomness that is passed in."""
    assert generate_secret(lambda count: b"\x01" * count) == "whsec_" + b64encode(b"\x01" * 32).decode()
    assert generate_secret() != generate_secret()


def test_a_verifier_written_for_github_accepts() -> None:
    """X-Hub-Signature-256 is the HMAC of the body by the secret's text, as in any verifier written for GitHub."""
    text = generate_secret()

    expected = "sha256=" + hmac.new(text.encode(), BODY, hashlib.sha256).hexdigest()

    assert github_signature(parse_secret(text), BODY) == expected
