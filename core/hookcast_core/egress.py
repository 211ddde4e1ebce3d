"""Where webhooks may go: URLs taken apart and rebuilt, and the addresses that are denied.

Pure: nothing here resolves a name or opens a socket. Whoever does checks the URL once and every resolved address
each time, with the policy below. What is sent is built from `Url`'s parts, never from the text that a user gave.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import quote, unquote_to_bytes

import idna

from hookcast_core.errors import EgressDenied, InvalidInput, Reason

MAX_URL_CHARACTERS = 2_048
DEFAULT_PORTS = {"http": 80, "https": 443}

# Where each network is defined stands in the IANA special-purpose address registries (RFC 6890).
DENIED_NETWORKS: tuple[IPv4Network | IPv6Network, ...] = tuple(
    ip_network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local, and the clouds' metadata services
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
        "::/128",  # unspecified
        "::1/128",  # loopback
        "64:ff9b:1::/48",  # local NAT64
        "100::/64",  # discard
        "2001::/23",  # protocol assignments, and Teredo
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing
        "fc00::/7",  # unique local
        "fe80::/10",  # link-local
        "fec0::/10",  # site-local
        "ff00::/8",  # multicast
    )
)

# IPv6 networks whose last 32 bits are an IPv4 address, which is what a packet ends up at and what is judged.
WRAPPER_NETWORKS: tuple[IPv6Network, ...] = tuple(
    IPv6Network(network)
    for network in (
        "::/96",  # v4-compatible
        "::ffff:0:0/96",  # v4-mapped
        "::ffff:0:0:0/96",  # v4-translated
        "64:ff9b::/96",  # NAT64
    )
)
_NO_WRAPPERS = frozenset({IPv6Address("::"), IPv6Address("::1")})

_URL = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<target>[^#]*)(?:#.*)?", re.IGNORECASE | re.ASCII
)
_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]*)(?P<port>:.*)?")
_PORT = re.compile(r":[0-9]{1,5}")
# Underscores are no host names by RFC 1123, but names of services in container networks have them.
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ESCAPE = re.compile(r"%[0-9a-f]{2}", re.IGNORECASE)
_HOST_MAX = 253

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Url:
    """A judged-by-parts http(s) URL; `str()` of it parses to itself.

    `host` is ASCII, lower case, without a trailing dot, or the canonical text of an address (an IPv6 one without
    brackets; v4-mapped ones are the IPv4 address). `target` is path and query, escaped, never a fragment.
    """

    scheme: str
    host: str
    port: int
    target: str
    is_literal: bool

    @property
    def authority(self) -> str:
        """The Host header: the port only where it is not the scheme's (RFC 9110, section 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


class EgressPolicy:
    """Which URLs and addresses webhooks may reach; immutable, made once from the settings.

    `allow` holds networks (`10.0.0.0/8`), addresses with a port (`127.0.0.1:9000`, `[::1]:9000`) and names with a
    port (`shop.svc.local:80`, `*.svc.local:80` for everything below). What is allowed is reachable though it is
    private, and by plain http. A name that is allowed is so wherever it resolves to; a network or an address is
    allowed under every name. ValueError names the entry that is none of these.
    """

    def __init__(self, allow: Iterable[str]) -> None:
        self._networks: list[tuple[IPv4Network | IPv6Network, int | None]] = []
        self._names: set[tuple[str, int]] = set()
        self._suffixes: list[tuple[str, int]] = []
        for entry in allow:
            self._add(entry)

    def check_url(self, url: Url) -> None:
        """Refuse what is denied whatever its name resolves to: plain http, and literal addresses. EgressDenied."""
        if url.is_literal:
            self.check_address(url, url.host)
        elif url.scheme == "http" and not self._networks and not self._allows_name(url):
            raise EgressDenied(_HTTP_DENIED)

    def check_address(self, url: Url, address: str) -> None:
        """Refuse an address that `url` resolved to; every one of them has to pass. EgressDenied."""
        try:
            parsed = ip_address(address)
        except ValueError:
            raise EgressDenied(f"{url.host} does not resolve to an IP address") from None
        if getattr(parsed, "scope_id", None) is not None:
            raise EgressDenied(f"{url.host} resolves to an address with a zone, which webhooks may not reach")
        if self._allows_name(url) or self._allows_address(parsed, url.port):
            return
        if url.scheme == "http":
            raise EgressDenied(_HTTP_DENIED)
        network = denied_network(parsed)
        if network is not None:
            raise EgressDenied(_address_denied(url, network))

    def _allows_name(self, url: Url) -> bool:
        if url.is_literal:
            return False
        return (url.host, url.port) in self._names or any(
            port == url.port and url.host.endswith(suffix) for suffix, port in self._suffixes
        )

    def _allows_address(self, address: Address, port: int) -> bool:
        inner = inner_address(address)
        return any(
            (address in network or (inner is not None and inner in network)) and only in {None, port}
            for network, only in self._networks
        )

    def _add(self, entry: str) -> None:
        try:
            network = ip_network(entry)
        except ValueError:
            self._add_with_port(entry)
        else:
            if "%" in entry:
                raise ValueError(_bad_entry(entry, "an address may not name a zone"))
            self._networks.append((network, None))

    def _add_with_port(self, entry: str) -> None:
        below = entry.startswith("*.")
        try:
            host, port, is_literal = _host_and_port(entry.removeprefix("*."), None, field="egress_allow")
        except InvalidInput as error:
            raise ValueError(_bad_entry(entry, error.detail)) from None
        if is_literal and below:
            raise ValueError(_bad_entry(entry, "addresses have no names below them"))
        if is_literal:
            self._networks.append((ip_network(host), port))
        elif below:
            self._suffixes.append((f".{host}", port))
        else:
            self._names.add((host, port))


