"""What a client's bytes are: frames of RFC 6455, put together to messages within our limits. Pure.

It stands in for the parser of websockets, which takes lengths that are not minimal, looks at reserved bits and at the
bounds of control frames only once the whole payload has come, counts a control frame within a message as a part of it,
takes no close frame there, and whose caller keeps every fragment by itself, the empty ones for ever.
"""

import codecs
from dataclasses import dataclass

_FIN, _RESERVED, _OPCODE, _MASKED, _LENGTH = 0x80, 0x70, 0x0F, 0x80, 0x7F
_CONT, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_MAX_CONTROL = 125
_MEDIUM = 126
_LARGEST = 2**63
_HEAD, _KEY, _CODE = 2, 4, 2
_MINIMA = {2: 126, 8: 65_536}
"""The smallest length that takes so many bytes."""
_CODES = frozenset({*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)})
"""Close codes that may be sent (RFC 6455, 7.4, and those registered since)."""
PROTOCOL_ERROR, INVALID_DATA, POLICY_VIOLATION, TOO_BIG = 1002, 1007, 1008, 1009
NO_STATUS = 1005
"""Stands for a close frame without a code (RFC 6455, 7.1.5)."""
NO_CLOSE_FRAME = 1006
"""Stands for an end without a close frame (the same)."""

_Utf8 = codecs.getincrementaldecoder("utf-8")


class Violation(Exception):  # noqa: N818  it is what the client did
    """Why the connection is to be failed (RFC 6455, 7.1.7): a close code and a text."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Received:
    """A whole message."""

    content: str | bytes


@dataclass(frozen=True, slots=True)
class Pinged:
    """To be answered with the same payload."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Closed:
    """A close frame, to be answered with the same; nothing counts that follows."""

    code: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Fragment:
    """A part of a message that has not ended."""


@dataclass(frozen=True, slots=True)
class Idle:
    """A frame that brings nothing, and that may be sent for ever: a pong, or a fragment without content."""


Event = Received | Pinged | Closed | Fragment | Idle
_FRAGMENT, _IDLE = Fragment(), Idle()


