"""The rules of every event attribute: pure checks that name the attribute and the fix.

CloudEvents 1.0.2, "Context Attributes" and "Type System", narrowed by limits of ours.
"""

import re
from collections.abc import Callable
from datetime import datetime

from hookcast_core.channels import is_channel_name
from hookcast_core.errors import InvalidInput, Reason
from hookcast_core.nesting import MAX_DEPTH, is_too_deep

MAX_CHANNELS = 16
MAX_EXTENSIONS = 32

# CloudEvents strings hold no control characters and no surrogates.
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_TYPE = re.compile(r"[A-Za-z0-9._-]{1,128}")
_URI_REFERENCE = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")
_MEDIA_TYPE = re.compile(r"[\w!#$&^.+*-]+/[\w!#$&^.+*-]+( *;[\x20-\x7e]*)?", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_EXTENSION = re.compile(r"[a-z0-9]{1,20}")


def invalid(field: str, detail: str) -> InvalidInput:
    """The refusal of an event because of one attribute."""
    return InvalidInput(Reason.INVALID_EVENT, field, detail)


def check_text(field: str, value: str, limit: int) -> str:
    """A CloudEvents string: not empty, at most `limit` characters, no control characters."""
    if not value:
        raise invalid(field, "must not be empty; leave it out instead")
    if len(value) > limit:
        raise invalid(field, f"has {len(value)} characters; at most {limit} are allowed")
    if _FORBIDDEN.search(value):
        raise invalid(field, "holds control characters; use printable ones only")
    return value


def check_type(field: str, value: str) -> str:
    """An event type; those that begin with `hookcast.` are ours."""
    if not _TYPE.fullmatch(value):
        raise invalid(field, "must be 1 to 128 letters, digits, `.`, `_` or `-`, as in `order.created`")
    if value.startswith("hookcast."):
        raise InvalidInput(
            Reason.RESERVED_TYPE, field, "types that begin with `hookcast.` are reserved; choose another"
        )
    return value


def check_time(field: str, value: str) -> str:
    """RFC 3339 date-time."""
    if not _TIME.fullmatch(value) or not _is_a_date(value):
        raise invalid(field, "must be an RFC 3339 time, as in `2026-01-31T12:00:00Z`")
    return value


def _is_a_date(value: str) -> bool:
    try:
        datetime.fromisoformat(value.upper())
    except ValueError:
        return False
    return True


def check_uri(field: str, value: str) -> str:
    """A URI reference (RFC 3986, 4.1), by its characters."""
    check_text(field, value, 1024)
    if not _URI_REFERENCE.fullmatch(value):
        raise invalid(field, "must be a URI reference, as in `/shop/orders`; percent-encode other characters")
    return value


def check_media_type(field: str, value: str) -> str:
    """A media type (RFC 9110, 8.3.1)."""
    check_text(field, value, 255)
    if not _MEDIA_TYPE.fullmatch(value):
        raise invalid(field, "must be a media type, as in `application/json`")
    return value


def is_json(media_type: str) -> bool:
    """Whether content of that type is JSON (RFC 6839, 3.1); parameters do not matter."""
    subtype = media_type.partition(";")[0].strip().lower().rpartition("/")[2]
    return subtype == "json" or subtype.endswith("+json")


def check_traceparent(field: str, value: str) -> str:
    """W3C Trace Context, 3.2."""
    if not _TRACEPARENT.fullmatch(value):
        raise invalid(field, "must be a W3C traceparent: version-trace-parent-flags in lower-case hex")
    return value


def check_extension_name(name: str) -> str:
    """CloudEvents: lower-case letters and digits; ours are at most 20 long, as the specification recommends."""
    if not _EXTENSION.fullmatch(name):
        raise invalid(name[:64], "an extension's name is 1 to 20 lower-case letters and digits")
    return name


def split_channels(field: str, value: str) -> tuple[str, ...]:
    """Channel names separated by spaces, each once."""
    names = tuple(dict.fromkeys(value.split()))
    if not names:
        raise invalid(field, "names no channel; leave it out instead")
    if len(names) > MAX_CHANNELS:
        raise invalid(field, f"names {len(names)} channels; at most {MAX_CHANNELS} are allowed")
    for name in names:
        if not is_channel_name(name):
            raise invalid(field, f"{name[:64]!r} is no channel name: 1 to 255 letters, digits and _-.:@#")
    return names


def check_depth(field: str, data: bytes) -> None:
    """Nesting of JSON text (already known to be valid) is at most MAX_DEPTH."""
    if is_too_deep(data):
        raise invalid(field, f"is nested deeper than {MAX_DEPTH} levels")


CHECKS: dict[str, Callable[[str, str], str]] = {
    "id": lambda field, value: check_text(field, value, 256),
    "source": check_uri,
    "type": check_type,
    "time": check_time,
    "subject": lambda field, value: check_text(field, value, 1024),
    "datacontenttype": check_media_type,
    "dataschema": check_uri,
    "orderingkey": lambda field, value: check_text(field, value, 256),
    "traceparent": check_traceparent,
}
