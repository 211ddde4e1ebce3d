"""What tokens claim (RFC 7519, 4.1), with the claims of Centrifugo's connection and subscription tokens. Pure.

To be read only once a token's signature holds. A claim that is not known is ignored.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from hookcast_app.auth.errors import TokenExpired, TokenInvalid
from hookcast_app.auth.identity import Capability, Grant, Identity, Match, Permission, SubscribeOptions
from hookcast_core.channels import check_channel_regex, is_channel_name

MAX_SUBS = 128
"""Channels that a token subscribes to: as many as a client may."""
MAX_PATTERNS = 256
"""Names and patterns in a token's capabilities, all together."""
MAX_REGEXES = 8
_PLACE = re.compile(r" - at `\$\.?(\w+)")


class _Claims(msgspec.Struct, frozen=True):
    exp: float | UnsetType = UNSET
    nbf: float | UnsetType = UNSET
    aud: str | tuple[str, ...] | UnsetType = UNSET
    iss: Any = UNSET
    info: Any = None
    expire_at: float | UnsetType = UNSET

    @property
    def expires_at(self) -> float | None:
        """When what the token begins ends, in epoch seconds: by `expire_at`, of which 0 is never, else by `exp`."""
        if self.expire_at is not UNSET:
            return self.expire_at or None
        return None if self.exp is UNSET else self.exp


class _ConnectionClaims(_Claims, frozen=True, kw_only=True):
    sub: str
    channel: Any = UNSET
    channels: tuple[str, ...] | None = None
    subs: dict[str, SubscribeOptions] | None = None
    caps: tuple[Capability, ...] | None = None


class _SubscriptionClaims(_Claims, frozen=True, kw_only=True):
    channel: str
    sub: str = ""
    allow: frozenset[Permission] | None = None


_C = TypeVar("_C")
_connection = msgspec.json.Decoder(_ConnectionClaims)
_subscription = msgspec.json.Decoder(_SubscriptionClaims)


@dataclass(frozen=True, slots=True)
class Expected:
    """What this server's settings ask of every token; None asks nothing."""

    audience: str | None
    issuer: str | None


def identity_of(payload: bytes, expected: Expected, now: float) -> Identity:
    """The identity that a connection token's claims give at `now`, in epoch seconds.

    `sub` must be there; an empty one is an anonymous user, for whom somebody has signed. Raises TokenExpired, else
    TokenInvalid: also for a subscription token, which has a `channel`.
    """
    claims = _read(_connection, payload)
    if claims.channel is not UNSET:
        raise TokenInvalid("the token is one for a subscription")
    _check(claims, expected, now)
    return Identity(claims.sub, claims.expires_at, claims.info, _subs(claims), _checked_caps(claims.caps or ()))


def grant_of(payload: bytes, channel: str, user: str, expected: Expected, now: float) -> Grant:
    """What a subscription token for `channel` and `user` grants at `now`; without a `sub` it is for anonymous ones.

    Raises TokenExpired, else TokenInvalid: also for a connection token, another channel or another user.
    """
    claims = _read(_subscription, payload)
    _check(claims, expected, now)
    if claims.channel != channel:
        raise TokenInvalid("the token is for another channel")
    if claims.sub != user:
        raise TokenInvalid("the token is for another user")
    return Grant(channel, user, claims.expires_at, claims.info, claims.allow or frozenset())


def _read(decoder: msgspec.json.Decoder[_C], payload: bytes) -> _C:
    try:
        return decoder.decode(payload)
    except msgspec.ValidationError as error:
        # The message may repeat a value; the place in it is one of our names.
        place = _PLACE.search(str(error))
        raise TokenInvalid(f"the token's {place[1] if place else 'claims'} does not hold") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise TokenInvalid("the token's claims are no JSON object") from None


def _check(claims: _Claims, expected: Expected, now: float) -> None:
    """Time and place (RFC 7519, 4.1.1 and 4.1.3 to 4.1.5). What was issued for another audience is not for us."""
    if claims.exp is not UNSET and claims.exp <= now:
        raise TokenExpired("the token has expired")
    if claims.nbf is not UNSET and claims.nbf > now:
        raise TokenInvalid("the token is not valid yet")
    if expected.issuer is not None and claims.iss != expected.issuer:
        raise TokenInvalid("the token is from another issuer")
    named = (claims.aud,) if isinstance(claims.aud, str) else claims.aud or ()
    if expected.audience not in named if expected.audience is not None else named:
        raise TokenInvalid("the token is for another audience")
    if claims.expires_at is not None and claims.expires_at <= now:
        raise TokenExpired("the token's expire_at has passed")


def _subs(claims: _ConnectionClaims) -> Mapping[str, SubscribeOptions]:
    found = {**dict.fromkeys(claims.channels or (), SubscribeOptions()), **(claims.subs or {})}
    if len(found) > MAX_SUBS:
        raise TokenInvalid(f"the token's channels and subs are more than {MAX_SUBS}")
    if not all(map(is_channel_name, found)):
        raise TokenInvalid("the token's channels or subs name what can be no channel")
    return found


def _checked_caps(caps: tuple[Capability, ...]) -> tuple[Capability, ...]:
    if not caps:
        return caps
    if sum(len(capability.channels) for capability in caps) > MAX_PATTERNS:
        raise TokenInvalid(f"the token's caps have more than {MAX_PATTERNS} channels")
    regexes = [pattern for each in caps if each.match is Match.REGEX for pattern in each.channels]
    if len(regexes) > MAX_REGEXES:
        raise TokenInvalid(f"the token's caps have more than {MAX_REGEXES} regular expressions")
    for pattern in regexes:
        try:
            check_channel_regex(pattern)
        except ValueError as error:
            raise TokenInvalid(f"the token's caps: {error}") from error
    return caps
