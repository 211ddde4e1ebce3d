"""Keys with what they hold, piece by piece, as `read.lua` gives and `write.lua` takes them. Pure.

Values are read and written, not dumped and restored: a dump can only be restored by a Redis of the same or a newer
version, and one that is larger than 512 MB by none.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

NO_TTL = -1
TTL_SLACK_MS = 60_000
"""Times to live are read and written again as durations: the copy's end later, by as long as that took."""


class Piece(NamedTuple):
    """A part of one key."""

    kind: bytes
    """Redis's word; b"none" for a key that is gone."""
    ttl: int
    """Milliseconds to live."""
    following: bytes
    """Where the next piece begins; b"" if this is the last."""
    items: list[tuple[bytes, ...]]
    """What the commands that write it take after the key."""
    last: bytes
    """A stream's last id, if its entry is gone."""


def piece(answer: list[Any]) -> Piece:
    """From what `read.lua` returns for a key. Raises ValueError for a kind of value that Hookcast does not use."""
    kind, ttl, following, content, last = answer
    return Piece(kind, ttl, following, list(_items(kind, content)), last)


def arguments(part: Piece, *, is_first: bool) -> list[bytes | int]:
    """What `write.lua` takes for this piece."""
    words: list[bytes | int] = [part.kind, part.ttl, int(is_first), part.last, len(part.items)]
    for item in part.items:
        words += (len(item), *item)
    return words


def is_kept(source: Piece, copy: Piece) -> bool:
    """Whether a piece of the copy is what the source holds; what expires or has expired meanwhile is no loss."""
    if source.kind == b"none":
        return True
    if copy.kind == b"none":
        return 0 <= source.ttl < TTL_SLACK_MS
    has_ttl = source.ttl != NO_TTL
    if has_ttl != (copy.ttl != NO_TTL) or (has_ttl and abs(source.ttl - copy.ttl) > TTL_SLACK_MS):
        return False
    return (source.kind, source.following, source.last, _ordered(source)) == (
        copy.kind, copy.following, copy.last, _ordered(copy),
    )  # fmt: skip


def _ordered(part: Piece) -> list[tuple[bytes, ...]]:
    """Hashes and sets come in no order."""
    return sorted(part.items) if part.kind in {b"hash", b"set"} else part.items


def _items(kind: bytes, content: list[Any]) -> Iterator[tuple[bytes, ...]]:
    match kind:
        case b"string" | b"set":
            yield from ((each,) for each in content)
        case b"hash":
            yield from zip(content[::2], content[1::2], strict=True)
        case b"zset":
            yield from zip(content[1::2], content[::2], strict=True)
        case b"stream":
            yield from ((entry, *fields) for entry, fields in content)
        case b"none":
            return
        case _:
            raise ValueError(f"a {kind.decode()}, which this version of Hookcast does not use")
