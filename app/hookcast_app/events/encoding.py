"""An event as bytes: the structured CloudEvent that webhooks and clients get, and what is stored beside it."""

from base64 import b64decode
from typing import Any

import msgspec

from hookcast_app.events.attributes import is_json
from hookcast_app.events.models import Event

_OPTIONAL = ("subject", "datacontenttype", "dataschema", "orderingkey", "traceparent")


class Stored(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is kept of an event besides its structured form; the envelope need not be parsed to deliver it.

    `data_at` is where the data begins in the structured form, which ends with it and a brace; 0 means that there is
    none. `binary` says that the data is base64.
    """

    id: str
    source: str
    type: str
    time: str
    accepted_ms: int
    data_at: int = 0
    binary: bool = False
    media_type: str = ""
    channels: tuple[str, ...] = ()
    orderingkey: str | None = None
    traceparent: str | None = None
    correlation_id: str = ""
    hops: int = 0


def structured(event: Event) -> tuple[bytes, int]:
    """The event in the JSON Event Format 1.0.2 on one line, and where its data begins (0: it has none)."""
    envelope: dict[str, Any] = {"specversion": "1.0", "id": event.id, "source": event.source, "type": event.type}
    envelope["time"] = event.time
    for name in _OPTIONAL:
        value = getattr(event, name)
        if value is not None:
            envelope[name] = value
    if event.channels:
        envelope["channel"] = " ".join(event.channels)
    envelope.update(event.extensions)
    if event.data is not None:
        return _with_data(envelope, b'"data":', event.data)
    if event.data_base64 is not None:
        return _with_data(envelope, b'"data_base64":', msgspec.json.encode(event.data_base64))
    return msgspec.json.encode(envelope), 0


def _with_data(envelope: dict[str, Any], name: bytes, data: bytes) -> tuple[bytes, int]:
    head = msgspec.json.encode(envelope)[:-1] + b"," + name
    return b"%b%b}" % (head, data), len(head)


def stored(event: Event, data_at: int, accepted_ms: int, correlation_id: str) -> Stored:
    """What is kept beside the structured form."""
    return Stored(
        id=event.id,
        source=event.source,
        type=event.type,
        time=event.time,
        accepted_ms=accepted_ms,
        data_at=data_at,
        binary=event.data_base64 is not None,
        media_type=event.datacontenttype or "",
        channels=event.channels,
        orderingkey=event.orderingkey,
        traceparent=event.traceparent,
        correlation_id=correlation_id,
        hops=event.hops,
    )


def data_of(record: Stored, body: bytes) -> tuple[bytes, str]:
    """The data alone and its media type, from the structured form; both empty where the event has none.

    A JSON text that is data of another media type stands for the characters in it (JSON Event Format, 3.1.1).
    """
    if not record.data_at:
        return b"", ""
    data = body[record.data_at : -1]
    if record.binary:
        return b64decode(msgspec.json.decode(data, type=str)), record.media_type or "application/octet-stream"
    if data.startswith(b'"') and record.media_type and not is_json(record.media_type):
        return msgspec.json.decode(data, type=str).encode(), record.media_type
    return data, record.media_type or "application/json"
