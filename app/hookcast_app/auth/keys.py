"""API keys: found by the hash of what was presented, so that no comparison sees a key and none takes longer."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from hookcast_app.settings import ApiKey
from hookcast_core.errors import Reason, Refused

Headers = Sequence[tuple[bytes, bytes]]
"""ASGI headers: names in lower case."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A service that showed a valid key."""

    name: str
    scopes: frozenset[str]

    def may(self, scope: str) -> bool:
        """Whether this caller holds `scope`; `admin` holds all of them."""
        return scope in self.scopes or "admin" in self.scopes


class ApiKeys:
    """The keys in force; several may carry one name while they are rotated."""

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self._callers = {
            sha256(key.key.get_secret_value().encode()).digest(): Caller(key.name, frozenset(key.scopes))
            for key in keys
        }

    def authorize(self, headers: Headers, scope: str) -> Caller:
        """The caller behind a request's headers. Raises Refused: no or unknown key, or one without `scope`."""
        caller = self.authenticate(headers)
        if not caller.may(scope):
            raise Refused(Reason.FORBIDDEN, f"the API key {caller.name!r} lacks the scope {scope}")
        return caller

    def authenticate(self, headers: Headers) -> Caller:
        """The caller, whatever it may do. Raises Refused: no or unknown key."""
        presented = key_from_headers(headers)
        if presented is None:
            raise Refused(
                Reason.UNAUTHENTICATED, "send an API key as `Authorization: Bearer <key>` or `X-API-Key: <key>`"
            )
        caller = self._callers.get(sha256(presented).digest())
        if caller is None:
            raise Refused(Reason.UNAUTHENTICATED, "this API key is not known here")
        return caller


def key_from_headers(headers: Headers) -> bytes | None:
    """The key presented as `Authorization: Bearer …` (RFC 6750, 2.1) or `X-API-Key: …`, or None.

    `Authorization: apikey …` is what Centrifugo's older clients send.
    """
    for name, value in headers:
        if name == b"authorization":
            scheme, _, key = value.partition(b" ")
            if scheme.lower() in {b"bearer", b"apikey"} and key:
                return key.strip()
        elif name == b"x-api-key" and value:
            return value
    return None
