"""A publication as the bytes that a transport writes. Pure."""

import json
from collections.abc import Callable, Mapping
from enum import Enum, auto

import msgspec

from hookcast_app.realtime.protocol import publication_push

_TEXT = 0x81
"""First byte of an unfragmented text frame (RFC 6455, 5.2)."""
_SHORT, _MEDIUM = 126, 65_536


class Encoding(Enum):
    """How a connection wants its publications. Those of one encoding can be joined in any number."""

    FRAMES = auto()
    """WebSocket frames, written to the socket as they are."""
    LINES = auto()
    """Lines of the protocol, each with its line break."""
    LINE_EVENTS = auto()
    """Server-sent events, each of which is one line of the protocol."""
    EVENTS = auto()
    """Server-sent events whose data is the publication's data."""
    NAMED_EVENTS = auto()
    """Server-sent events whose data is `{"channel": …, "data": …}`."""


class _Publication(msgspec.Struct):
    data: msgspec.Raw


_publications = msgspec.json.Decoder(_Publication)


def frame(payload: bytes) -> bytes:
    """A text message as an unmasked WebSocket frame (RFC 6455, 5.2)."""
    size = len(payload)
    if size < _SHORT:
        return bytes((_TEXT, size)) + payload
    if size < _MEDIUM:
        return bytes((_TEXT, 126)) + size.to_bytes(2) + payload
    return bytes((_TEXT, 127)) + size.to_bytes(8) + payload


def event(data: bytes, name: str | None = None) -> bytes:
    """One server-sent event (HTML, 9.2.6); a line break in `data` starts another `data:` line."""
    head = b"" if name is None else b"event: %b\n" % name.encode()
    lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return head + b"".join(b"data: %b\n" % line for line in lines) + b"\n"


def reset_event(channel: str) -> bytes:
    """Tells an EventSource that publications of a channel may be missing."""
    return event(json.dumps({"channel": channel}).encode(), "reset")


def _frame(channel: str, publication: bytes) -> bytes:
    return frame(publication_push(channel, publication))


def _line(channel: str, publication: bytes) -> bytes:
    return publication_push(channel, publication) + b"\n"


def _line_event(channel: str, publication: bytes) -> bytes:
    return b"data: %b\n\n" % publication_push(channel, publication)


def _event(_channel: str, publication: bytes) -> bytes:
    return event(bytes(_publications.decode(publication).data))


def _named_event(channel: str, publication: bytes) -> bytes:
    data = bytes(_publications.decode(publication).data)
    return event(b'{"channel":"%b","data":%b}' % (channel.encode("ascii"), data))


def _nothing(_push: bytes) -> bytes:
    return b""


PUSHES: Mapping[Encoding, Callable[[bytes], bytes]] = {
    Encoding.FRAMES: frame,
    Encoding.LINES: lambda push: push + b"\n",
    Encoding.LINE_EVENTS: lambda push: b"data: %b\n\n" % push,
    Encoding.EVENTS: _nothing,
    Encoding.NAMED_EVENTS: _nothing,
}
"""What becomes of a push of the protocol that is no publication, or of a reply; plain streams of events have none."""
ENCODERS: Mapping[Encoding, Callable[[str, bytes], bytes]] = {
    Encoding.FRAMES: _frame,
    Encoding.LINES: _line,
    Encoding.LINE_EVENTS: _line_event,
    Encoding.EVENTS: _event,
    Encoding.NAMED_EVENTS: _named_event,
}
"""(channel, encoded publication) -> bytes. Only events look into a publication; they raise msgspec.MsgspecError for
one that is not what `encode_publication` gives."""
