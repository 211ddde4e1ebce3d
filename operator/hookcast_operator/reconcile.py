"""Compiles, publishes, and has the results told: what is stored is compared with what should be, again and again."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

import structlog

from hookcast_core.errors import HookcastError, InvalidInput, Reason
from hookcast_core.versions import Verdict, Version, judge
from hookcast_operator.compile import Compiled, Compiler, Judgement, Refusal, WantedSecret, World, path_of_line
from hookcast_operator.ledger import Ledger
from hookcast_operator.objects import Name
from hookcast_operator.observed import Observed
from hookcast_operator.store import ConfigurationStore, Published
from hookcast_operator.waiting import seconds_after

QUIET_SECONDS = 0.05
"""Changes come in bursts: one publication for all that come within this time of each other…"""
LATEST_SECONDS = 0.25
"""…but none waits longer than this."""
PASSED_OVER = 8
"""Changes that are found not to fit, in one publication at the ceiling; each costs some ten trials."""
RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0)

_log = structlog.get_logger("hookcast.operator.reconcile")


class Reconciler:
    """Lives as long as the operator leads; `run` is its one task.

    `on_published` is told each configuration that is stored, the UIDs of lines that are new in it, and those of objects
    that were judged anew; `want` which signing Secrets are to be made, `look_for` which Secrets are missed.
    """

    def __init__(
        self,
        observed: Observed,
        compiler: Compiler,
        store: ConfigurationStore,
        ledger: Ledger,
        *,
        on_published: Callable[[Published, list[str], list[str]], None],
        want: Callable[[Iterable[WantedSecret]], None],
        look_for: Callable[[Iterable[Name]], None],
        on_seconds: Callable[[float], None],
    ) -> None:
        self._observed = observed
        self._compiler = compiler
        self._store = store
        self._ledger = ledger
        self._on_published = on_published
        self._want = want
        self._look_for = look_for
        self._on_seconds = on_seconds
        self._dirty = asyncio.Event()
        self._changed_at = 0.0
        self._read: frozenset[Name] = frozenset()
        self._kept = 0
        self._too_large: set[tuple[str, int]] = set()
        """Changes for which there was no room, though there was some for others."""
        self.hidden: set[Name] = set()
        self.rests = asyncio.Event()
        """Set while nothing is compiled, stored or pushed: what can wait, waits for it."""
        self.rests.set()
        self.compiled = Compiled({}, (), frozenset())
        self.published: Published | None = None

    @property
    def judgements(self) -> Mapping[str, Judgement]:
        """The newest, by UID."""
        return self.compiled.judgements

    def changed(self) -> None:
        """Something changed that matters."""
        self._changed_at = time.monotonic()
        self._dirty.set()

    def secret_changed(self, name: Name) -> None:
        """A Secret changed: it matters if an object refers to it, which is not known of what is just being compiled."""
        if name in self._read or not self.rests.is_set():
            self.changed()

    def verify(self) -> None:
        """Has what is stored compared anew."""
        self._store.forget()
        self.changed()

    def surpass(self, version: Version) -> None:
        """A pod has a configuration that it would not give up for what is stored.

        As after the cluster was restored from an older backup, or where the clock of whoever led before was ahead.
        """
        if self.published is not None and judge(self.published.version, version) is Verdict.STALE:
            _log.warning("a pod has a later configuration than what is stored", sequence=version.sequence)
            self._store.surpass(version)
            self.changed()

    async def run(self) -> None:
        """Reconciles until cancelled."""
        failures = 0
        while True:
            await self._dirty.wait()
            await self._quiet()
            self._dirty.clear()
            self.rests.clear()
            try:
                await self._reconcile()
                failures = 0
            except HookcastError as error:
                _log.warning("not published", problem=str(error), kind=type(error).__name__)
                self.changed()
                self.rests.set()
                await asyncio.sleep(seconds_after(failures, RETRY_SECONDS))
                failures += 1
            finally:
                self.rests.set()

    async def _quiet(self) -> None:
        """Waits until nothing changes for a moment, within bounds."""
        began = time.monotonic()
        while True:
            now = time.monotonic()
            wait = min(self._changed_at + QUIET_SECONDS, began + LATEST_SECONDS) - now
            if wait <= 0:
                return
            await asyncio.sleep(wait)

    async def _reconcile(self) -> None:
        began = time.monotonic()
        observed = self._observed
        namespaces = {found.identity.namespace for found in observed.objects.objects.values()} | {*observed.unlisted}
        allowed = {namespace: observed.namespace_is_allowed(namespace) for namespace in namespaces}
        world = World(
            dict(observed.objects.objects),
            dict(observed.secrets.objects),
            frozenset(self.hidden),
            allowed.__getitem__,
            observed.unlisted,
        )
        # Off the loop: one filter may cost tenths of a second, and pods and probes wait for no compilation.
        compiled = await asyncio.to_thread(self._compiler.compile, world)
        self._read = compiled.read
        judgements = list(compiled.judgements.values())
        self._want([judged.wants_secret for judged in judgements if judged.wants_secret is not None])
        self._look_for({name for judged in judgements if judged.lacks_secrets for name in judged.missing})
        published, compiled = await self._publish(compiled)
        self._compiler.stored(compiled.judgements)
        before = self.compiled.judgements
        self.compiled, self.published = compiled, published
        fresh = self._ledger.published(compiled.judgements.values(), published.sequence)
        if fresh:
            self._on_seconds(time.monotonic() - began)
        judged = [uid for uid, judgement in compiled.judgements.items() if before.get(uid) is not judgement]
        self._on_published(published, fresh, judged)

    async def _publish(self, compiled: Compiled) -> tuple[Published, Compiled]:
        """Stores what fits: past the ceiling what is in force stays, and changes are left out, and told so."""
        judgements = compiled.judgements
        try:
            return await self._store.publish(*_lines(judgements)), compiled
        except InvalidInput as error:
            if error.reason is not Reason.CAPACITY_EXCEEDED:
                raise
            detail = error.detail
        before = self._ledger.lines
        changes = _changes(judgements, before, self._too_large)
        judged = await self._fitting(judgements, before, changes, detail)
        compiled = replace(compiled, judgements=judged)
        published = await self._store.publish(*_lines(compiled.judgements))
        if published is not self.published:
            self.changed()  # what is stored now may let something in that had to wait for it
        return published, compiled

    async def _fitting(
        self, judgements: Mapping[str, Judgement], before: Mapping[str, bytes], changes: list[Judgement], detail: str
    ) -> dict[str, Judgement]:
        """As many changes as fit; one that does not is passed over, so that it keeps out no others."""
        for _ in range(PASSED_OVER):
            fits = await self._room(judgements, before, changes, detail)
            if fits >= len(changes) or _change_of(changes[fits]) in self._too_large:
                break
            self._too_large.add(_change_of(changes[fits]))
            changes = [*changes[:fits], *changes[fits + 1 :], changes[fits]]
        else:
            fits = await self._room(judgements, before, changes, detail)
        self._too_large &= {_change_of(judged) for judged in changes}
        return fitting(judgements, before, changes[:fits], detail)

    async def _room(
        self, judgements: Mapping[str, Judgement], before: Mapping[str, bytes], changes: list[Judgement], detail: str
    ) -> int:
        """How many of the changes fit, found by halving; the number of last time and the next one are tried first."""
        fits, fits_not = 0, len(changes) + 1
        while fits_not - fits > 1:
            likely = (number for number in (self._kept, self._kept + 1) if fits < number < fits_not)
            middle = next(likely, (fits + fits_not) // 2)
            if await self._store.fits(*_lines(fitting(judgements, before, changes[:middle], detail))):
                fits = middle
            else:
                fits_not = middle
        self._kept = fits
        return fits


def fitting(
    judgements: Mapping[str, Judgement], before: Mapping[str, bytes], chosen: Iterable[Judgement], detail: str
) -> dict[str, Judgement]:
    """The judgements with these changes to the lines of `before`; others are refused for want of room.

    Nothing that is in force is lost by it.
    """
    refusal = Refusal(Reason.CAPACITY_EXCEEDED, f"{detail}; remove some, or install another dispatcher")
    uids = {judged.identity.uid for judged in chosen}
    left_out = (uid for uid, judged in judgements.items() if _is_change(judged, before) and uid not in uids)
    return {**judgements, **{uid: judgements[uid].refused(refusal, before.get(uid)) for uid in left_out}}


def _is_change(judged: Judgement, before: Mapping[str, bytes]) -> bool:
    return judged.line not in (None, before.get(judged.identity.uid))


def _change_of(judged: Judgement) -> tuple[str, int]:
    return judged.identity.uid, hash(judged.line)


def _changes(
    judgements: Mapping[str, Judgement], before: Mapping[str, bytes], too_large: Collection[tuple[str, int]]
) -> list[Judgement]:
    """Those whose line is another than before, in the order in which they get room.

    Of edits those that need least room come first, then the oldest new objects, and at last what did not fit before. A
    source whose path another one has in force waits until that one's change is stored: both might not fit together.
    """
    paths = {
        path: uid
        for uid, line in before.items()
        if uid in judgements
        and judgements[uid].identity.kind == "WebhookSource"
        and (path := path_of_line(line)) is not None
    }

    def order(judged: Judgement) -> tuple[bool, bool, int, str, str]:
        line, identity = before.get(judged.identity.uid), judged.identity
        growth = len(judged.line or b"") - len(line) if line else 0
        return _change_of(judged) in too_large, line is None, growth, identity.created, identity.uid

    def may(judged: Judgement) -> bool:
        uid = judged.identity.uid
        return _is_change(judged, before) and paths.get(judged.path or "", uid) == uid

    return sorted(filter(may, judgements.values()), key=order)


def _lines(judgements: Mapping[str, Judgement]) -> tuple[list[bytes], list[bytes]]:
    """Those of subscriptions, and those of sources."""
    entries: list[bytes] = []
    sources: list[bytes] = []
    for judged in judgements.values():
        if judged.line is not None:
            (entries if judged.identity.kind == "WebhookSubscription" else sources).append(judged.line)
    return entries, sources
