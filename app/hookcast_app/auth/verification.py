"""Keys that verify tokens' signatures (RFC 7518): which are good enough, and for which algorithms. Pure.

A key is bound to algorithms of its own kind when it is made, so that no token can have a public key taken for a shared
secret. PyJWT's algorithms do the arithmetic.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import Algorithm

HMAC = frozenset({"HS256", "HS384", "HS512"})
_RSA = frozenset({"RS256", "RS384", "RS512"})
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
ASYMMETRIC = _RSA | frozenset(_CURVES.values()) | {"EdDSA"}
MIN_SECRET = 32
"""Bytes; RFC 7518, 3.2 asks for a key at least as long as the hash."""
MIN_MODULUS, MAX_MODULUS = 2_048, 8_192
"""Bits of an RSA key: what is smaller is broken one day (RFC 7518, 3.3), what is larger is only slow."""
MAX_EXPONENT = 2**32
"""Of an RSA key; 65,537 is usual, and a large one makes each check slow."""
SLOW_MODULUS = 4_096
"""Bits. Up to here a check takes less than 0.1 ms, at 8,192 bits 0.3 ms."""
_SLOW_CURVES = frozenset({"secp384r1", "secp521r1"})
"""A check takes 0.7 ms."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A key that is good for `algorithms` alone; if it `is_slow` a check is not for the event loop."""

    key: Any
    algorithms: frozenset[str]
    is_slow: bool = False

    def verifies(self, algorithm: str, signed: bytes, signature: bytes) -> bool:
        """Whether `signature` is that of `signed`; never so by an algorithm that this key is not for."""
        return algorithm in self.algorithms and ALGORITHMS[algorithm].verify(signed, self.key, signature)


ALGORITHMS: dict[str, Algorithm] = {name: jwt.get_algorithm_by_name(name) for name in sorted(HMAC | ASYMMETRIC)}


def shared_secret(secret: str) -> VerificationKey:
    """A key for HMAC. ValueError if it is too short."""
    value = secret.encode()
    if len(value) < MIN_SECRET:
        raise ValueError(f"has {len(value)} bytes; at least {MIN_SECRET} are needed")
    return VerificationKey(value, HMAC)


def public_key(pem: str) -> VerificationKey:
    """A public key in PEM. ValueError if it is none, or not good enough."""
    try:
        # Not left to PyJWT, which would take a private key too.
        key = load_pem_public_key(pem.encode())
    except (UnsupportedAlgorithm, ValueError, TypeError) as error:
        raise ValueError("is no PEM public key") from error
    return judged(key)


def judged(key: object) -> VerificationKey:
    """A public key with the algorithms that it is for. ValueError if it is not good enough, or for none."""
    match key:
        case rsa.RSAPublicKey():
            return _judged_rsa(key)
        case ec.EllipticCurvePublicKey() if key.curve.name in _CURVES:
            return VerificationKey(key, frozenset({_CURVES[key.curve.name]}), key.curve.name in _SLOW_CURVES)
        case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
            return VerificationKey(key, frozenset({"EdDSA"}))
        case _:
            raise ValueError("is of a kind that no accepted algorithm uses")


def _judged_rsa(key: rsa.RSAPublicKey) -> VerificationKey:
    if not MIN_MODULUS <= key.key_size <= MAX_MODULUS:
        raise ValueError(f"is an RSA key of {key.key_size} bits; {MIN_MODULUS} to {MAX_MODULUS} are accepted")
    if key.public_numbers().e > MAX_EXPONENT:
        raise ValueError("is an RSA key whose exponent is too large")
    return VerificationKey(key, _RSA, key.key_size > SLOW_MODULUS)


def usable(kind: Iterable[str], accepted: Iterable[str]) -> frozenset[str]:
    """The algorithms of one kind that the settings accept. ValueError, with what would do, if there is none."""
    found = frozenset(kind).intersection(accepted)
    if not found:
        raise ValueError(f"HOOKCAST_JWT_ALGORITHMS names none of its algorithms: {', '.join(sorted(kind))}")
    return found
