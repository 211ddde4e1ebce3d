"""Signatures of any message by any key: the stock package agrees, and nothing changed or made up is accepted."""

from base64 import b64decode, b64encode
from datetime import UTC, datetime

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from hookcast_core.errors import InvalidInput, Reason
from hookcast_core.signing import Key, parse_secret, public_key, sign, verify

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
NAMES = ("webhook-id", "webhook-timestamp", "webhook-signature")


def written(prefix: str, raw: bytes) -> str:
    return prefix + b64encode(raw).decode()


HMAC_SECRETS = st.binary(min_size=24, max_size=64).map(lambda raw: written("whsec_", raw))
SECRETS = st.one_of(HMAC_SECRETS, st.binary(min_size=32, max_size=32).map(lambda raw: written("whsk_", raw)))
BODIES = st.binary(max_size=300)
IDS = st.text(max_size=40)
TIMES = st.integers(0, 2**40)
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=60)  # with halves of surrogate pairs


def headers(message_id: str, at: int, signatures: str) -> dict[str, str]:
    return dict(zip(NAMES, (message_id, str(at), signatures), strict=True))


def is_accepted(key: Key, found: dict[str, str], body: bytes, at: int) -> bool:
    """Whether the message is accepted; if not, the refusal is the documented one and repeats no signature."""
    try:
        verify([key], found, body, at)
    except InvalidInput as error:
        refusal = error
    else:
        return True
    assert refusal.reason is Reason.INVALID_SIGNATURE
    assert len(found.get(NAMES[2], "")) < 40 or found[NAMES[2]] not in str(refusal)
    return False


@given(SECRETS, IDS, TIMES, BODIES)
def test_what_is_signed_is_accepted(secret: str, message_id: str, at: int, body: bytes) -> None:
    """Any message by any key, also by those who have the public half alone."""
    key = parse_secret(secret)
    found = headers(message_id, at, sign(key, message_id, at, body))

    assert is_accepted(key, found, body, at)
    if key.algorithm == "Ed25519":
        assert is_accepted(parse_secret(public_key(key)), found, body, at)


# Interoperability


def now() -> int:
    """Seconds, as the stock verifier's own clock has them."""
    return int(datetime.now(UTC).timestamp())


@given(HMAC_SECRETS, IDS.filter(bool), st.text(max_size=300))
def test_the_stock_verifier_accepts_any_text(secret: str, message_id: str, body: str) -> None:
    """It takes what is UTF-8."""
    at = now()
    found = headers(message_id, at, sign(parse_secret(secret), message_id, at, body.encode()))

    standardwebhooks.Webhook(secret).verify(body.encode(), found, json_parse=False)


@given(HMAC_SECRETS, IDS.filter(bool), st.text(max_size=300))
def test_what_the_stock_package_signs_is_accepted(secret: str, message_id: str, body: str) -> None:
    """And its signature is ours."""
    at, key = now(), parse_secret(secret)
    theirs = standardwebhooks.Webhook(secret).sign(message_id, datetime.fromtimestamp(at, UTC), body)

    assert theirs == sign(key, message_id, at, body.encode())
    assert is_accepted(key, headers(message_id, at, theirs), body.encode(), at)


# What was changed


def flipped(raw: bytes, place: int, bit: int) -> bytes:
    """One bit changed, somewhere."""
    place %= len(raw)
    return raw[:place] + bytes([raw[place] ^ 1 << bit]) + raw[place + 1 :]


PLACES = st.integers(0, 10_000)
BITS = st.integers(0, 7)


@given(SECRETS, BODIES.filter(bool), PLACES, BITS)
def test_a_changed_byte_of_the_body_is_refused(secret: str, body: bytes, place: int, bit: int) -> None:
    """Wherever it is, whichever bit."""
    key = parse_secret(secret)
    found = headers("msg_1", 1_000, sign(key, "msg_1", 1_000, body))

    assert not is_accepted(key, found, flipped(body, place, bit), 1_000)


@given(SECRETS, IDS, ANY_TEXT, BODIES)
def test_another_id_is_refused(secret: str, message_id: str, other: str, body: bytes) -> None:
    """Also one that is no text that could be encoded."""
    key = parse_secret(secret)
    signature = sign(key, message_id, 1_000, body)

    assert is_accepted(key, headers(other, 1_000, signature), body, 1_000) == (other == message_id)


@given(SECRETS, st.sampled_from(["\ud800", "\udcff", "a\ud83d"]), BODIES)
def test_an_id_that_is_no_text_is_not_taken_for_one_that_is(secret: str, broken: str, body: bytes) -> None:
    """A replaced character would make it one."""
    key = parse_secret(secret)
    replaced = broken.encode(errors="replace").decode()

    assert not is_accepted(key, headers(broken, 1_000, sign(key, replaced, 1_000, body)), body, 1_000)


@given(SECRETS, TIMES, st.integers(-600, 600), BODIES)
def test_another_time_is_refused(secret: str, at: int, off: int, body: bytes) -> None:
    """Within the tolerance by its signature, beyond it by itself; the same time off by the tolerance is accepted."""
    key = parse_secret(secret)
    signature = sign(key, "msg_1", at, body)

    assert is_accepted(key, headers("msg_1", at + off, signature), body, at + off) == (off == 0)
    assert is_accepted(key, headers("msg_1", at, signature), body, at + off) == (abs(off) <= 300)
    for spelling in (f"0{at}", f" {at}", f"{at} ", f"+{at}", f"{at}.0", f"{at}\n"):
        assert not is_accepted(key, headers("msg_1", at, signature) | {"webhook-timestamp": spelling}, body, at)


