"""An event as it lives in this process, and what becomes of it when it is published."""

import random
import time
from base64 import b32encode
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A CloudEvents 1.0 event with every attribute checked.

    `data` is JSON exactly as the publisher wrote it, without insignificant line breaks; other content is in
    `data_base64`. `given` is a digest of what the publisher sent, without time and trace, if the publisher chose the
    id, else None.
    """

    id: str
    source: str
    type: str
    time: str
    subject: str | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None
    data: bytes | None = None
    data_base64: str | None = None
    channels: tuple[str, ...] = ()
    orderingkey: str | None = None
    traceparent: str | None = None
    extensions: dict[str, str | int | bool] = {}
    hops: int = 0
    given: bytes | None = None

    @property
    def data_json(self) -> bytes | None:
        """The data as JSON text, for filters."""
        return self.data

    @property
    def ref(self) -> str:
        """The key under which this event is stored: the id itself where we made it, else a hash of source and id."""
        return self.id if self.given is None else event_ref(self.source, self.id)


class Accepted(msgspec.Struct, frozen=True):
    """The answer for one event: how many subscriptions it matched, or that it had been accepted before."""

    id: str
    matched: int
    duplicate: bool


def event_ref(source: str, event_id: str) -> str:
    """26 characters that stand for (source, id) of an event whose id the publisher chose."""
    return b32encode(sha256(f"{source}\0{event_id}".encode()).digest()[:20])[:26].decode()


# Seeded by the system; ids must be unique, not secret, and asking the system for each costs 10 µs on some machines.
_random = random.Random()  # noqa: S311


def uuid7(now_ms: int | None = None, random_bits: Callable[[int], int] = _random.getrandbits) -> str:
    """A UUIDv7 (RFC 9562, 5.7): 48 bits of milliseconds, 74 random bits; sorts by time."""
    milliseconds = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    value = milliseconds << 80 | random_bits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def timestamp(now_ms: int) -> str:
    """RFC 3339 in UTC with milliseconds."""
    seconds, milliseconds = divmod(now_ms, 1000)
    return f"{_whole_seconds(seconds)}.{milliseconds:03d}Z"


@lru_cache(maxsize=16)
def _whole_seconds(seconds: int) -> str:
    """Events come many a second; the calendar is asked once for each."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
