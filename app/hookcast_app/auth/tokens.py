"""Connection and subscription tokens: JWTs (RFC 7519) that name a client's user, or allow it a channel.

Which keys and algorithms are accepted is decided by the settings, never by the token. Without a key every token is
refused. No error here repeats any part of a token.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hookcast_app.auth.claims import Expected, grant_of, identity_of
from hookcast_app.auth.errors import TokenInvalid
from hookcast_app.auth.identity import Grant, Identity
from hookcast_app.auth.jws import Header, take_apart
from hookcast_app.auth.remote_keys import Fetch, RemoteKeys
from hookcast_app.auth.verification import (
    ASYMMETRIC,
    HMAC,
    VerificationKey,
    public_key,
    shared_secret,
    usable,
)
from hookcast_app.settings import Settings
from hookcast_core.errors import Unavailable


class TokenVerifier:
    """Checks signatures and claims against the settings; one for all transports.

    `fetch` gets what `jwks_url` names; with it `run` has to run in a task. `clock` gives epoch seconds, as tokens count
    them. Raises ValueError, naming the setting, for settings under which no check could be trusted.
    """

    def __init__(
        self, settings: Settings, *, clock: Callable[[], float] = time.time, fetch: Fetch | None = None
    ) -> None:
        _check_algorithms(settings)
        self._keys = _keys(settings)
        self._remote_algorithms = _remote_algorithms(settings)
        self._remote = RemoteKeys(fetch) if fetch is not None else None
        self._expected = Expected(settings.jwt_audience, settings.jwt_issuer)
        self._clock = clock

    async def run(self) -> None:
        """Keeps the provider's keys fresh until cancelled."""
        if self._remote is not None:
            await self._remote.run()

    async def verify(self, token: str) -> Identity:
        """The identity that a connection token proves. Raises TokenExpired, TokenInvalid, Unavailable.

        Waits for nothing while the token's key is known and quick.
        """
        payload = await self._payload(token)
        return identity_of(payload, self._expected, self._clock())

    async def verify_subscription(self, token: str, channel: str, user: str) -> Grant:
        """What a subscription token grants `user` on `channel`. Raises as `verify` does."""
        payload = await self._payload(token)
        return grant_of(payload, channel, user, self._expected, self._clock())

    async def _payload(self, token: str) -> bytes:
        """What a token says, once its signature holds."""
        parts = take_apart(token)
        key = self._keys.get(parts.header.alg) or await self._remote_key(parts.header)
        check = parts.header.alg, parts.signed, parts.signature
        good = await asyncio.to_thread(key.verifies, *check) if key.is_slow else key.verifies(*check)
        if not good:
            raise TokenInvalid("the token's signature does not hold")
        return parts.payload

    async def _remote_key(self, header: Header) -> VerificationKey:
        if header.alg not in self._remote_algorithms:
            raise TokenInvalid("the token's algorithm is not accepted here")
        if self._remote is None:
            raise Unavailable("the keys of tokens cannot be fetched here")
        return await self._remote.key(header)


def _keys(settings: Settings) -> dict[str, VerificationKey]:
    """The configured key by algorithm. A public key is never one for HMAC: who knows it could sign with it."""
    keys: dict[str, VerificationKey] = {}
    if settings.jwt_secret is not None:
        with _naming("HOOKCAST_JWT_SECRET"):
            accepted = usable(HMAC, settings.jwt_algorithms)
            keys |= dict.fromkeys(accepted, shared_secret(settings.jwt_secret.get_secret_value()))
    if settings.jwt_public_key is not None:
        with _naming("HOOKCAST_JWT_PUBLIC_KEY"):
            accepted = usable(ASYMMETRIC, settings.jwt_algorithms)
            key = public_key(settings.jwt_public_key.get_secret_value())
            if not accepted <= key.algorithms:
                raise ValueError(f"is no key for {', '.join(sorted(accepted - key.algorithms))}")
            keys |= dict.fromkeys(accepted, key)
    return keys


def _remote_algorithms(settings: Settings) -> frozenset[str]:
    if settings.jwks_url is None:
        return frozenset()
    with _naming("HOOKCAST_JWKS_URL"):
        return usable(ASYMMETRIC, settings.jwt_algorithms)


def _check_algorithms(settings: Settings) -> None:
    unknown = sorted(set(settings.jwt_algorithms) - HMAC - ASYMMETRIC)
    if unknown:
        allowed = ", ".join(sorted(HMAC | ASYMMETRIC))
        raise ValueError(f"HOOKCAST_JWT_ALGORITHMS: {', '.join(unknown)} is not among {allowed}")


@contextmanager
def _naming(setting: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{setting}: {error}") from error