@given(SECRETS, BODIES, PLACES, BITS)
def test_a_changed_byte_of_the_signature_is_refused(secret: str, body: bytes, place: int, bit: int) -> None:
    """Of what its base64 stands for."""
    key = parse_secret(secret)
    version, _, encoded = sign(key, "msg_1", 1_000, body).partition(",")
    changed = b64encode(flipped(b64decode(encoded), place, bit)).decode()

    assert not is_accepted(key, headers("msg_1", 1_000, f"{version},{changed}"), body, 1_000)


@given(SECRETS, BODIES, PLACES, st.sampled_from(f"{ALPHABET}-_=,. \n\x00é"))
def test_a_changed_character_of_the_signature_is_refused(secret: str, body: bytes, place: int, other: str) -> None:
    """Also of the last one, some of whose bits stand for nothing, and of the version."""
    key = parse_secret(secret)
    signature = sign(key, "msg_1", 1_000, body)
    place %= len(signature)
    changed = signature[:place] + other + signature[place + 1 :]

    assert is_accepted(key, headers("msg_1", 1_000, changed), body, 1_000) == (changed == signature)


@given(SECRETS, BODIES)
def test_every_last_character_but_the_right_one_is_refused(secret: str, body: bytes) -> None:
    """A signature has one spelling: whoever remembers those that they have seen can rely on it."""
    key = parse_secret(secret)
    text, padding = sign(key, "msg_1", 1_000, body).rstrip("="), "="
    padding *= len(sign(key, "msg_1", 1_000, body)) - len(text)

    accepted = [
        character
        for character in ALPHABET
        if is_accepted(key, headers("msg_1", 1_000, text[:-1] + character + padding), body, 1_000)
    ]

    assert accepted == [text[-1]]


@given(SECRETS, BODIES, PLACES, BITS)
def test_another_key_is_refused(secret: str, body: bytes, place: int, bit: int) -> None:
    """Even one that differs by one bit."""
    prefix, _, encoded = secret.partition("_")
    other = parse_secret(written(f"{prefix}_", flipped(b64decode(encoded), place, bit)))
    found = headers("msg_1", 1_000, sign(parse_secret(secret), "msg_1", 1_000, body))

    assert not is_accepted(other, found, body, 1_000)


@given(st.binary(min_size=32, max_size=32), BODIES)
def test_one_algorithm_s_signature_is_not_taken_for_the_other_s(raw: bytes, body: bytes) -> None:
    """Though both keys are made of the same bytes."""
    hmac_key, ed25519_key = parse_secret(written("whsec_", raw)), parse_secret(written("whsk_", raw))

    for signer, verifier in ((hmac_key, ed25519_key), (ed25519_key, hmac_key)):
        _, _, encoded = sign(signer, "msg_1", 1_000, body).partition(",")
        for version in ("v1", "v1a", ""):
            assert not is_accepted(verifier, headers("msg_1", 1_000, f"{version},{encoded}"), body, 1_000)


# Several


WRONG = st.one_of(ANY_TEXT.map(lambda text: text.replace(" ", "")), st.just("v1,"), st.just("v1a,AAAA"), st.just(","))


@given(SECRETS, BODIES, st.lists(WRONG, max_size=30), PLACES)
def test_the_right_one_of_several_signatures_is_found(secret: str, body: bytes, others: list[str], place: int) -> None:
    """Whatever stands beside it, between single spaces, as long as it is among the first twenty."""
    key = parse_secret(secret)
    place %= len(others) + 1
    several = [*others[:place], sign(key, "msg_1", 1_000, body), *others[place:]]

    assert is_accepted(key, headers("msg_1", 1_000, " ".join(several)), body, 1_000) == (place < 20)
    assert not is_accepted(key, headers("msg_1", 1_000, " ".join(others)), body, 1_000)
    assert not is_accepted(key, headers("msg_1", 1_000, "\t".join(["x", several[place]])), body, 1_000)


# Anything at all

SENT = st.one_of(ANY_TEXT, TIMES.map(str), st.text("019²٣௧", min_size=1, max_size=6), st.text("01._-+e", max_size=6))
"""Times, and what some take for a number."""


@given(SECRETS, st.dictionaries(st.one_of(st.sampled_from(NAMES), ANY_TEXT), ANY_TEXT, max_size=6), BODIES, TIMES)
def test_arbitrary_headers_are_refused_and_raise_nothing_else(
    secret: str, found: dict[str, str], body: bytes, at: int
) -> None:
    """Whatever a request says, with or without the names that are looked for."""
    assert not is_accepted(parse_secret(secret), found, body, at)


@given(SECRETS, ANY_TEXT, SENT, st.one_of(ANY_TEXT, WRONG), BODIES)
def test_arbitrary_values_of_the_three_headers_are_refused(
    secret: str, message_id: str, at: str, signatures: str, body: bytes
) -> None:
    """Also at the very time that they name."""
    found = dict(zip(NAMES, (message_id, at, signatures), strict=True))

    assert not is_accepted(parse_secret(secret), found, body, int(at) if at.isdecimal() else 0)


@given(st.one_of(ANY_TEXT, st.builds("{}{}".format, st.sampled_from(["whsec_", "whsk_", "whpk_"]), ANY_TEXT)))
def test_any_text_is_a_key_or_refused_as_one(text: str) -> None:
    """By the reason, and without the text."""
    try:
        assert parse_secret(text).text == text
    except InvalidInput as error:
        refusal = error
    else:
        return
    assert refusal.reason is Reason.INVALID_SECRET
    assert len(text) < 16 or text[6:] not in str(refusal)


def test_what_only_verifies_does_not_sign() -> None:
    """A public key's holder cannot make messages."""
    public = parse_secret(public_key(parse_secret(written("whsk_", bytes(32)))))

    with pytest.raises(ValueError, match="cannot sign"):
        sign(public, "msg_1", 1_000, b"")
