"""Connection tokens: JWTs (RFC 7519) that name a client's user.

Which keys and algorithms are accepted is decided by the settings, never by the token. Without a key every token is
refused. No error here repeats any part of a token.
"""

from dataclasses import dataclass
from typing import Any

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from pydantic import SecretStr

from hookcast_app.settings import Settings
from hookcast_core.errors import HookcastError

HMAC = frozenset({"HS256", "HS384", "HS512"})
ASYMMETRIC = frozenset({"RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA"})
MIN_SECRET = 32
"""Bytes; RFC 7518, 3.2 asks for a key at least as long as the hash."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a client is: `user` is empty for an anonymous one; `expires_at` is in epoch seconds, None is never.

    `info` is what the token says of the user for others to see: any JSON value.
    """

    user: str
    expires_at: float | None = None
    info: Any = None


ANONYMOUS = Identity(user="")


class TokenInvalid(HookcastError):  # noqa: N818  it is what happened to the token
    """A token that was not issued for this server, or is not yet valid."""


class TokenExpired(TokenInvalid):
    """A token that was good until its `exp`; its client should get another one."""


class TokenVerifier:
    """Checks signatures and claims against the settings; immutable.

    Raises ValueError, naming the setting, for settings under which no check could be trusted.
    """

    def __init__(self, settings: Settings) -> None:
        self._algorithms = _checked_algorithms(settings.jwt_algorithms)
        self._keys = _keys(settings)
        self._audience = settings.jwt_audience
        self._issuer = settings.jwt_issuer
        self._required = ["sub", *["aud"] * bool(self._audience), *["iss"] * bool(self._issuer)]

    def verify(self, token: str) -> Identity:
        """The identity that a token proves. Raises TokenExpired, else TokenInvalid.

        `sub` must be a text that is not empty. A token with an `aud` needs the setting: what was issued for another
        audience is not for us (RFC 7519, 4.1.3).
        """
        try:
            return _identity(self._claims(token))
        except jwt.ExpiredSignatureError as error:
            raise TokenExpired("the token has expired") from error
        except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise TokenInvalid("the token is not valid here") from error

    def _claims(self, token: str) -> dict[str, Any]:
        # The header is read only to pick among the keys; `algorithms` below is what decides.
        algorithm = jwt.get_unverified_header(token).get("alg")
        key = self._keys.get(algorithm) if isinstance(algorithm, str) else None
        if key is None:
            raise TokenInvalid("the token's algorithm is not accepted here")
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=self._algorithms,
            audience=self._audience,
            issuer=self._issuer,
            options={"require": self._required, "verify_iat": False},
        )
        return claims


def _identity(claims: dict[str, Any]) -> Identity:
    """What valid claims say. Raises TokenInvalid, and whatever is raised by values that cannot be sent to others."""
    user, info = claims["sub"], claims.get("info")
    if not isinstance(user, str) or not user:
        raise TokenInvalid("the token's sub is no text")
    msgspec.json.encode((user, info))  # half of a surrogate pair cannot be
    return Identity(user, float(claims["exp"]) if "exp" in claims else None, info)


def _checked_algorithms(names: tuple[str, ...]) -> list[str]:
    unknown = sorted(set(names) - HMAC - ASYMMETRIC)
    if unknown:
        allowed = ", ".join(sorted(HMAC | ASYMMETRIC))
        raise ValueError(f"HOOKCAST_JWT_ALGORITHMS: {', '.join(unknown)} is not among {allowed}")
    return list(names)


def _keys(settings: Settings) -> dict[str, Any]:
    """The key by algorithm. A public key is never one for HMAC: who knows it could sign with it."""
    keys: dict[str, Any] = {}
    if settings.jwt_secret is not None:
        secret = _checked_secret(settings.jwt_secret)
        keys |= dict.fromkeys(_usable("HOOKCAST_JWT_SECRET", HMAC, settings), secret)
    if settings.jwt_public_key is not None:
        pem = settings.jwt_public_key.get_secret_value()
        usable = _usable("HOOKCAST_JWT_PUBLIC_KEY", ASYMMETRIC, settings)
        keys |= {name: _checked_pem(name, pem) for name in sorted(usable)}
    return keys


def _usable(setting: str, kind: frozenset[str], settings: Settings) -> frozenset[str]:
    usable = kind.intersection(settings.jwt_algorithms)
    if not usable:
        raise ValueError(f"{setting}: HOOKCAST_JWT_ALGORITHMS names none of its algorithms: {', '.join(sorted(kind))}")
    return usable


def _checked_secret(secret: SecretStr) -> bytes:
    value = secret.get_secret_value().encode()
    if len(value) < MIN_SECRET:
        raise ValueError(f"HOOKCAST_JWT_SECRET: has {len(value)} bytes; at least {MIN_SECRET} are needed")
    return value


def _checked_pem(algorithm: str, pem: str) -> Any:
    try:
        # Not left to PyJWT, which would take a private key too.
        return jwt.get_algorithm_by_name(algorithm).prepare_key(load_pem_public_key(pem.encode()))
    except (jwt.InvalidKeyError, UnsupportedAlgorithm, ValueError, TypeError) as error:
        raise ValueError(f"HOOKCAST_JWT_PUBLIC_KEY: is no PEM public key for {algorithm}") from error
