"""Standard Webhooks signatures, made and verified: v1 (HMAC-SHA256) and v1a (Ed25519); and GitHub's.

Pure apart from `generate_secret`, which draws from the system's randomness unless it is given bytes. A `Key` is parsed
once; signing with it is one HMAC or one Ed25519 operation. No message here ever holds a secret.
"""

import hashlib
import hmac
import secrets
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from hookcast_core.errors import InvalidInput, Reason

HMAC_PREFIX = "whsec_"
PRIVATE_PREFIX = "whsk_"
PUBLIC_PREFIX = "whpk_"
MIN_HMAC, MAX_HMAC = 24, 64
TOLERANCE = 300
_ED25519 = 32
_ED25519_WITH_PUBLIC = 64
_MAX_SECRET = 256
_MAX_SIGNATURES = 20

Algorithm = Literal["HMAC", "Ed25519"]


@dataclass(frozen=True, slots=True)
class Key:
    """A parsed key. `text` is the secret as its user knows it; `public` verifies only (whpk_)."""

    algorithm: Algorithm
    version: str
    text: str = field(repr=False)
    signer: Callable[[bytes], bytes] | None = field(repr=False)
    verifier: Callable[[bytes, bytes], bool] = field(repr=False)

    @property
    def can_sign(self) -> bool:
        """False for a public key."""
        return self.signer is not None


def generate_secret(random: Callable[[int], bytes] = secrets.token_bytes) -> str:
    """A new HMAC secret of 32 random bytes, `whsec_…`."""
    return HMAC_PREFIX + b64encode(random(32)).decode()


def generate_private_key() -> str:
    """A new Ed25519 private key, `whsk_…`."""
    return PRIVATE_PREFIX + b64encode(Ed25519PrivateKey.generate().private_bytes_raw()).decode()


def parse_secret(text: str, *, field: str | None = None) -> Key:
    """The key that `whsec_…`, `whsk_…` or `whpk_…` stands for (Standard Webhooks, "Signature scheme").

    InvalidInput(InvalidSecret), never with the secret, for another prefix, bad base64 or a wrong length.
    """
    for prefix, build in _BUILDERS.items():
        if text.startswith(prefix):
            return build(text, _decode(text.removeprefix(prefix), field), field)
    raise _refused(field, f"a signing key begins with {HMAC_PREFIX} (HMAC) or {PRIVATE_PREFIX} (Ed25519)")


def public_key(key: Key) -> str:
    """The `whpk_…` that verifies what the Ed25519 `key` signs; ValueError for an HMAC key, which has none."""
    if key.algorithm == "HMAC":
        raise ValueError("an HMAC key has no public part")
    if key.text.startswith(PUBLIC_PREFIX):
        return key.text
    seed = b64decode(key.text.removeprefix(PRIVATE_PREFIX))[:_ED25519]
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key()
    return PUBLIC_PREFIX + b64encode(public.public_bytes_raw()).decode()


def sign(key: Key, message_id: str, timestamp_s: int, body: bytes) -> str:
    """One element of `webhook-signature`, `v1,…` or `v1a,…`, over `id.timestamp.body`. ValueError for a public key."""
    if key.signer is None:
        raise ValueError("a public key cannot sign")
    signature = key.signer(b"%b.%d.%b" % (message_id.encode(), timestamp_s, body))
    return f"{key.version},{b64encode(signature).decode()}"


