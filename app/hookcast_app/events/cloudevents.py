"""From an HTTP request's content to events: plain JSON, and CloudEvents 1.0 in binary, structured and batch mode.

Pure. Follows "HTTP Protocol Binding for CloudEvents" 1.0.2, section 3, and "JSON Event Format" 1.0.2. Data is never
parsed and written again: what the publisher wrote is what receivers get.
"""

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any
from urllib.parse import unquote
from uuid import NAMESPACE_URL, uuid5

import msgspec

from hookcast_app.events.attributes import (
    CHECKS,
    MAX_EXTENSIONS,
    check_depth,
    check_extension_name,
    check_text,
    invalid,
    is_json,
    split_channels,
)
from hookcast_app.events.models import Event, timestamp, uuid7
from hookcast_app.request_body import too_large
from hookcast_core.errors import InvalidInput, Reason

MAX_BATCH = 1000
MAX_HOPS = 8

Attributes = dict[str, Any]
"""What the publisher wrote: attribute values as JSON values, `data` as msgspec.Raw."""

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_VALUE = msgspec.json.Decoder(str | int | bool | None)
_SPECVERSION = "1.0"
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
"""RFC 9110, 5.6.4."""


class Context(msgspec.Struct, frozen=True):
    """What of a request, besides its content, goes into its events."""

    caller: str
    now_ms: int
    max_bytes: int
    idempotency_key: str | None = None
    traceparent: str | None = None
    hops: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Many events, each read or refused on its own."""

    entries: list[Event | InvalidInput]


def read_events(content_type: str, headers: Mapping[str, str], body: bytes, context: Context) -> Event | Batch:
    """The event or batch that a request carries.

    `headers` have lower-case names. Raises InvalidInput: INVALID_EVENT, RESERVED_TYPE, TOO_LARGE, TOO_MANY_HOPS or
    UNSUPPORTED_MEDIA_TYPE.
    """
    if context.hops > MAX_HOPS:
        raise InvalidInput(
            Reason.TOO_MANY_HOPS,
            "x-hookcast-hops",
            f"this event went through {context.hops} webhooks: it runs in a loop",
        )
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "application/cloudevents-batch+json":
        return _batch(body, context, strict=False)
    if media_type == "application/json" and body.lstrip(b" \t\r\n")[:1] == b"[" and not _is_binary(headers):
        return _batch(body, context, strict=True)
    if len(body) > context.max_bytes:
        raise too_large(len(body), context.max_bytes, "an event")
    if media_type in {"application/cloudevents+json", "application/cloudevents"}:
        return _event(_attributes(body), context, strict=False)
    if _is_binary(headers):
        return _event(_binary(media_type, content_type, headers, body), context, strict=False)
    if media_type == "application/json":
        return _event(_attributes(body), context, strict=True)
    raise InvalidInput(
        Reason.UNSUPPORTED_MEDIA_TYPE,
        "content-type",
        f"{media_type[:64] or 'none'!r} is not taken; send application/json, application/cloudevents+json, "
        "application/cloudevents-batch+json, or any type with ce-* headers",
    )


def _is_binary(headers: Mapping[str, str]) -> bool:
    return "ce-specversion" in headers or "ce-type" in headers


def _batch(body: bytes, context: Context, *, strict: bool) -> Batch:
    raws = _decode(_ARRAY, body)
    if not raws:
        raise invalid("", "an empty batch; send at least one event")
    if len(raws) > MAX_BATCH:
        raise InvalidInput(Reason.TOO_LARGE, None, f"a batch has at most {MAX_BATCH} events, this has {len(raws)}")
    return Batch([_entry(bytes(raw), place, context, strict=strict) for place, raw in enumerate(raws)])


def _entry(raw: bytes, place: int, context: Context, *, strict: bool) -> Event | InvalidInput:
    if len(raw) > context.max_bytes:
        return too_large(len(raw), context.max_bytes, "an event")
    try:
        return _event(_attributes(raw), context, strict=strict, place=place)
    except InvalidInput as error:
        return error


def _decode(decoder: Any, body: bytes) -> Any:
    try:
        body.decode()
        return decoder.decode(body)
    except UnicodeDecodeError as error:
        raise invalid("", f"the body is not UTF-8 (byte {error.start})") from error
    except RecursionError as error:
        raise invalid("data", "is nested too deeply") from error
    except msgspec.MsgspecError as error:
        raise invalid("", f"the body is not the JSON expected here: {error}") from error


def _attributes(body: bytes) -> Attributes:
    """The JSON event format: null is the same as absent (JSON Event Format, 2.2), except as data."""
    attributes: Attributes = {}
    for name, raw in _decode(_OBJECT, body).items():
        if name == "data":
            attributes[name] = raw
        else:
            value = _value(name, raw)
            if value is not None:
                attributes[name] = value
    return attributes


def _value(name: str, raw: msgspec.Raw) -> str | int | bool | None:
    try:
        return _VALUE.decode(raw)  # type: ignore[no-any-return]
    except msgspec.MsgspecError as error:
        raise invalid(
            name[:64], "must be a string" if name in CHECKS else "must be a string, integer or boolean"
        ) from error


def _binary(media_type: str, content_type: str, headers: Mapping[str, str], body: bytes) -> Attributes:
    attributes: Attributes = {name[3:]: _unescaped(value) for name, value in headers.items() if name.startswith("ce-")}
    if "datacontenttype" in attributes or "data" in attributes:
        raise invalid("ce-data", "in binary mode the body is the data and Content-Type its datacontenttype")
    if content_type:
        attributes["datacontenttype"] = content_type
    if not body:
        return attributes
    if not media_type or is_json(media_type):
        attributes["data"] = _decode(msgspec.json.Decoder(msgspec.Raw), body)
    else:
        attributes["data_base64"] = b64encode(body).decode()
    return attributes


def _unescaped(value: str) -> str:
    """What a header's value stands for ("HTTP Protocol Binding", 3.1.3.2): unquoted, then percent-decoded once."""
    quoted = _QUOTED.fullmatch(value)
    return unquote(re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else value, errors="replace")


