"""Which subscriptions an event goes to. Pure: an index made once from a configuration, and no I/O."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from types import MappingProxyType
from typing import Any, Protocol

import msgspec

from hookcast_core.configuration import Entry
from hookcast_core.filters import (
    CONVERSION_COST,
    MAX_COST,
    TOO_LARGE,
    DataSize,
    EventContext,
    Filter,
    FilterError,
    compile_filter,
    event_context,
    measure,
)

_NOTHING: Mapping[str, str] = MappingProxyType({})
_NO_SIZE = DataSize(0, 0)
_OVERHEAD = 20
"""Of an evaluation, whatever it looks at: half a microsecond."""


class Matchable(Protocol):
    """What matching looks at of an event; `data_json` is JSON text, or None for an event without JSON data."""

    @property
    def type(self) -> str:
        """The event type."""
        ...

    @property
    def source(self) -> str:
        """The CloudEvents source."""
        ...

    @property
    def subject(self) -> str | None:
        """The subject, if any."""
        ...

    @property
    def time(self) -> str:
        """RFC 3339."""
        ...

    @property
    def data_json(self) -> bytes | None:
        """The data as JSON text."""
        ...


class Matches(msgspec.Struct, frozen=True):
    """The subscriptions that take an event, and by UID why a filter could not be evaluated (which is no match)."""

    entries: list[Entry]
    errors: Mapping[str, str] = _NOTHING


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A subscription in the index; `position` keeps the order in which entries were given."""

    position: int
    entry: Entry
    filter: Filter | None


class Matcher:
    """The index of one configuration; immutable, usable in any thread, lives as long as the configuration.

    A lookup costs the event type's dots and the candidates, whatever the number of subscriptions. InvalidInput if an
    entry's filter does not hold, which a resolved entry's does. Filters that `before` has compiled are not compiled
    again: with many subscriptions that is most of the work.
    """

    def __init__(self, entries: Iterable[Entry], before: "Matcher | None" = None) -> None:
        self.by_uid: Mapping[str, Entry] = MappingProxyType({entry.uid: entry for entry in entries})
        self.filters: dict[str, Filter] = {}
        known = before.filters if before else {}
        self._every: list[_Candidate] = []
        self._exact: dict[str, list[_Candidate]] = {}
        self._below: dict[str, list[_Candidate]] = {}
        for position, entry in enumerate(self.by_uid.values()):
            expression = entry.spec.events.filter
            if expression is not None and expression not in self.filters:
                self.filters[expression] = known.get(expression) or compile_filter(expression)
            self._add(_Candidate(position, entry, self.filters[expression] if expression is not None else None))

    def _add(self, candidate: _Candidate) -> None:
        for pattern in dict.fromkeys(candidate.entry.spec.events.types):
            if pattern == "*":
                self._every.append(candidate)
            elif pattern.endswith(".*"):
                self._below.setdefault(pattern[:-1], []).append(candidate)
            else:
                self._exact.setdefault(pattern, []).append(candidate)

    def candidates(self, type: str) -> list[Entry]:  # noqa: A002  the attribute's name
        """The subscriptions whose event types fit, before their filters; each once, in the order of the entries."""
        return [candidate.entry for candidate in self._candidates(type)]

    def trial(self, event: Matchable) -> "Trial":
        """The event beside those that may take it, before any filter has looked at it."""
        candidates = self._candidates(event.type)
        filters = {candidate.filter for candidate in candidates if candidate.filter is not None}
        if not filters:
            return Trial(event, candidates, _NO_SIZE, {}, 0)
        size = measure(event.data_json or b"")
        costs = {compiled: _OVERHEAD + compiled.cost(size) for compiled in filters}
        return Trial(event, candidates, size, costs, size.bytes * CONVERSION_COST + sum(costs.values()))

    def match(self, event: Matchable) -> Matches:
        """The subscriptions that take the event."""
        return self.trial(event).matches()

    def _candidates(self, event_type: str) -> list[_Candidate]:
        groups = [group for group in self._groups(event_type) if group]
        if len(groups) <= 1:
            return groups[0] if groups else []
        found = {candidate.position: candidate for group in groups for candidate in group}
        return [found[position] for position in sorted(found)]

    def _groups(self, event_type: str) -> Iterator[list[_Candidate] | None]:
        yield self._every
        yield self._exact.get(event_type)
        if not self._below:
            return
        dot = event_type.find(".")
        while dot >= 0:
            yield self._below.get(event_type[: dot + 1])
            dot = event_type.find(".", dot + 1)


