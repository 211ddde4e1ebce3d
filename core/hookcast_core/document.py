"""The configuration as it travels: a header and one line of JSON per object. Pure.

Lines, so that whoever reads the next document compares lines and parses only what changed. They are canonical: the same
object gives the same bytes. They hold secrets in plain text, so a document is sealed before it is stored or sent. What
equals its default is not written: an older reader takes every object that does not use what it lacks.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from hookcast_core.configuration import Entry, SourceEntry
from hookcast_core.errors import InvalidInput, Reason
from hookcast_core.subscription import field_path

_Model = TypeVar("_Model", bound=BaseModel)

FORMAT = 1
MAX_BYTES = 67_108_864
"""Of a document, unpacked."""


@dataclass(frozen=True, slots=True)
class LineIdentity:
    """Which object a line is about, readable even where the rest of it is not."""

    uid: str
    generation: int
    namespace: str
    name: str


@dataclass(frozen=True)
class Document:
    """A whole configuration. `entries` are lines of subscriptions, `sources` of webhook sources, each sorted.

    `origin` is the UID of the object that keeps the sequence; within one origin the sequence only rises.
    """

    sequence: int
    origin: str
    entries: tuple[bytes, ...] = ()
    sources: tuple[bytes, ...] = ()

    @cached_property
    def revision(self) -> str:
        """SHA-256 over all lines, in hexadecimal: the same for the same content, whatever its sequence."""
        return sha256(b"\n".join((*self.entries, b"", *self.sources))).hexdigest()

    def to_bytes(self) -> bytes:
        """The document as UTF-8 text. It holds secrets."""
        header = {
            "format": FORMAT,
            "sequence": self.sequence,
            "origin": self.origin,
            "entries": len(self.entries),
            "sources": len(self.sources),
        }
        return b"\n".join((_json(header), *self.entries, *self.sources, b""))


def make_document(sequence: int, origin: str, entries: Sequence[bytes], sources: Sequence[bytes] = ()) -> Document:
    """The document of these lines, in whatever order they come."""
    return Document(sequence, origin, tuple(sorted(entries)), tuple(sorted(sources)))


def parse_document(content: bytes) -> Document:
    """The document of `to_bytes`, its lines unread. InvalidInput says what is wrong, without showing content."""
    header, *lines = content.split(b"\n")
    fields = _header(header)
    entries, sources = fields["entries"], fields["sources"]
    if len(lines) != entries + sources + 1 or lines[-1]:
        raise _invalid(f"has {len(lines) - 1} lines where its header says {entries + sources}; it was cut")
    return Document(fields["sequence"], fields["origin"], tuple(lines[:entries]), tuple(lines[entries:-1]))


def _header(line: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except ValueError:
        raise _invalid("begins with no header") from None
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        raise _invalid(f"is not of format {FORMAT}; upgrade whichever of app and operator is older")
    numbers = [fields.get(name) for name in ("sequence", "entries", "sources")]
    if not all(type(number) is int and number >= 0 for number in numbers) or not isinstance(fields.get("origin"), str):
        raise _invalid("has an unusable header")
    return fields


def encode_line(entry: BaseModel) -> bytes:
    """The line of an entry or a source: JSON with sorted keys, no line break, defaults left out. It holds secrets."""
    value = entry.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return _json(value)


def identify(line: bytes) -> LineIdentity | None:
    """Which object a line is about, or None where even that cannot be read."""
    try:
        value = json.loads(line)
        uid, generation, namespace, name = (value[key] for key in ("uid", "generation", "namespace", "name"))
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if not isinstance(generation, int) or not all(isinstance(text, str) for text in (uid, namespace, name)):
        return None
    return LineIdentity(uid, generation, namespace, name)


def parse_entry(line: bytes) -> Entry:
    """A subscription's line. InvalidInput names the first field that is wrong, without its value.

    A field that this version does not know is wrong: to leave it out could be to deliver otherwise than asked.
    """
    return _parsed(Entry, line, Reason.INVALID_SUBSCRIPTION)


def parse_source(line: bytes) -> SourceEntry:
    """A webhook source's line; otherwise as `parse_entry`."""
    return _parsed(SourceEntry, line, Reason.INVALID_SOURCE)


def _parsed(model: type[_Model], line: bytes, reason: Reason) -> _Model:
    try:
        return model.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise InvalidInput(reason, field_path(first["loc"]) or None, first["msg"]) from None


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _invalid(detail: str) -> InvalidInput:
    return InvalidInput(Reason.INVALID_CONFIGURATION, None, f"the configuration document {detail}")
