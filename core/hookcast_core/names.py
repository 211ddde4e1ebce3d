"""Names that users choose: of objects, of a Secret's keys, of headers. Pure checks; each returns what it was given."""

import re

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_SECRET_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_MAX_SUBDOMAIN = 253

REFUSED_HEADERS = frozenset(
    {"host", "connection", "transfer-encoding", "te", "trailer", "upgrade", "expect"}
    | {"traceparent", "user-agent", "x-correlation-id", "x-hub-signature-256"}
)
"""Headers that frame a request or that Hookcast sets itself."""
MAX_HEADER_VALUE = 4_096
"""Characters."""
MAX_SHOWN = 20
"""Characters of a name that a message repeats whole: 128 random bits are longer, in base64 too."""
REFUSED_PREFIXES = ("content-", "proxy-", "webhook-", "x-hookcast-")


def check_namespace(name: str) -> str:
    """A DNS label (RFC 1123), as Kubernetes requires of namespaces; ValueError otherwise."""
    if not _LABEL.fullmatch(name):
        raise ValueError('a namespace has lower-case letters, digits and "-", at most 63')
    return name


def check_object_name(name: str) -> str:
    """A DNS subdomain (RFC 1123), as Kubernetes requires of objects; ValueError otherwise."""
    if len(name) > _MAX_SUBDOMAIN or not _SUBDOMAIN.fullmatch(name):
        raise ValueError(
            'a name has lower-case letters, digits, "-" and ".", and begins and ends with one of the first'
        )
    return name


def check_secret_key(key: str) -> str:
    """A key of a Secret's data; ValueError otherwise."""
    if not _SECRET_KEY.fullmatch(key) or key in {".", ".."}:
        raise ValueError('a key of a Secret has letters, digits, "-", "_" and "."')
    return key


def check_header_name(name: str) -> str:
    """A header's name (RFC 9110, 5.6.2) that subscriptions may set; ValueError otherwise."""
    if not _TOKEN.fullmatch(name):
        raise ValueError("not the name of a header; write letters, digits and dashes")
    if name.lower() in REFUSED_HEADERS or name.lower().startswith(REFUSED_PREFIXES):
        raise ValueError(f"the header {name} is set by Hookcast and cannot be given here")
    return name


def check_header_value(value: str) -> str:
    """A header's value (RFC 9110, 5.5): Latin-1, no control characters; ValueError otherwise, without the value."""
    if len(value) > MAX_HEADER_VALUE:
        raise ValueError(f"the value of a header has at most {MAX_HEADER_VALUE} characters")
    if _CONTROL.search(value):
        raise ValueError("the value of a header holds no line breaks, tabs or other control characters")
    if any(ord(character) > 0xFF for character in value):  # noqa: PLR2004  the last character of Latin-1
        raise ValueError("the value of a header holds Latin-1 characters only")
    if value != value.strip(" \xa0"):
        raise ValueError("the value of a header neither begins nor ends with a space")
    return value


def shown_name(name: str) -> str:
    """For a message: a short name whole, and of a long one the beginning: it may be a secret at the wrong place."""
    return name if len(name) <= MAX_SHOWN else f"{name[:8]}…"