def _event(attributes: Attributes, context: Context, *, strict: bool, place: int = 0) -> Event:
    """Checks every attribute and fills in what the publisher left out."""
    specversion = attributes.pop("specversion", None if strict else "")
    if specversion not in {None, _SPECVERSION}:
        raise invalid("specversion", "must be present and `1.0`")
    known, channels, extensions = _sorted_out(attributes, strict=strict and specversion is None)
    data, data_base64 = _data(attributes)
    if "type" not in known:
        raise invalid("type", "is required, as in `order.created`")
    if not strict and not {"id", "source"} <= known.keys():
        raise invalid("source" if "id" in known else "id", "is required in a CloudEvent")
    known.setdefault("source", f"/keys/{context.caller}")
    known.setdefault("time", timestamp(context.now_ms))
    known.setdefault("traceparent", context.traceparent)
    if data is not None:
        known.setdefault("datacontenttype", "application/json")
    if "id" not in known and context.idempotency_key is not None:
        known["id"] = str(uuid5(NAMESPACE_URL, f"hookcast:{context.caller}\0{context.idempotency_key}\0{place}"))
    chosen = "id" in known
    known.setdefault("id", uuid7())
    return Event(
        **known,
        data=data,
        data_base64=data_base64,
        channels=channels,
        extensions=extensions,
        hops=context.hops,
        given=_digest(attributes) if chosen else None,
    )


def _sorted_out(attributes: Attributes, *, strict: bool) -> tuple[dict[str, Any], tuple[str, ...], dict[str, Any]]:
    known: dict[str, Any] = {}
    channels: tuple[str, ...] = ()
    extensions: dict[str, Any] = {}
    for name, value in attributes.items():
        target = "orderingkey" if name == "partitionkey" else name
        if target in CHECKS:
            known[target] = CHECKS[target](name, _text(name, value))
        elif name == "channel":
            channels = split_channels(name, _text(name, value))
        elif name in {"data", "data_base64"}:
            continue
        elif strict:
            raise invalid(name[:64], f"is not an attribute of an event; known are {', '.join(_KNOWN)}")
        else:
            extensions[check_extension_name(name)] = (
                value if not isinstance(value, str) else check_text(name, value, 1024)
            )
    if len(extensions) > MAX_EXTENSIONS:
        raise invalid("", f"has {len(extensions)} extension attributes; at most {MAX_EXTENSIONS} are allowed")
    return known, channels, extensions


_KNOWN = (*CHECKS, "partitionkey", "channel", "data", "data_base64")


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise invalid(name, "must be a string")
    return value


def _data(attributes: Attributes) -> tuple[bytes | None, str | None]:
    raw, encoded = attributes.get("data"), attributes.get("data_base64")
    if raw is not None and encoded is not None:
        raise invalid("data_base64", "give either data or data_base64, not both")
    if encoded is not None:
        return None, _check_base64(_text("data_base64", encoded))
    if raw is None:
        return None, None
    data = bytes(raw)
    check_depth("data", data)
    # Realtime frames are separated by line breaks, so data must hold none; numbers and strings stay as written.
    return (msgspec.json.format(data, indent=-1) if b"\n" in data or b"\r" in data else data), None


def _check_base64(text: str) -> str:
    try:
        b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid("data_base64", "must be base64 (RFC 4648, 4) with padding") from error
    return text


def _digest(attributes: Attributes) -> bytes:
    """What tells a repetition from another event with the same id: what the publisher wrote, but for the attempt's own.

    SDKs fill in the time, and tracers the trace, of each attempt to publish.
    """
    written = {name: value for name, value in attributes.items() if name not in {"time", "traceparent"}}
    return blake2b(msgspec.json.encode(written, order="sorted"), digest_size=16).digest()
