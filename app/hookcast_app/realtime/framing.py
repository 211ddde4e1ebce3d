"""A publication as the bytes that a transport writes. Pure."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from enum import Enum, auto

import msgspec

from hookcast_app.realtime import plain_protocol
from hookcast_app.realtime.protocol import publication_push

_TEXT, _BINARY = 0x81, 0x82
"""First byte of an unfragmented frame (RFC 6455, 5.2)."""
PING_FRAME = b"\x89\x00"
"""A ping without content (RFC 6455, 5.5.2), which every WebSocket client answers by itself."""
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
    """Server-sent events whose data is the publication's data; their id is `<epoch>:<offset>` where there is one."""
    NAMED_EVENTS = auto()
    """Server-sent events whose data is `{"channel": …, "data": …}`; their id is `<channel> <epoch>:<offset>`, which is
    still to be made one of all channels."""

    PUBLICATIONS = auto()
    """Encoded publications as they are, each with a line break."""
    TYPED_FRAMES = auto()
    """WebSocket frames of messages for clients without a library."""


class _Publication(msgspec.Struct):
    data: msgspec.Raw
    offset: int = 0


_publications = msgspec.json.Decoder(_Publication)


UNREADABLE = (msgspec.MsgspecError, RecursionError)
"""What encoders raise: it is no JSON object with data, or its data is nested too deep for where it is read."""


def frame(payload: bytes, first: int = _TEXT) -> bytes:
    """A text message as an unmasked WebSocket frame (RFC 6455, 5.2); `first` is its first byte."""
    size = len(payload)
    if size < _SHORT:
        return bytes((first, size)) + payload
    if size < _MEDIUM:
        return bytes((first, 126)) + size.to_bytes(2) + payload
    return bytes((first, 127)) + size.to_bytes(8) + payload


def frame_of(content: str | bytes) -> bytes:
    """A text message, or a binary one."""
    return frame(content.encode()) if isinstance(content, str) else frame(content, _BINARY)


def messages_of(frames: bytes) -> Iterator[str | bytes]:
    """The messages in frames that `frame` has made, for a server that frames them itself."""
    at = 0
    while at < len(frames):
        first, size = frames[at], frames[at + 1]
        at += 2
        if size >= _SHORT:
            width = 2 if size == _SHORT else 8
            size = int.from_bytes(frames[at : at + width])
            at += width
        payload = frames[at : at + size]
        yield payload if first == _BINARY else payload.decode()
        at += size


def event(data: bytes, name: str | None = None, number: str = "") -> bytes:
    """One server-sent event (HTML, 9.2.6) with the id `number`; a line break in `data` starts another `data:` line."""
    head = b"id: %b\n" % number.encode() if number else b""
    head += b"" if name is None else b"event: %b\n" % name.encode()
    lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return head + b"".join(b"data: %b\n" % line for line in lines) + b"\n"


def reset_event(channel: str, number: str = "") -> bytes:
    """Tells an EventSource that publications of a channel may be missing; what comes counts from `number`."""
    return event(json.dumps({"channel": channel}).encode(), "reset", number)


def _frame(channel: str, publication: bytes, _epoch: str) -> bytes:
    return frame(publication_push(channel, publication))


def _line(channel: str, publication: bytes, _epoch: str) -> bytes:
    return publication_push(channel, publication) + b"\n"


def _line_event(channel: str, publication: bytes, _epoch: str) -> bytes:
    return b"data: %b\n\n" % publication_push(channel, publication)


def _event(_channel: str, publication: bytes, epoch: str) -> bytes:
    found = _publications.decode(publication)
    return event(bytes(found.data), number=f"{epoch}:{found.offset}" if epoch else "")


def _named_event(channel: str, publication: bytes, epoch: str) -> bytes:
    found = _publications.decode(publication)
    data = b'{"channel":"%b","data":%b}' % (channel.encode("ascii"), bytes(found.data))
    return event(data, number=f"{channel} {epoch}:{found.offset}" if epoch else "")


def _typed_frame(channel: str, publication: bytes, _epoch: str) -> bytes:
    return frame_of(plain_protocol.message(channel, publication))


def _typed_coming(push: bytes) -> bytes:
    told = plain_protocol.coming(push)
    return frame(told) if told else b""


def encoded(encoding: Encoding, channel: str, publications: Iterable[bytes], epoch: str) -> Iterator[bytes]:
    """Publications of a history as a connection wants them, without those that cannot be read."""
    encode = ENCODERS[encoding]
    for each in publications:
        with suppress(*UNREADABLE):
            yield encode(channel, each, epoch)


def _nothing(_push: bytes) -> bytes:
    return b""


PUSHES: Mapping[Encoding, Callable[[bytes], bytes]] = {
    Encoding.FRAMES: frame,
    Encoding.LINES: lambda push: push + b"\n",
    Encoding.LINE_EVENTS: lambda push: b"data: %b\n\n" % push,
    Encoding.EVENTS: _nothing,
    Encoding.NAMED_EVENTS: _nothing,
    Encoding.PUBLICATIONS: _nothing,
    Encoding.TYPED_FRAMES: _typed_coming,
}
"""What becomes of a push of the protocol that is no publication, or of a reply; plain streams of events have none."""
Encoder = Callable[[str, bytes, str], bytes]
"""Takes a channel, an encoded publication, and the epoch of its offset: empty if it has none."""
ENCODERS: Mapping[Encoding, Encoder] = {
    Encoding.FRAMES: _frame,
    Encoding.LINES: _line,
    Encoding.LINE_EVENTS: _line_event,
    Encoding.EVENTS: _event,
    Encoding.NAMED_EVENTS: _named_event,
    Encoding.PUBLICATIONS: lambda _channel, publication, _epoch: publication + b"\n",
    Encoding.TYPED_FRAMES: _typed_frame,
}
"""Events and typed frames look into a publication: they raise one of UNREADABLE for one that cannot be read."""
