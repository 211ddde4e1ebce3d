"""Whether a configuration that arrives takes the place of the one in force, and what of it holds. Pure.

Pushes, mounts and retries may come in any order and more than once; the decision depends on what they are, not on when
they come.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from hookcast_core.configuration import Entry
from hookcast_core.document import Document, identify, parse_entry
from hookcast_core.egress import EgressPolicy, parse_url
from hookcast_core.errors import EgressDenied, InvalidInput, Reason
from hookcast_core.filters import compile_filter


@dataclass(frozen=True, slots=True)
class Version:
    """Which configuration it is. `sealed_at` is epoch seconds."""

    origin: str
    sequence: int
    revision: str
    sealed_at: int


class Verdict(Enum):
    """What becomes of a configuration that arrives."""

    NEW = "new"
    SAME = "same"
    STALE = "stale"


def judge(arrived: Version, in_force: Version | None) -> Verdict:
    """Within one origin the higher sequence is in force; of two origins the one that sealed later.

    An origin ends when the operator's own objects were deleted; its sequence begins anew. Two contents with one
    sequence come from a writer that was overtaken: the one sealed later is in force.
    """
    if in_force is None:
        return Verdict.NEW
    if (arrived.origin, arrived.sequence, arrived.revision) == (in_force.origin, in_force.sequence, in_force.revision):
        return Verdict.SAME
    if arrived.origin == in_force.origin and arrived.sequence != in_force.sequence:
        return Verdict.NEW if arrived.sequence > in_force.sequence else Verdict.STALE
    return Verdict.NEW if arrived.sealed_at > in_force.sealed_at else Verdict.STALE


@dataclass(frozen=True, slots=True)
class Rejected:
    """A line that does not hold here; its last good entry stays in force. `uid` is empty if it cannot be read."""

    uid: str
    generation: int
    field: str | None
    reason: Reason
    detail: str

    def __str__(self) -> str:
        path = f"{self.field}: " if self.field else ""
        return f"{self.uid or 'unreadable'}: {path}{self.detail} ({self.reason})"


class LineReader:
    """Turns lines into entries; remembers the last document's, so that only lines that changed are parsed.

    One thread at a time; lives as long as its source.
    """

    def __init__(self, policy: EgressPolicy) -> None:
        self._policy = policy
        self._known: dict[bytes, Entry] = {}

    def count_new(self, document: Document) -> int:
        """How many of a document's lines have to be parsed."""
        return sum(line not in self._known for line in document.entries)

    def read(
        self, document: Document, last_good: Mapping[str, Entry]
    ) -> tuple[tuple[Entry, ...], tuple[Rejected, ...]]:
        """Entries with unique UIDs, and what was rejected; a rejected one's entry in `last_good` is among them."""
        known: dict[bytes, Entry] = {}
        entries: dict[str, Entry] = {}
        rejected: list[Rejected] = []
        for line in document.entries:
            try:
                entry = known[line] = self._known.get(line) or self._read(line)
                entries[entry.uid] = entry
            except InvalidInput as error:
                rejected.append(_rejected(line, error))
        for refusal in rejected:
            if refusal.uid in last_good:
                entries.setdefault(refusal.uid, last_good[refusal.uid])
        self._known = known
        return tuple(entries.values()), tuple(rejected)

    def _read(self, line: bytes) -> Entry:
        entry = parse_entry(line)
        try:
            self._policy.check_url(parse_url(entry.url))
        except EgressDenied as denied:
            # A URL from a Secret must not be shown.
            secret = entry.spec.endpoint.url_secret_ref is not None
            detail = "the URL in the Secret may not be reached" if secret else denied.detail
            raise EgressDenied(detail, field="spec.endpoint.url") from None
        if entry.spec.events.filter is not None:
            compile_filter(entry.spec.events.filter, "spec.events.filter")
        return entry


def _rejected(line: bytes, error: InvalidInput) -> Rejected:
    found = identify(line)
    uid, generation = (found.uid, found.generation) if found else ("", 0)
    return Rejected(uid, generation, error.field, error.reason, error.detail)
