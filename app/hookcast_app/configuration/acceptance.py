"""What holds of a configuration that arrives. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

from hookcast_core.configuration import Entry, SourceEntry
from hookcast_core.document import Document, identify, parse_entry, parse_source
from hookcast_core.egress import EgressPolicy, parse_url
from hookcast_core.errors import EgressDenied, InvalidInput, Reason
from hookcast_core.filters import compile_filter
from hookcast_core.paths import Claim, share

_log = structlog.get_logger("hookcast.configuration")


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


Made = TypeVar("Made", bound=Entry | SourceEntry)


class _Lines(Generic[Made]):
    """Lines of one kind, and what was made of the last document's."""

    def __init__(self, parse: Callable[[bytes], Made]) -> None:
        self._parse = parse
        self._known: dict[bytes, Made] = {}

    def count_new(self, lines: Sequence[bytes]) -> int:
        return sum(line not in self._known for line in lines)

    def read(self, lines: Sequence[bytes], last_good: Mapping[str, Made]) -> tuple[dict[str, Made], list[Rejected]]:
        """By UID; what was rejected is there as it was in `last_good`."""
        known: dict[bytes, Made] = {}
        made: dict[str, Made] = {}
        rejected: list[Rejected] = []
        for line in lines:
            try:
                one = known[line] = self._known.get(line) or self._parse(line)
                made[one.uid] = one
            except InvalidInput as error:
                rejected.append(_rejected(line, error))
            except Exception:  # noqa: BLE001  one line must not keep the others out
                _log.exception("configuration.defect", line=identify(line))
                rejected.append(_rejected(line, InvalidInput(Reason.INTERNAL, None, "an error of ours; see the log")))
        for refusal in rejected:
            if refusal.uid in last_good:
                made.setdefault(refusal.uid, last_good[refusal.uid])
        self._known = known
        return made, rejected


class LineReader:
    """Turns lines into entries; remembers the last document's, so that only lines that changed are parsed.

    One thread at a time; lives as long as its source.
    """

    def __init__(self, policy: EgressPolicy) -> None:
        self._policy = policy
        self._entries = _Lines(self._read)
        self._sources = _Lines(parse_source)

    def count_new(self, document: Document) -> int:
        """How many of a document's lines have to be parsed."""
        return self._entries.count_new(document.entries) + self._sources.count_new(document.sources)

    def read(
        self, document: Document, last_good: Mapping[str, Entry]
    ) -> tuple[tuple[Entry, ...], tuple[Rejected, ...]]:
        """Entries with unique UIDs, and what was rejected; a rejected one's entry in `last_good` is among them."""
        entries, rejected = self._entries.read(document.entries, last_good)
        return tuple(entries.values()), tuple(rejected)

    def read_sources(
        self, document: Document, last_good: Mapping[str, SourceEntry]
    ) -> tuple[tuple[SourceEntry, ...], tuple[Rejected, ...]]:
        """Webhook sources with unique UIDs and paths; otherwise as `read`.

        Whose path another has is rejected too, and is there as it was in `last_good` if it can keep its path of then.
        """
        sources, rejected = self._sources.read(document.sources, last_good)
        owners, late = share(
            [Claim(uid, sources[uid].path) for uid in sorted(sources)],
            {uid: source.path for uid, source in last_good.items()},
        )
        for uid, path in late.items():
            # Not whose it is: that may be in another namespace.
            detail = f"/webhooks/{path} is another source's; choose another path"
            rejected.append(Rejected(uid, sources[uid].generation, "spec.path", Reason.PATH_TAKEN, detail))
        having = [last_good[uid] if uid in late else sources[uid] for uid in owners.values()]
        return tuple(having), tuple(rejected)

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
