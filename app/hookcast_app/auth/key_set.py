"""JSON Web Key Sets (RFC 7517): which of their keys are of use here. Pure."""

from dataclasses import dataclass
from typing import Any

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm

from hookcast_app.auth.verification import ALGORITHMS, VerificationKey, judged


class _Jwk(msgspec.Struct, frozen=True):
    kty: str
    kid: str | None = None
    alg: str | None = None
    use: str | None = None
    key_ops: tuple[str, ...] | None = None


_KINDS = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}
"""The algorithm of each kind by which PyJWT reads a key of it; `oct`, a shared secret, has no place in public."""


@dataclass(frozen=True, slots=True)
class NamedKey:
    """A key of a set, and its `kid` if it has one."""

    kid: str | None
    key: VerificationKey


class JwkSet(msgspec.Struct, frozen=True):
    """The document; each key is looked at by itself, for a set may hold kinds that we do not know."""

    keys: tuple[msgspec.Raw, ...]


_sets = msgspec.json.Decoder(JwkSet)


def read_jwk_set(document: bytes, max_keys: int) -> tuple[list[NamedKey], int]:
    """The keys for signatures of a set (RFC 7517, 5), and how many of it are of no use here.

    Raises ValueError for what is no set, or has more than `max_keys` keys.
    """
    try:
        raw = _sets.decode(document).keys
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError("it is no JSON Web Key Set") from error
    if len(raw) > max_keys:
        raise ValueError(f"it has {len(raw)} keys; at most {max_keys} are read")
    keys = [key for each in raw if (key := _named_key(bytes(each))) is not None]
    return keys, len(raw) - len(keys)


def _named_key(text: bytes) -> NamedKey | None:
    """A key of a set, or None if it is of no use here: for encryption, symmetric, too weak, broken."""
    try:
        jwk = msgspec.json.decode(text, type=_Jwk)
        if jwk.kty not in _KINDS or jwk.use not in {None, "sig"} or "verify" not in (jwk.key_ops or ("verify",)):
            return None
        key = judged(_public_part(jwk.kty, text))
    except (msgspec.MsgspecError, jwt.InvalidKeyError, UnsupportedAlgorithm, ValueError, TypeError, RecursionError):
        return None
    narrowed = key.algorithms if jwk.alg is None else key.algorithms & {jwk.alg}
    return NamedKey(jwk.kid, VerificationKey(key.key, narrowed, key.is_slow)) if narrowed else None


_PUBLIC = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}


def _public_part(kty: str, text: bytes) -> object:
    """The public key, whatever else stands there: a set that shows its private keys is not read for them."""
    members = msgspec.json.decode(text, type=dict[str, Any])
    public = {"kty": kty, **{name: members[name] for name in _PUBLIC[kty] if name in members}}
    return ALGORITHMS[_KINDS[kty]].from_jwk(public)  # type: ignore[attr-defined, no-any-return, unused-ignore]
