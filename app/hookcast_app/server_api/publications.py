"""Requests to publish, as publications. Pure: it checks and encodes, and says what is wrong."""

import binascii
from base64 import b64decode

import msgspec

from hookcast_app.realtime import Outgoing, encode_publication
from hookcast_app.server_api.models import BroadcastRequest, Publishing, PublishRequest, decoded, invalid
from hookcast_core.channels import NAME_RULE, is_channel_name
from hookcast_core.errors import InvalidInput, Reason
from hookcast_core.nesting import MAX_DEPTH, is_too_deep

MAX_CHANNELS = 1_000
"""Of a broadcast."""
MAX_KEY = 255
"""Characters of an idempotency key."""

_text: "msgspec.json.Decoder[msgspec.Raw]" = msgspec.json.Decoder(msgspec.Raw)
_encode = msgspec.json.Encoder().encode


def outgoing(request: PublishRequest, max_bytes: int) -> Outgoing:
    """What is to be published; `data` and tags have `max_bytes` together. Raises InvalidInput."""
    check_channel(request.channel)
    return Outgoing(request.channel, _publication(request, max_bytes), _once(request), request.skip_history or False)


def broadcast(request: BroadcastRequest, max_bytes: int) -> list[Outgoing | InvalidInput]:
    """What is to be published on each channel, or why it cannot be. Raises InvalidInput for what none of them can."""
    if not request.channels:
        raise invalid("channels", "name at least one channel")
    if len(request.channels) > MAX_CHANNELS:
        detail = f"has {len(request.channels)} channels; at most {MAX_CHANNELS} are taken"
        raise InvalidInput(Reason.LIMIT_EXCEEDED, "channels", detail)
    publication, once, skip = _publication(request, max_bytes), _once(request), request.skip_history or False
    return [
        Outgoing(channel, publication, once, skip) if is_channel_name(channel) else _no_name(f"channels[{at}]")
        for at, channel in enumerate(request.channels)
    ]


def check_channel(channel: str) -> None:
    """Raises InvalidInput for what is no channel's name."""
    if not is_channel_name(channel):
        raise _no_name("channel")


def json_value(name: str, value: msgspec.Raw, encoded: str | None, max_bytes: int) -> bytes:
    """JSON text that came as it is, or in base64; empty if it did not come. Raises InvalidInput."""
    text = _unpacked(f"b64{name}", encoded) if encoded else bytes(value)
    if len(text) > max_bytes:
        raise InvalidInput(Reason.TOO_LARGE, name, f"has {len(text)} bytes; at most {max_bytes} are taken")
    if is_too_deep(text):
        raise invalid(name, f"is nested deeper than {MAX_DEPTH} levels")
    return text


def _publication(request: Publishing, max_bytes: int) -> bytes:
    data = json_value("data", request.data, request.b64data, max_bytes)
    if not data:
        raise invalid("data", "is missing; send any JSON value, null too")
    publication = encode_publication(data)
    if not request.tags:
        return publication
    tags = _encode(request.tags)
    if len(data) + len(tags) > max_bytes:
        raise InvalidInput(Reason.TOO_LARGE, "tags", f"has, with the data, more than {max_bytes} bytes")
    return b'%b,"tags":%b}' % (publication[:-1], tags)


def _unpacked(name: str, encoded: str) -> bytes:
    try:
        text = b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid(name, "must be base64 (RFC 4648, 4) with padding") from error
    try:
        return bytes(decoded(_text, text))
    except InvalidInput as error:
        raise invalid(name, "must be JSON in UTF-8, in base64: clients here get no binary data") from error


def _once(request: Publishing) -> str:
    key = request.idempotency_key or ""
    if len(key) > MAX_KEY:
        raise invalid("idempotency_key", f"has {len(key)} characters; at most {MAX_KEY} are taken")
    return key


def _no_name(field: str) -> InvalidInput:
    return invalid(field, NAME_RULE)