class FrameReader:
    """Reads one client's frames; lives as long as its connection.

    Keeps at most what was fed and not taken, and one message of `limit` bytes. After a Violation or Closed it must not
    be used again.
    """

    __slots__ = ("_at", "_bytes", "_decoder", "_kind", "_limit", "_message")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = bytearray()
        self._at = 0
        """Where the next frame begins; what is before was taken."""
        self._kind: int | None = None
        """The opcode of the message that has begun, if one has."""
        self._message = bytearray()
        self._decoder: codecs.IncrementalDecoder | None = None

    @property
    def has_more(self) -> bool:
        """Whether something was fed that is not taken."""
        return len(self._bytes) > self._at

    def feed(self, data: bytes) -> None:
        """Adds what came from the socket."""
        del self._bytes[: self._at]
        self._at = 0
        self._bytes += data

    def next(self) -> Event | None:
        """The next frame's event, or None until more is fed. Raises Violation as soon as the bytes show one."""
        data, at = self._bytes, self._at
        if len(data) < at + _HEAD:
            return None
        first, second = data[at], data[at + 1]
        opcode = first & _OPCODE
        self._check_head(first, second)
        size, start = second & _LENGTH, at + _HEAD
        if size >= _MEDIUM:
            width = 2 if size == _MEDIUM else 8
            start += width
            if len(data) < start:
                return None
            size = _length(bytes(data[start - width : start]))
        if opcode < _CLOSE and size > self._limit - len(self._message):
            raise Violation(TOO_BIG, "message too big")
        end = start + _KEY + size
        if len(data) < end:
            return None
        self._at = end
        payload = _unmasked(bytes(data[start + _KEY : end]), bytes(data[start : start + _KEY]))
        if end == len(data):
            # Most connections are silent for long: nothing of what they said last is kept.
            data.clear()
            self._at = 0
        if opcode >= _CLOSE:
            return _control(opcode, payload)
        return self._data(opcode, payload, is_last=first >= _FIN)

    def _check_head(self, first: int, second: int) -> None:
        """RFC 6455, 5.2, 5.4 and 5.5, as far as two bytes tell."""
        opcode = first & _OPCODE
        if first & _RESERVED:
            raise _protocol_error("reserved bits are set")
        if second < _MASKED:
            raise _protocol_error("the frame is not masked")
        if opcode in {_CLOSE, _PING, _PONG}:
            if first < _FIN:
                raise _protocol_error("a control frame is fragmented")
            if second & _LENGTH > _MAX_CONTROL:
                raise _protocol_error("a control frame is too long")
        elif opcode == _CONT:
            if self._kind is None:
                raise _protocol_error("there is nothing to continue")
        elif opcode not in {_TEXT, _BINARY}:
            raise _protocol_error("the opcode is reserved")
        elif self._kind is not None:
            raise _protocol_error("the message before has not ended")

    def _data(self, opcode: int, payload: bytes, *, is_last: bool) -> Event:
        if is_last and opcode != _CONT:
            return Received(_text(payload) if opcode == _TEXT else payload)
        if opcode != _CONT:
            self._kind = opcode
        if self._kind == _TEXT:
            self._check_text(payload, is_last=is_last)
        self._message += payload
        if not is_last:
            return _FRAGMENT if payload else _IDLE
        whole = bytes(self._message)
        received = Received(whole.decode() if self._kind == _TEXT else whole)
        self._kind = None
        self._message = bytearray()
        return received

    def _check_text(self, payload: bytes, *, is_last: bool) -> None:
        """A message that is no UTF-8 ends with the fragment that shows it (RFC 6455, 8.1)."""
        if self._decoder is None:
            self._decoder = _Utf8()
        try:
            self._decoder.decode(payload, is_last)
        except UnicodeDecodeError as error:
            raise _no_utf8() from error


def pong(payload: bytes) -> bytes:
    """The answer to a ping, as a server's frame (RFC 6455, 5.5.3)."""
    return bytes((_FIN | _PONG, len(payload))) + payload


def close(code: int | None, reason: str) -> bytes:
    """A server's close frame (RFC 6455, 5.5.1); a longer text is cut to what a control frame holds."""
    if code is None:
        return bytes((_FIN | _CLOSE, 0))
    text = reason.encode()[: _MAX_CONTROL - _CODE].decode(errors="ignore").encode()
    return bytes((_FIN | _CLOSE, _CODE + len(text))) + code.to_bytes(_CODE) + text


def _length(extended: bytes) -> int:
    """RFC 6455, 5.2: the shortest form must be used, and the highest bit is 0."""
    size = int.from_bytes(extended)
    if size < _MINIMA[len(extended)]:
        raise _protocol_error("the length could be shorter")
    if size >= _LARGEST:
        raise _protocol_error("the length is no number")
    return size


def _control(opcode: int, payload: bytes) -> Event:
    if opcode == _PING:
        return Pinged(payload)
    return _IDLE if opcode == _PONG else _close(payload)


def _close(payload: bytes) -> Closed:
    """RFC 6455, 5.5.1 and 7.4."""
    if not payload:
        return Closed(None, "")
    code = int.from_bytes(payload[:_CODE])
    if len(payload) < _CODE or code not in _CODES:
        raise _protocol_error("a close frame has a code that may not be sent")
    return Closed(code, _text(payload[_CODE:]))


def _text(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        raise _no_utf8() from error


def _unmasked(payload: bytes, key: bytes) -> bytes:
    """RFC 6455, 5.3."""
    size = len(payload)
    keys = (key * (size // _KEY + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(keys)).to_bytes(size)


def _protocol_error(reason: str) -> Violation:
    return Violation(PROTOCOL_ERROR, reason)


def _no_utf8() -> Violation:
    return Violation(INVALID_DATA, "no UTF-8")