def verify(
    keys: Iterable[Key], headers: Mapping[str, str], body: bytes, now_s: int, tolerance_s: int = TOLERANCE
) -> None:
    """Accept a message that one of `keys` signed within `tolerance_s` seconds of `now_s`, as Standard Webhooks says.

    Header names in any case. InvalidInput(InvalidSignature) otherwise, which says what was missing, never a signature.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    try:
        message_id, sent, signatures = (lower[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
    except KeyError as missing:
        raise _unverified(f"the header {missing.args[0]} is missing") from None
    if not (sent.isascii() and sent.isdigit()) or len(sent) > len(str(2**63)):
        raise _unverified("webhook-timestamp is not a number of seconds")
    if abs(now_s - int(sent)) > tolerance_s:
        raise _unverified(f"webhook-timestamp is more than {tolerance_s} seconds off")
    # An id that is no text was never signed: replacing what is wrong in it could make it another one.
    content = b"%b.%b.%b" % (message_id.encode(errors="surrogatepass"), sent.encode(), body)
    if not _any_valid(list(keys), signatures, content):
        raise _unverified("no signature in webhook-signature was made with an accepted key")


def github_signature(key: Key, body: bytes) -> str:
    """The value of `X-Hub-Signature-256`: HMAC-SHA256 of the body by the whole text of the secret, as GitHub does."""
    return "sha256=" + hmac.digest(key.text.encode(), body, "sha256").hex()


def _any_valid(keys: list[Key], signatures: str, content: bytes) -> bool:
    for element in signatures.split(" ")[:_MAX_SIGNATURES]:
        version, _, encoded = element.partition(",")
        try:
            signature = b64decode(encoded, validate=True)
        except (Base64Error, ValueError):
            continue
        if b64encode(signature).decode() != encoded:
            continue  # the last character has bits that stand for nothing: one signature, one spelling
        if any(key.version == version and key.verifier(signature, content) for key in keys):
            return True
    return False


def _hmac_key(text: str, raw: bytes, field: str | None) -> Key:
    if not MIN_HMAC <= len(raw) <= MAX_HMAC:
        raise _refused(field, f"an HMAC key has {MIN_HMAC} to {MAX_HMAC} bytes; this one has {len(raw)}")
    return Key(
        algorithm="HMAC",
        version="v1",
        text=text,
        signer=_hmac_signer(raw),
        verifier=lambda signature, content: hmac.compare_digest(hmac.digest(raw, content, "sha256"), signature),
    )


def _hmac_signer(raw: bytes) -> Callable[[bytes], bytes]:
    """HMAC-SHA256 (RFC 2104, section 4) that hashes the padded key once: half of hmac.digest's time for 500 bytes."""
    block = raw.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
    outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def signature(content: bytes) -> bytes:
        inside, outside = inner.copy(), outer.copy()
        inside.update(content)
        outside.update(inside.digest())
        return outside.digest()

    return signature


def _private_key(text: str, raw: bytes, field: str | None) -> Key:
    if len(raw) not in {_ED25519, _ED25519_WITH_PUBLIC}:
        raise _refused(field, f"an Ed25519 private key has {_ED25519} bytes; this one has {len(raw)}")
    private = Ed25519PrivateKey.from_private_bytes(raw[:_ED25519])
    if raw[_ED25519:] not in {b"", private.public_key().public_bytes_raw()}:
        raise _refused(field, "the private and the public half of the Ed25519 key do not belong together")
    return Key("Ed25519", "v1a", text, private.sign, _ed25519_verifier(private.public_key()))


def _public_key(text: str, raw: bytes, field: str | None) -> Key:
    if len(raw) != _ED25519:
        raise _refused(field, f"an Ed25519 public key has {_ED25519} bytes; this one has {len(raw)}")
    return Key("Ed25519", "v1a", text, None, _ed25519_verifier(Ed25519PublicKey.from_public_bytes(raw)))


def _ed25519_verifier(public: Ed25519PublicKey) -> Callable[[bytes, bytes], bool]:
    def verifier(signature: bytes, content: bytes) -> bool:
        try:
            public.verify(signature, content)
        except InvalidSignature:
            return False
        return True

    return verifier


_BUILDERS: Mapping[str, Callable[[str, bytes, str | None], Key]] = {
    HMAC_PREFIX: _hmac_key,
    PRIVATE_PREFIX: _private_key,
    PUBLIC_PREFIX: _public_key,
}


def _decode(encoded: str, field: str | None) -> bytes:
    if len(encoded) > _MAX_SECRET:
        raise _refused(field, "the signing key is too long")
    try:
        return b64decode(encoded, validate=True)
    except (Base64Error, ValueError):
        raise _refused(field, "what follows the signing key's prefix is not base64") from None


def _refused(field: str | None, detail: str) -> InvalidInput:
    return InvalidInput(Reason.INVALID_SECRET, field, detail)


def _unverified(detail: str) -> InvalidInput:
    return InvalidInput(Reason.INVALID_SIGNATURE, None, detail)
