"""A sealed configuration in several Secrets, and which of two sets of them is whole. Pure.

Two sets are written in turns. The manifest names the one in force; a reader that finds the manifest's set half written
takes the other one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

from hookcast_core.errors import InvalidInput, Reason

SetName = Literal["a", "b"]
SETS: tuple[SetName, SetName] = ("a", "b")
MAX_CHUNKS = 8
CHUNK_BYTES = 921_600
"""Of one Secret's data: the API server takes 1 MiB with everything around it."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One Secret's share. `digest` is SHA-256 of the whole token, in hexadecimal."""

    sequence: int
    index: int
    count: int
    digest: str
    content: bytes

    def data(self) -> dict[str, bytes]:
        """The Secret's data."""
        return {
            "sequence": b"%d" % self.sequence,
            "index": b"%d" % self.index,
            "count": b"%d" % self.count,
            "digest": self.digest.encode(),
            "content": self.content,
        }


CHUNK_KEYS = ("sequence", "index", "count", "digest", "content")


@dataclass(frozen=True, slots=True)
class Manifest:
    """Which set is in force. `revision` is the document's: what is compared with what should be there."""

    set: SetName
    sequence: int
    digest: str
    revision: str

    def data(self) -> dict[str, bytes]:
        """The Secret's data."""
        return {
            "set": self.set.encode(),
            "sequence": b"%d" % self.sequence,
            "digest": self.digest.encode(),
            "revision": self.revision.encode(),
        }


MANIFEST_KEYS = ("set", "sequence", "digest", "revision")


def split(token: bytes, sequence: int) -> list[Chunk]:
    """The chunks of a sealed configuration; InvalidInput (CapacityExceeded) if it needs more than MAX_CHUNKS."""
    parts = [token[start : start + CHUNK_BYTES] for start in range(0, len(token), CHUNK_BYTES)] or [b""]
    if len(parts) > MAX_CHUNKS:
        most = MAX_CHUNKS * CHUNK_BYTES
        raise InvalidInput(
            Reason.CAPACITY_EXCEEDED, None, f"the configuration has {len(token)} bytes packed; at most {most} fit"
        )
    digest = sha256(token).hexdigest()
    return [Chunk(sequence, index, len(parts), digest, part) for index, part in enumerate(parts)]


def join(chunks: Sequence[Mapping[str, bytes] | None]) -> tuple[int, bytes] | None:
    """Sequence and token of a set's Secrets in the order of their index, or None while it is not whole.

    Secrets beyond the count are remnants of a longer one.
    """
    read = [_chunk(data) for data in chunks]
    first = read[0] if read else None
    if first is None or not 1 <= first.count <= len(read):
        return None
    parts = [chunk for chunk in read[: first.count] if chunk is not None]
    same = [(first.sequence, index, first.count, first.digest) for index in range(first.count)]
    if [(part.sequence, part.index, part.count, part.digest) for part in parts] != same:
        return None
    token = b"".join(part.content for part in parts)
    return (first.sequence, token) if sha256(token).hexdigest() == first.digest else None


def parse_manifest(data: Mapping[str, bytes]) -> Manifest | None:
    """The manifest of a Secret's data, or None where it is none (yet)."""
    try:
        name = data["set"].decode()
        sequence, digest, revision = int(data["sequence"]), data["digest"].decode(), data["revision"].decode()
    except (KeyError, ValueError):
        return None
    return Manifest("a" if name == "a" else "b", sequence, digest, revision) if name in SETS else None


def _chunk(data: Mapping[str, bytes] | None) -> Chunk | None:
    if data is None:
        return None
    try:
        sequence, index, count = (int(data[name]) for name in ("sequence", "index", "count"))
        return Chunk(sequence, index, count, data["digest"].decode(), data["content"])
    except (KeyError, ValueError):
        return None
