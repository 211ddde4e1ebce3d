"""The configuration in force, swapped whole."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from hookcast_app.subscriptions import Matcher
from hookcast_core.configuration import Configuration, Entry, SourceEntry
from hookcast_core.errors import InvalidInput, Reason

Listener = Callable[[frozenset[str]], None]
"""Told the UIDs of subscriptions that appeared, changed or went."""


class CurrentConfiguration:
    """Holds the configuration in force and its index; lives as long as the app.

    Before the first `swap` nothing matches and nothing is known to be deleted. `complete` says that where the
    configuration comes from had no problems with subscriptions: only then was one that is missing deleted by its user.
    """

    def __init__(self) -> None:
        self.configuration: Configuration | None = None
        self.matcher = Matcher(())
        self.problems: tuple[str, ...] = ()
        self.has_kept = False
        """Whether what is kept by REST was read."""
        self._problems: tuple[str, ...] = ()
        self._kept: dict[str, Entry] = {}
        self._kept_problems: tuple[str, ...] = ()
        self.sources: Mapping[str, SourceEntry] = {}
        """The webhook sources by UID."""
        self._by_path: Mapping[str, SourceEntry] = {}
        self._names: frozenset[tuple[str, str]] | None = None
        self.filter_errors: Counter[str] = Counter()
        self._listeners: list[Listener] = []

    @property
    def complete(self) -> bool:
        """Whether there is a configuration, and all of its source is in it."""
        return self.configuration is not None and not self.problems

    @property
    def entries(self) -> Mapping[str, Entry]:
        """The subscriptions by UID."""
        return self.matcher.by_uid

    def entry(self, uid: str) -> Entry:
        """The subscription of this UID. Raises InvalidInput (NotFound)."""
        found = self.entries.get(uid)
        if found is None:
            raise InvalidInput(Reason.NOT_FOUND, "subscription", "no subscription of this UID is in force")
        return found

    def source_at(self, path: str) -> SourceEntry | None:
        """The webhook source that receives at `/webhooks/` and `path`."""
        return self._by_path.get(path)

    def listen(self, listener: Listener) -> None:
        """Calls `listener` after every swap, in the swap's own loop tick."""
        self._listeners.append(listener)

    def swap(
        self, configuration: Configuration, problems: tuple[str, ...] = (), matcher: Matcher | None = None
    ) -> None:
        """Puts a validated configuration in force, all of it at once; `matcher` is its index, if there is one yet."""
        self.configuration = configuration
        self.sources = {source.uid: source for source in configuration.sources}
        self._by_path = {source.path: source for source in configuration.sources}
        self._problems, self._names = problems, None
        if matcher is None or self._kept:
            matcher = Matcher((*configuration.entries, *self._kept.values()), self.matcher)
        self._in_force(matcher)

    def keep(self, changes: Mapping[str, Entry | None], problems: tuple[str, ...] = ()) -> None:
        """Puts in force, beside the configuration, what changed of the subscriptions that are kept by REST, by UID.

        None takes one away. Costs what changed, but for what `Matcher.changed` says.
        """
        for uid, entry in changes.items():
            if entry is None:
                self._kept.pop(uid, None)
            else:
                self._kept[uid] = entry
        self._kept_problems, self.has_kept = problems, True
        self._in_force(self.matcher.changed(changes), changes.keys())

    def is_named(self, namespace: str, name: str) -> bool:
        """Whether a subscription that is not kept by REST has this name."""
        if self._names is None:
            entries = self.configuration.entries if self.configuration else ()
            self._names = frozenset((entry.namespace, entry.name) for entry in entries)
        return (namespace, name) in self._names

    def _in_force(self, matcher: Matcher, uids: Iterable[str] | None = None) -> None:
        """Swaps the index, and tells listeners, of these changes if they are known."""
        before, self.matcher = self.entries, matcher
        self.problems = (*self._problems, *self._kept_problems)
        changed = _changed(before, self.entries) if uids is None else frozenset(uids)
        for listener in self._listeners:
            listener(changed)

    def count_filter_errors(self, errors: Mapping[str, str]) -> None:
        """Counts filters that could not be evaluated, by subscription."""
        for uid in errors:
            self.filter_errors[uid] += 1


def _changed(before: Mapping[str, Entry], now: Mapping[str, Entry]) -> frozenset[str]:
    return frozenset(uid for uid in before.keys() | now.keys() if _differ(before.get(uid), now.get(uid)))


def _differ(before: Entry | None, now: Entry | None) -> bool:
    # Most entries are the same objects as before, and comparing them field by field takes a hundred times as long.
    return before is not now and before != now
