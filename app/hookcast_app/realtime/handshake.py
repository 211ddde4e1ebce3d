"""What is decided of a WebSocket before it is accepted. Pure."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

SUBPROTOCOL = "centrifuge-json"
ANY_ORIGIN = "*"
_WEB_SCHEMES = frozenset({"http", "https"})

_VERSION = "13"

Headers = Iterable[tuple[bytes, bytes]]
"""ASGI headers: names in lower case."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a handshake is answered with instead of 101."""

    status: int
    reason: str
    headers: Mapping[str, str] = field(default_factory=dict)


def refusal(headers: Iterable[tuple[str, str]]) -> Refusal | None:
    """What is wrong with a handshake that websockets would take, or answer with less; names in lower case."""
    pairs = list(headers)
    if [name for name, _ in pairs].count("host") != 1:
        return Refusal(400, "a request has one Host header (RFC 9112, 3.2)\n")
    versions = [value for name, value in pairs if name == "sec-websocket-version"]
    if len(versions) == 1 and versions[0] != _VERSION:
        # RFC 6455, 4.4: a client that speaks several can then choose.
        return Refusal(426, "the version is 13\n", {"Sec-WebSocket-Version": _VERSION, "Upgrade": "websocket"})
    return None


def header(headers: Headers, name: bytes) -> str | None:
    """A header's first value, or None."""
    return next((value.decode("latin-1") for key, value in headers if key == name), None)


def is_allowed_origin(origin: str | None, host: str | None, allowed: Collection[str]) -> bool:
    """Whether a WebSocket may come from there: no browser (which sends no Origin), this host, or one that is allowed.

    Browsers let any page open a WebSocket to anywhere and say from where (RFC 6455, 10.2). Proxies may hide from us
    which of http and https it was, so the server's own origin is compared by host and port.
    """
    if origin is None or is_listed_origin(origin, allowed):
        return True
    scheme, _, authority = origin.lower().partition("://")
    return scheme in _WEB_SCHEMES and host is not None and authority != "" and authority == host.lower()


def is_listed_origin(origin: str, allowed: Collection[str]) -> bool:
    """Whether an origin is among those that the settings allow."""
    return ANY_ORIGIN in allowed or origin.lower() in {entry.lower().rstrip("/") for entry in allowed}


def chosen_subprotocol(offered: Collection[str]) -> str | None:
    """The subprotocol to answer with: ours if it was offered, else none."""
    return SUBPROTOCOL if SUBPROTOCOL in offered else None
