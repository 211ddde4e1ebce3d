"""Which subscriptions an event goes to. Pure: an index made once from a configuration, and no I/O."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import accumulate, chain
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

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
_SPARE_FILTERS = 256
"""Compiled filters that an index may have which none of its entries has any more."""


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

    @property
    def patterns(self) -> Iterable[str]:
        """The patterns of its event types, each once."""
        return dict.fromkeys(self.entry.spec.events.types)


class Matcher:
    """The index of one configuration; immutable, usable in any thread, lives as long as the configuration.

    A lookup costs the event type's dots and the candidates, whatever the number of subscriptions. InvalidInput if an
    entry's filter does not hold, which a resolved entry's does. Filters that `before` has compiled are not compiled
    again: with many subscriptions that is most of the work.
    """

    def __init__(self, entries: Iterable[Entry], before: "Matcher | None" = None) -> None:
        self.filters: dict[str, Filter] = {}
        known = before.filters if before else {}
        by_uid = {entry.uid: entry for entry in entries}
        self._following = len(by_uid)
        self._every: list[_Candidate] = []
        self._exact: dict[str, list[_Candidate]] = {}
        self._below: dict[str, list[_Candidate]] = {}
        self._by_uid = {
            uid: _Candidate(position, entry, self._filter(entry, known))
            for position, (uid, entry) in enumerate(by_uid.items())
        }
        self.by_uid = MappingProxyType(by_uid)
        self._place(self._by_uid.values(), (), ())

    def changed(self, changes: Mapping[str, Entry | None]) -> "Matcher":
        """The index with these entries by UID put, or (None) taken away; the same as a new one of all entries.

        Costs what is in the lists of their patterns, and a copy of the outermost dicts. Who was there before keeps its
        place in the order; others come last.
        """
        made = copy(self)
        made._change(changes)  # noqa: SLF001  of this class
        return made

    def _change(self, changes: Mapping[str, Entry | None]) -> None:
        """Of a copy, which still has everything in common with what it is a copy of."""
        self._exact, self._below, self.filters = self._exact.copy(), self._below.copy(), self.filters.copy()
        before = [self._by_uid[uid] for uid in changes if uid in self._by_uid]
        now = [self._candidate(entry) for entry in changes.values() if entry is not None]
        gone = [uid for uid, entry in changes.items() if entry is None]
        self._by_uid = _without(self._by_uid.copy(), gone) | {candidate.entry.uid: candidate for candidate in now}
        by_uid = _without(self.by_uid.copy(), gone) | {candidate.entry.uid: candidate.entry for candidate in now}
        self.by_uid = MappingProxyType(by_uid)
        self._place(now, before, changes.keys())
        if len(self.filters) > len(by_uid) + _SPARE_FILTERS:
            used = {entry.spec.events.filter for entry in by_uid.values()}
            self.filters = {text: compiled for text, compiled in self.filters.items() if text in used}

    def _candidate(self, entry: Entry) -> _Candidate:
        before = self._by_uid.get(entry.uid)
        if before is not None:
            return _Candidate(before.position, entry, self._filter(entry, self.filters))
        self._following += 1
        return _Candidate(self._following - 1, entry, self._filter(entry, self.filters))

    def _filter(self, entry: Entry, known: Mapping[str, Filter]) -> Filter | None:
        expression = entry.spec.events.filter
        if expression is None:
            return None
        if expression not in self.filters:
            self.filters[expression] = known.get(expression) or compile_filter(expression)
        return self.filters[expression]

    def _place(self, now: Collection[_Candidate], before: Collection[_Candidate], uids: Collection[str]) -> None:
        """Puts candidates into the lists of their patterns, in place of those of these UIDs, of whom `before` are."""
        touched = dict.fromkeys(chain.from_iterable(candidate.patterns for candidate in chain(before, now)))
        lists = {
            pattern: [candidate for candidate in self._list(pattern) if candidate.entry.uid not in uids]
            for pattern in touched
        }
        for candidate in now:
            for pattern in candidate.patterns:
                lists[pattern].append(candidate)
        for pattern, candidates in lists.items():
            candidates.sort(key=_position)
            self._set_list(pattern, candidates)

    def _list(self, pattern: str) -> Sequence[_Candidate]:
        if pattern == "*":
            return self._every
        return self._below.get(pattern[:-1], ()) if pattern.endswith(".*") else self._exact.get(pattern, ())

    def _set_list(self, pattern: str, candidates: list[_Candidate]) -> None:
        if pattern == "*":
            self._every = candidates
            return
        lists, key = (self._below, pattern[:-1]) if pattern.endswith(".*") else (self._exact, pattern)
        if candidates:
            lists[key] = candidates
        else:
            lists.pop(key, None)

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


V = TypeVar("V")


def _without(values: dict[str, V], keys: Iterable[str]) -> dict[str, V]:
    for key in keys:
        values.pop(key, None)
    return values


def _position(candidate: _Candidate) -> int:
    return candidate.position


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