_HTTP_DENIED = "plain http is allowed only where HOOKCAST_EGRESS_ALLOW says so; write https"


def _address_denied(url: Url, network: IPv4Network | IPv6Network) -> str:
    # Not the address itself: what a private name resolves to is not for everyone who may subscribe.
    subject = "is" if url.is_literal else "resolves to"
    return f"{url.host} {subject} an address in {network}, which webhooks may not reach (HOOKCAST_EGRESS_ALLOW)"


def _bad_entry(entry: str, detail: str) -> str:
    return f"{entry!r} is neither a network such as 10.0.0.0/8 nor host:port ({detail})"


def inner_address(address: Address) -> IPv4Address | None:
    """Find the IPv4 address within an IPv6 one (v4-mapped, v4-compatible, v4-translated, NAT64), or None."""
    if isinstance(address, IPv4Address) or address in _NO_WRAPPERS:
        return None
    if any(address in network for network in WRAPPER_NETWORKS):
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return None


def denied_network(address: Address) -> IPv4Network | IPv6Network | None:
    """Find the denied network that an address, or the IPv4 address within it, is in; None for public ones."""
    judged = inner_address(address) or address
    return next((network for network in DENIED_NETWORKS if judged in network), None)


def parse_url(text: str, *, field: str = "endpoint.url") -> Url:
    """Take an http(s) URL apart and normalise its parts (WHATWG URL, host parsing; RFC 3986, section 6.2.2).

    Raises InvalidInput (`InvalidURL`, of `field`) for what is not such a URL, has credentials, white space,
    control characters or backslashes, or is longer than 2,048 characters, also when escaped.
    """
    _refuse_characters(text, field)
    match = _URL.fullmatch(text)
    if match is None or (scheme := match["scheme"].lower()) not in DEFAULT_PORTS:
        raise _invalid(field, "not an http or https URL; write https://host/path")
    if "@" in match["authority"]:
        raise _invalid(field, "a URL may not hold credentials; send them in endpoint.headers")
    host, port, is_literal = _host_and_port(match["authority"], DEFAULT_PORTS[scheme], field=field)
    url = Url(scheme, host, port, _target(match["target"], field), is_literal)
    if len(str(url)) > MAX_URL_CHARACTERS:
        raise _invalid(field, f"longer than {MAX_URL_CHARACTERS} characters when escaped")
    return url


def _invalid(field: str, detail: str) -> InvalidInput:
    return InvalidInput(Reason.INVALID_URL, field, detail)


def _refuse_characters(text: str, field: str) -> None:
    if len(text) > MAX_URL_CHARACTERS:
        raise _invalid(field, f"longer than {MAX_URL_CHARACTERS} characters")
    if any(char.isspace() or char < " " or "\x7f" <= char <= "\x9f" for char in text):
        raise _invalid(field, "a URL may not hold white space or control characters; write %20 for a space")
    if "\\" in text:
        raise _invalid(field, "a URL may not hold backslashes; write / or %5C")
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise _invalid(field, "a URL may not hold surrogates")


