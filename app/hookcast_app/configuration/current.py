"""The configuration in force, swapped whole."""

from collections import Counter
from collections.abc import Callable, Mapping

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
        self._kept: tuple[Entry, ...] = ()
        self._kept_problems: tuple[str, ...] = ()
        self.sources: Mapping[str, SourceEntry] = {}
        """The webhook sources by UID."""
        self._by_path: Mapping[str, SourceEntry] = {}
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
        self._problems = problems
        self._combine(None if self._kept else matcher)

    def keep(self, entries: tuple[Entry, ...], problems: tuple[str, ...] = ()) -> None:
        """Puts in force, beside the configuration, the subscriptions that are kept by REST: all of them."""
        self._kept, self._kept_problems, self.has_kept = entries, problems, True
        self._combine(None)

    def _combine(self, matcher: Matcher | None) -> None:
        before = self.entries
        own = self.configuration.entries if self.configuration else ()
        self.matcher = matcher or Matcher((*own, *self._kept), self.matcher)
        self.problems = (*self._problems, *self._kept_problems)
        changed = frozenset(
            uid for uid in before.keys() | self.entries.keys() if _differ(before.get(uid), self.entries.get(uid))
        )
        for listener in self._listeners:
            listener(changed)

    def count_filter_errors(self, errors: Mapping[str, str]) -> None:
        """Counts filters that could not be evaluated, by subscription."""
        for uid in errors:
            self.filter_errors[uid] += 1


def _differ(before: Entry | None, now: Entry | None) -> bool:
    # Most entries are the same objects as before, and comparing them field by field takes a hundred times as long.
    return before is not now and before != now
