"""Signed tokens in their compact form (RFC 7515, 7.1): taken apart, not yet believed. Pure."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass

import msgspec

from hookcast_app.auth.errors import TokenInvalid

MAX_TOKEN = 16_384
"""Characters; what is longer is refused before anything of it is decoded. Headers of requests have 64 KiB in all."""
MAX_KID = 256
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)


class Header(msgspec.Struct, frozen=True):
    """What is used of a token's header. `crit` lists extensions without which it must not be understood."""

    alg: str
    kid: str | None = None
    crit: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


@dataclass(frozen=True, slots=True)
class SignedToken:
    """A token's parts; `signed` is what `signature` is of."""

    header: Header
    payload: bytes
    signed: bytes
    signature: bytes


_headers = msgspec.json.Decoder(Header)


def take_apart(token: str) -> SignedToken:
    """The parts of a token. Raises TokenInvalid for what is no such token, has extensions, or is too large."""
    if len(token) > MAX_TOKEN:
        raise TokenInvalid(f"the token has more than {MAX_TOKEN} characters")
    if not _COMPACT.fullmatch(token):
        raise TokenInvalid("the token is no signed JWT")
    signed, _, signature = token.encode("ascii").rpartition(b".")
    header, _, payload = signed.partition(b".")
    return SignedToken(_header(_decoded(header)), _decoded(payload), signed, _decoded(signature))


def _header(text: bytes) -> Header:
    try:
        header = _headers.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise TokenInvalid("the token's header does not hold") from error
    if header.crit is not msgspec.UNSET:
        raise TokenInvalid("the token has extensions that are not known here")
    if header.kid is not None and len(header.kid) > MAX_KID:
        raise TokenInvalid(f"the token's kid has more than {MAX_KID} characters")
    return header


def _decoded(part: bytes) -> bytes:
    """base64url without padding, and in the one way in which these bytes are written (RFC 4648, 3.5)."""
    try:
        decoded = urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except ValueError as error:
        raise TokenInvalid("the token is no signed JWT") from error
    if urlsafe_b64encode(decoded).rstrip(b"=") != part:
        raise TokenInvalid("the token is no signed JWT")
    return decoded
