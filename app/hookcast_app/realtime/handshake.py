"""What is decided of a client before it is accepted: where its page is from, and which token it presents. Pure."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from hookcast_core.errors import InvalidInput, Reason

SUBPROTOCOL = "centrifuge-json"
TOKEN_PREFIX = "token."  # noqa: S105  what a subprotocol with a token begins with
ANY_ORIGIN = "*"
_WEB_SCHEMES = frozenset({"http", "https"})
_MAX_FIELDS = 200

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

    Browsers let any page open a WebSocket to anywhere and say from where (RFC 6455, 10.2).
    """
    return origin is None or is_listed_origin(origin, allowed) or is_own_origin(origin, host)


def is_own_origin(origin: str, host: str | None) -> bool:
    """Whether a page is from this server.

    Proxies may hide from us which of http and https it was, so the origin is compared by host and port.
    """
    scheme, _, authority = origin.lower().partition("://")
    return scheme in _WEB_SCHEMES and host is not None and authority != "" and authority == host.lower()


def is_listed_origin(origin: str, allowed: Collection[str]) -> bool:
    """Whether an origin is among those that the settings allow."""
    return ANY_ORIGIN in allowed or is_named_origin(origin, allowed)


def is_named_origin(origin: str, allowed: Collection[str]) -> bool:
    """Whether the settings name an origin; `*` names none."""
    return origin.lower() in {entry.lower().rstrip("/") for entry in allowed}


def chosen_subprotocol(offered: Collection[str], ours: str = SUBPROTOCOL) -> str | None:
    """The subprotocol to answer with: ours if it was offered, else none.

    Raises InvalidInput for a token that is offered without it: there would be nothing to answer with that does not
    show the token, and a browser fails a connection whose offer is not answered.
    """
    if ours in offered:
        return ours
    if any(each.startswith(TOKEN_PREFIX) for each in offered):
        detail = f"a token is offered as a subprotocol only together with {ours}, which is what is answered"
        raise InvalidInput(Reason.INVALID_REQUEST, "Sec-WebSocket-Protocol", detail)
    return None


# Tokens


def presented_token(
    headers: Headers,
    query: bytes,
    subprotocols: Iterable[str] = (),
    *,
    cookie: str | None = None,
    allowed: Collection[str] = (),
) -> str:
    """The token that a handshake presents, or an empty text; what the client says first (`token_of`) wins over it.

    The more deliberate way wins: a subprotocol, then `?token=`, then the cookie, which browsers add by themselves. Of
    several tokens in one way the first counts. `cookie` is the name of one, and `allowed` the origins that count.
    """
    offered = (each.removeprefix(TOKEN_PREFIX) for each in subprotocols if each.startswith(TOKEN_PREFIX))
    headers = list(headers)
    return next(offered, "") or _of_query(query) or (_of_cookie(headers, cookie, allowed) if cookie else "")


def token_of(said: str, presented: str) -> str:
    """The token that counts: what the client says in its connect command, else what its handshake presented."""
    return said or presented


def _of_query(query: bytes) -> str:
    try:
        pairs = parse_qsl(query.decode("latin-1"), max_num_fields=_MAX_FIELDS)
    except ValueError:
        return ""
    return next((value for name, value in pairs if name == "token"), "")


def _of_cookie(headers: Headers, name: str, allowed: Collection[str]) -> str:
    """A cookie's value (RFC 6265, 4.2.1), if the page that it is sent for is known to be a good one."""
    if not _is_trusted_page(headers, allowed):
        return ""
    for line in (value.decode("latin-1") for key, value in headers if key == b"cookie"):
        for pair in line.split(";"):
            key, _, value = pair.strip().partition("=")
            if key == name:
                return value.strip('"')
    return ""


def _is_trusted_page(headers: Headers, allowed: Collection[str]) -> bool:
    """By its Origin. Requests that are no WebSocket have none on their own site; then Fetch Metadata says so."""
    origin = header(headers, b"origin")
    if origin is None:
        return header(headers, b"sec-fetch-site") == "same-origin" and header(headers, b"upgrade") is None
    return is_named_origin(origin, allowed) or is_own_origin(origin, header(headers, b"host"))