def _target(text: str, field: str) -> str:
    """Path and query with upper-case escapes, everything else that RFC 3986 does not allow there escaped."""
    if _BAD_ESCAPE.search(text):
        raise _invalid(field, "% must be followed by two hexadecimal digits; write %25 for a percent sign")
    escaped = quote(_ESCAPE.sub(lambda match: match[0].upper(), text), safe="%/?:@!$&'()*+,;=~")
    return escaped if escaped.startswith("/") else f"/{escaped}"


def _host_and_port(authority: str, default_port: int | None, *, field: str) -> tuple[str, int, bool]:
    """(host, port, whether the host is an address) of `host`, `host:port` or `[v6]:port`; InvalidInput."""
    match = _AUTHORITY.fullmatch(authority)
    if match is None or not match["host"]:
        raise _invalid(field, "the host is missing or not well-formed")
    host, is_literal = _host(match["host"], field)
    return host, _port(match["port"], default_port, field), is_literal


def _port(text: str | None, default: int | None, field: str) -> int:
    if text is None and default is not None:
        return default
    if text is None or not _PORT.fullmatch(text) or not 1 <= int(text[1:]) <= 65_535:  # noqa: PLR2004  ports
        raise _invalid(field, "the port must be a number from 1 to 65535")
    return int(text[1:])


def _host(text: str, field: str) -> tuple[str, bool]:
    if text.startswith("["):
        return _ipv6(text[1:-1], field), True
    name = _ascii_name(text, field).removesuffix(".")
    labels = name.split(".")
    # A name whose last label is a number is an IPv4 address or nothing: resolvers take it for one.
    if _NUMBER.fullmatch(labels[-1]):
        return _ipv4(labels, field), True
    if len(name) > _HOST_MAX or not all(_is_label(label) for label in labels):
        raise _invalid(field, "the host is not a valid name")
    return name, False


def _ipv6(text: str, field: str) -> str:
    """Canonical text of a bracketed address; of a v4-mapped one the IPv4 address, which is where it leads."""
    if "%" in text:
        raise _invalid(field, "an address may not name a zone")
    try:
        address = IPv6Address(text)
    except ValueError:
        raise _invalid(field, "what is between the brackets is not an IPv6 address") from None
    return str(address.ipv4_mapped or address)


def _ipv4(labels: list[str], field: str) -> str:
    """Canonical text of one to four decimal, octal (0…) or hexadecimal (0x…) parts; the last fills the rest."""
    try:
        *head, tail = [_ipv4_part(label) for label in labels]
    except ValueError:
        raise _invalid(field, "a host that ends in a number must be an IPv4 address") from None
    bits = 8 * (4 - len(head))
    if bits <= 0 or any(part > 255 for part in head) or tail >= 1 << bits:  # noqa: PLR2004  an octet
        raise _invalid(field, "a host that ends in a number must be an IPv4 address")
    number = sum(part << (24 - 8 * place) for place, part in enumerate(head)) + tail
    return str(IPv4Address(number))


def _ipv4_part(label: str) -> int:
    if not _NUMBER.fullmatch(label):
        raise ValueError(label)
    if label.startswith("0x"):
        return int(label[2:] or "0", 16)
    return int(label, 8 if label.startswith("0") else 10)


def _ascii_name(text: str, field: str) -> str:
    """Unescape a host name, map it (UTS 46, not transitional: case, width, dots), put it in A-labels."""
    if _BAD_ESCAPE.search(text):
        raise _invalid(field, "the host is not a valid name")
    try:
        name = unquote_to_bytes(text).decode()
        mapped = name.lower() if name.isascii() else idna.uts46_remap(name, std3_rules=False)
        return ".".join(label if label.isascii() else idna.alabel(label).decode() for label in mapped.split("."))
    except UnicodeError:
        raise _invalid(field, "the host is not a valid name") from None


def _is_label(label: str) -> bool:
    """Whether an ASCII label is one of a host name; an A-label has to be what its own text encodes to (RFC 5891)."""
    if not _LABEL.fullmatch(label):
        return False
    if not label.startswith("xn--"):
        return True
    try:
        return idna.alabel(idna.ulabel(label)).decode() == label
    except idna.IDNAError:
        return False
