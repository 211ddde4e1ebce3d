"""What is decided of a client before it is accepted: its handshake, its page's origin, the token it presents. Pure."""

import re
from binascii import b2a_base64
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha1
from http import HTTPStatus
from urllib.parse import parse_qsl

from hookcast_core.errors import InvalidInput, Reason

SUBPROTOCOL = "centrifuge-json"
TOKEN_PREFIX = "token."  # noqa: S105  what a subprotocol with a token begins with
ANY_ORIGIN = "*"
_WEB_SCHEMES = frozenset({"http", "https"})
MAX_FIELDS = 200

Headers = Iterable[tuple[bytes, bytes]]
"""ASGI headers: names in lower case."""

# The opening handshake

MAX_HEADERS = 128
MAX_LINE = 8192
"""Bytes of the target of a handshake, and of the value of each of its headers."""
_VERSION = b"13"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""Proves that a server has understood the handshake (RFC 6455, 1.3)."""
_ONCE = frozenset({b"host", b"origin", b"content-length", b"sec-websocket-key", b"sec-websocket-version"})
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")
"""16 bytes in base64."""
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110, 5.6.2."""


@dataclass(frozen=True, slots=True)
class Opening:
    """A handshake that can be taken."""

    accept: bytes
    """What `Sec-WebSocket-Accept` is to be."""
    subprotocols: list[str]
    """Those that are offered, in the client's order."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a handshake is answered with instead of 101."""

    status: int
    reason: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


_UNKNOWN_VERSION = Refusal(
    # RFC 6455, 4.4: a client that speaks several can then choose.
    426,
    b"the version is 13\n",
    ((b"sec-websocket-version", _VERSION), (b"upgrade", b"websocket")),
)


def opening(target: bytes, headers: Collection[tuple[bytes, bytes]]) -> Opening | Refusal:
    """Reads a client's handshake (RFC 6455, 4.2.1), of which is known that it is a GET of HTTP/1.1 with an upgrade."""
    if len(target) > MAX_LINE:
        return Refusal(414, b"the target is longer than 8 KiB\n")
    if len(headers) > MAX_HEADERS:
        return Refusal(431, b"there are more than 128 headers\n")
    found: dict[bytes, bytes] = {}
    offered: list[bytes] = []
    for name, value in headers:
        if len(value) > MAX_LINE:
            return Refusal(431, b"a header is longer than 8 KiB\n")
        if name == b"transfer-encoding" or name in found:
            return Refusal(400, b"a handshake has no body, and one %b\n" % name)
        if name in _ONCE:
            found[name] = value.strip()
        elif name == b"sec-websocket-protocol":
            offered += value.split(b",")
    # Empty elements of a list are ignored (RFC 9110, 5.6.1.2).
    return _opening(found, [each.strip().decode("latin-1") for each in offered if each.strip()])


def _opening(found: Mapping[bytes, bytes], subprotocols: list[str]) -> Opening | Refusal:
    key = found.get(b"sec-websocket-key", b"")
    if b"host" not in found or found.get(b"content-length", b"0") != b"0":
        return Refusal(400, b"a handshake has a Host (RFC 9112, 3.2) and no body\n")
    if not _KEY.fullmatch(key) or b"sec-websocket-version" not in found:
        return Refusal(400, b"a handshake has a Sec-WebSocket-Version, and a Sec-WebSocket-Key of 16 bytes in base64\n")
    if found[b"sec-websocket-version"] != _VERSION:
        return _UNKNOWN_VERSION
    if not all(map(_TOKEN.fullmatch, subprotocols)):
        return Refusal(400, b"Sec-WebSocket-Protocol is a list of tokens\n")
    digest = sha1(key + _GUID, usedforsecurity=False).digest()
    return Opening(b2a_base64(digest, newline=False), subprotocols)


def accepted(accept: bytes, subprotocol: str | None, headers: Headers) -> bytes:
    """The answer to a handshake that is taken (RFC 6455, 4.2.2), with more headers."""
    chosen = () if subprotocol is None else ((b"sec-websocket-protocol", subprotocol.encode("latin-1")),)
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        b"sec-websocket-accept: %b\r\n%b\r\n" % (accept, _lines((*chosen, *headers)))
    )


def refused(status: int, headers: Headers, body: bytes) -> bytes:
    """The answer to one that is not, which ends the connection."""
    kept = [(name, value) for name, value in headers if name.lower() not in {b"content-length", b"connection"}]
    return b"HTTP/1.1 %d %b\r\n%bcontent-length: %d\r\nconnection: close\r\n\r\n%b" % (
        status,
        HTTPStatus(status).phrase.encode(),
        _lines(kept),
        len(body),
        body,
    )


def _lines(headers: Headers) -> bytes:
    return b"".join([b"%b: %b\r\n" % pair for pair in headers])


# Where a page is from


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
    if not query:
        return ""
    try:
        return next((value for name, value in query_fields(query) if name == "token"), "")
    except ValueError:
        return ""


def query_fields(query: bytes) -> list[tuple[str, str]]:
    """The fields of a query, in order. Raises ValueError for more than MAX_FIELDS."""
    return parse_qsl(query.decode("latin-1"), max_num_fields=MAX_FIELDS)


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
