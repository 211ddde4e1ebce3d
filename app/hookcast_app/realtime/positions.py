"""Where a channel with a history stands, and what was read of it. Pure."""

import re
from typing import NamedTuple

_OFFSET = re.compile(rb'\{"offset":([0-9]+),')


class Position(NamedTuple):
    """Where a channel stands: the number of its newest publication, within an epoch. Another epoch counts anew."""

    offset: int
    epoch: str


NOWHERE = Position(0, "")
"""Of a channel without a history."""


class Kept(NamedTuple):
    """One publication of a history: its number, and the encoded publication."""

    offset: int
    publication: bytes


class Read(NamedTuple):
    """Where a channel stands, and what was asked for of its history."""

    position: Position
    publications: list[Kept]

    def is_all_since(self, since: Position) -> bool:
        """Whether these are all publications since then, so that whoever was there has missed nothing.

        A client that was nowhere yet has no epoch.
        """
        return (
            since.epoch in {"", self.position.epoch} and len(self.publications) == self.position.offset - since.offset
        )


class Caught(NamedTuple):
    """Where a new subscriber stands, what it missed, and whether that is all since it was last there."""

    position: Position
    missed: list[bytes]
    is_all: bool


def offset_of(publication: bytes) -> int:
    """The number of an encoded publication, which publication.lua puts first; 0 if it has none."""
    found = _OFFSET.match(publication)
    return 0 if found is None else int(found[1])