class Trial(msgspec.Struct, frozen=True):
    """An event and its candidates.

    `costs` is what each distinct filter would cost on it, and `cost` what `matches` does, in the units of `MAX_COST`:
    upper estimates; without filters it is nearly nothing.
    """

    event: Matchable
    candidates: list[_Candidate]
    size: DataSize
    costs: Mapping[Filter, int]
    cost: int

    def matches(self, limit: int = MAX_COST) -> Matches:
        """The subscriptions that take the event; a filter that costs more than `limit` has no verdict.

        The event's data is decoded only if a filter asks, and once; the same expression is evaluated once.
        """
        if not self.costs:
            return Matches([candidate.entry for candidate in self.candidates])
        affordable = [compiled for compiled, cost in self.costs.items() if cost <= limit]
        verdicts: dict[Filter, bool | str] = dict.fromkeys(self.costs, TOO_LARGE)
        try:
            context = _context(self.event, affordable, self.size)
        except FilterError as error:
            verdicts |= dict.fromkeys(affordable, str(error))
        else:
            verdicts |= {compiled: _verdict(compiled, context) for compiled in affordable}
        return _matches(self.candidates, verdicts)


def fair_limit(trials: Sequence[Trial], budget: int) -> int:
    """What one evaluation may cost if all of `trials` may cost `budget` together: MAX_COST, or a lower power of two.

    Only the costliest go without a verdict, so that one subscription's filter takes nothing from another's.
    """
    if sum(trial.cost for trial in trials) <= budget:
        return MAX_COST
    spent = [0] * (MAX_COST.bit_length() + 1)
    for trial in trials:
        for cost in trial.costs.values():
            if cost <= MAX_COST:
                spent[cost.bit_length()] += cost
    return next(((1 << bits >> 1) - 1 for bits, total in enumerate(accumulate(spent)) if total > budget), MAX_COST)


def _context(event: Matchable, filters: Iterable[Filter], size: DataSize) -> EventContext:
    text = event.data_json
    try:
        data = msgspec.json.decode(text) if text else None
    except (msgspec.MsgspecError, RecursionError) as error:
        raise FilterError(f"the event's data cannot be given to filters: {error}") from None
    if isinstance(data, dict):
        data = _looked_at(data, filters)
    return event_context(event.type, event.source, event.subject, event.time, data, size)


def _looked_at(data: dict[str, Any], filters: Iterable[Filter]) -> dict[str, Any]:
    """The members of data that any of the filters names: converting the others for CEL is most of a match's time."""
    fields: set[str] = set()
    for compiled in filters:
        if compiled.fields is None:
            return data
        fields |= compiled.fields
    return {name: value for name, value in data.items() if name in fields}


def _matches(candidates: list[_Candidate], verdicts: Mapping[Filter, bool | str]) -> Matches:
    entries: list[Entry] = []
    errors: dict[str, str] = {}
    for candidate in candidates:
        verdict = True if candidate.filter is None else verdicts[candidate.filter]
        if verdict is True:
            entries.append(candidate.entry)
        elif verdict is not False:
            errors[candidate.entry.uid] = verdict
    return Matches(entries, errors)


def _verdict(compiled: Filter, context: EventContext) -> bool | str:
    """Whether the filter takes the event, or why it cannot say."""
    try:
        return compiled.evaluate(context)
    except FilterError as error:
        return str(error)
