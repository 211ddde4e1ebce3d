"""The id of a server-sent event: where its reader stands on every channel that has a history. Pure.

An EventSource sends the last id that it saw when it comes back (HTML, 9.2.4), and nothing else: so each id has the
positions of all channels, in the order of their names. It is `<epoch>:<offset>` of each, with commas between.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from hookcast_app.realtime.positions import Position

MAX_ID = 4_096
"""Characters; proxies take headers of 8 KiB. 128 channels with the longest offsets have 3,327."""
PIECE_BYTES = 65_536
"""Events are given ids, which may be longer than they are, so many bytes at a time."""
UNKNOWN = Position(0, "?")
"""Of somebody who was there before: no epoch is written so, and nobody can go on from it."""
_POSITION = re.compile(r"([A-Za-z0-9]{1,32}):([0-9]{1,16})")
_FIELD = b"id: "


def shown(position: Position) -> str:
    """A position as clients see it."""
    return f"{position.epoch}:{position.offset}"


def read_position(text: str) -> Position | None:
    """A position that a client sent back; None for what is none."""
    found = _POSITION.fullmatch(text)
    return None if found is None else Position(int(found[2]), found[1])


def read_id(text: str, channels: Sequence[str]) -> Mapping[str, Position]:
    """Where a client was last on each of these channels.

    It is UNKNOWN where the id is none of ours, is longer than MAX_ID, or is of other channels.
    """
    positions = text.split(",") if len(text) <= MAX_ID else []
    if len(positions) != len(channels):
        return dict.fromkeys(channels, UNKNOWN)
    pairs = zip(sorted(channels), positions, strict=True)
    return {channel: read_position(each) or UNKNOWN for channel, each in pairs}


class EventIds:
    """Where one reader of several channels stands; lives as long as its stream."""

    def __init__(self) -> None:
        self._positions: dict[str, str] = {}

    def begin(self, channel: str, position: Position) -> None:
        """A channel with a history is read from there on."""
        self._positions[channel] = shown(position)
        self._positions = dict(sorted(self._positions.items()))

    @property
    def current(self) -> str:
        """The id of what was numbered last; empty if no channel has a history."""
        return ",".join(self._positions.values())

    def numbered(self, events: bytes) -> Iterator[bytes]:
        """The same named events (see framing), with their ids; in pieces of about PIECE_BYTES."""
        piece: list[bytes] = []
        size = 0
        for each in events.removesuffix(b"\n\n").split(b"\n\n"):
            piece.append(self._numbered(each))
            size += len(piece[-1])
            if size >= PIECE_BYTES:
                yield b"".join(piece)
                piece, size = [], 0
        yield b"".join(piece)

    def _numbered(self, event: bytes) -> bytes:
        if not event.startswith(_FIELD):
            return event + b"\n\n"
        line, _, rest = event.partition(b"\n")
        channel, _, position = line.removeprefix(_FIELD).decode().partition(" ")
        self._positions[channel] = position
        return b"id: %b\n%b\n\n" % (self.current.encode(), rest)
