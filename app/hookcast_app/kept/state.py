"""What one process knows of what is kept by REST, and has in force: it follows what is stored, change by change."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from itertools import islice
from typing import NamedTuple, TypeVar

import msgspec
import structlog

from hookcast_app import garbage
from hookcast_app.configuration import CurrentConfiguration
from hookcast_app.kept.models import Address, Kept, KeptSubscription, Value, entry_of
from hookcast_app.kept.pause import Pause
from hookcast_app.kept.store import BATCH, KeptStore, News, State
from hookcast_core.configuration import Entry
from hookcast_core.egress import EgressPolicy
from hookcast_core.errors import InvalidInput

_log = structlog.get_logger("hookcast.subscriptions")
PUT_AT_ONCE = 128
"""Changes that are put in force in one tick of the loop."""
MANY = 1_000
"""Subscriptions from which on the collector of cycles must not look at all of them while they are made."""
K = TypeVar("K")
V = TypeVar("V")


class _Opened(NamedTuple):
    """Values as they are stored now; what could not be opened, and what an older key sealed, of everything."""

    values: dict[Address, Value | None]
    closed: frozenset[Address]
    old: frozenset[Address]


class _Resolved(NamedTuple):
    """Entries that are to be put in force (None is taken away), and by UID what is wrong, of everything."""

    entries: dict[str, Entry | None]
    problems: dict[str, str]


class KeptState:
    """Lives as long as the app; one call at a time. Long work is done in pieces; its result is in force at once."""

    def __init__(
        self, store: KeptStore, configuration: CurrentConfiguration, policy: EgressPolicy, pause: Pause
    ) -> None:
        self._store = store
        self._configuration = configuration
        self._policy = policy
        self._pause = pause
        self._known = State()
        self._sealed: dict[Address, bytes] = {}
        self._closed: frozenset[Address] = frozenset()
        self._old: frozenset[Address] = frozenset()
        self._problems: dict[str, str] = {}
        self._told: tuple[str, ...] = ()
        self.kept = Kept()

    @property
    def is_closed(self) -> bool:
        """Whether something that is stored cannot be opened."""
        return bool(self._closed)

    @property
    def is_to_be_sealed_anew(self) -> bool:
        """Whether something was sealed with an older key, and everything can be opened."""
        return bool(self._old) and not self._closed and self._store.can_keep

    async def load(self) -> None:
        """Reads what changed and puts it in force. Raises Unavailable."""
        news = await self._store.news(self._known, self._sealed)
        if news.state.version < self._known.version:
            # Redis came back empty: what is known here is what is kept.
            await self.restore()
        else:
            await self._take(news)

    async def change(self, values: Mapping[Address, Value | None]) -> bool:
        """Stores or (None) deletes values, and puts that in force; False if something else was changed meanwhile.

        Raises Unavailable.
        """
        sealed: dict[Address, bytes | None] = {}
        for address, value in values.items():
            sealed[address] = None if value is None else self._store.seal(msgspec.json.encode(value))
            await self._pause()
        state = await self._store.change(self._known.version, sealed)
        if state is not None:
            await self._take(News(state, sealed))
        return state is not None

    async def seal_some_anew(self) -> None:
        """After a rotation of the encryption keys: after the last the older one may be taken away. Raises Unavailable.

        Several processes that do so at the same time share the work.
        """
        some = {address: self.kept.get(address) for address in islice(self._old, BATCH)}
        if not await self.change(some):
            await self.load()
        elif not self._old:
            _log.info("kept.sealed_anew", subscriptions=len(self.kept.subscriptions), secrets=len(self.kept.secrets))

    async def restore(self) -> None:
        """Writes what is known to a Redis that came back empty. Raises Unavailable."""
        await self._store.restore(self._known.version, self._sealed)

    async def _take(self, news: News) -> None:
        """Puts in force what is stored now."""
        opened = await self._open(news.values)
        changes = {
            address: value
            for address, value in opened.values.items()
            if value != self.kept.get(address) or (address in self._closed) != (address in opened.closed)
        }
        kept = await self._changed(changes)
        uids = kept.affected(changes)
        with garbage.much_that_stays() if len(uids) > MANY else nullcontext():
            resolved = await self._resolve(kept, uids, opened.closed)
            # Whoever is cancelled in mid-way has taken nothing: it is read again.
            for some in _batches(resolved.entries):
                self._configuration.keep(some, self._told)
                await self._pause()
        self._commit(news, kept, opened, resolved.problems)

    def _commit(self, news: News, kept: Kept, opened: _Opened, problems: dict[str, str]) -> None:
        for address, value in news.values.items():
            if value is None:
                self._sealed.pop(address, None)
            else:
                self._sealed[address] = value
        self.kept, self._known, self._closed, self._old = kept, news.state, opened.closed, opened.old
        self._problems = problems
        self._tell()

    def _tell(self) -> None:
        """Has problems shown, and logs new ones."""
        problems = tuple(self._problems.values())
        if self._closed:
            names = ", ".join(f"{what.removesuffix('s')} {name}" for what, name in sorted(self._closed)[:5])
            count = len(self._closed)
            problems += (f"{count} kept by REST cannot be opened with HOOKCAST_ENCRYPTION_KEYS: {names}",)
        for problem in dict.fromkeys(problems).keys() - self._told:
            _log.error("kept subscription refused", problem=problem)
        if problems != self._told or not self._configuration.has_kept:
            self._configuration.keep({}, problems)
        self._told = problems

    async def _open(self, sealed: Mapping[Address, bytes | None]) -> _Opened:
        values: dict[Address, Value | None] = {}
        closed, old = set(self._closed - sealed.keys()), set(self._old - sealed.keys())
        for address, value in sealed.items():
            await self._pause()
            content, is_newest = (None, True) if value is None else self._store.open(value)
            values[address] = None if content is None else _decoded(address, content)
            if value is not None and content is None:
                closed.add(address)
            elif not is_newest:
                old.add(address)
        return _Opened(values, frozenset(closed), frozenset(old))

    async def _changed(self, changes: Mapping[Address, Value | None]) -> Kept:
        kept = self.kept
        for some in _batches(changes):
            kept = kept.changed(some)
            await self._pause()
        return kept

    async def _resolve(self, kept: Kept, uids: Iterable[str], closed: frozenset[Address]) -> _Resolved:
        resolved = _Resolved({}, self._problems.copy())
        for uid in uids:
            await self._pause()
            resolved.problems.pop(uid, None)
            one = kept.subscriptions.get(uid)
            if one is None:
                # Another process may have sealed it with a key that this one is still to get: it stays as it was.
                if ("subscriptions", uid) not in closed:
                    resolved.entries[uid] = None
                continue
            try:
                resolved.entries[uid] = entry_of(one, kept.secrets, self._policy)
            except InvalidInput as error:
                resolved.problems[uid] = f"{one.namespace}/{one.name}: {error} ({error.reason})"
        return resolved


def _decoded(address: Address, content: bytes) -> Value:
    if address[0] == "subscriptions":
        return msgspec.json.decode(content, type=KeptSubscription)
    return msgspec.json.decode(content, type=dict[str, str])


def _batches(changes: Mapping[K, V]) -> Iterator[dict[K, V]]:
    left = iter(changes.items())
    while some := dict(islice(left, PUT_AT_ONCE)):
        yield some
