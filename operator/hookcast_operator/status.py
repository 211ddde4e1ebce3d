"""Writes what is to be said of each object: one patch for each, only where something changed, new generations first."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from hookcast_operator.api import Api, Raw, path_of
from hookcast_operator.bucket import Bucket
from hookcast_operator.conditions import Facts, condition, merge_patch, status_of
from hookcast_operator.errors import ApiRefused, ApiUnavailable, Conflict, NotFound, NotLeading
from hookcast_operator.news import News, news_of
from hookcast_operator.objects import CustomObject, Kind
from hookcast_operator.waiting import seconds_after, wait_for

GROUP = "hookcast.dev/v1alpha1"
PLURALS: dict[Kind, str] = {"WebhookSubscription": "webhooksubscriptions", "WebhookSource": "webhooksources"}
IN_FLIGHT = 8
"""More write no faster: an edit's publication would wait behind them in the API server."""
RATE, BURST = 20.0, 200
"""Of what is no new generation: one fault of the dispatcher may change every status at once."""
FRESH_SECONDS = 1.0
"""How long a new line may take to reach every pod before its status is written without that."""
RETRY_SECONDS = (1.0, 2.0, 5.0, 15.0, 60.0)
REFUSED_SECONDS = 60.0
_AT_ONCE = 100
"""Statuses made up before others get their turn."""

_log = structlog.get_logger("hookcast.operator.status")


@dataclass(frozen=True, slots=True)
class Known:
    """An object as it is known, and what its status follows from."""

    found: CustomObject
    facts: Facts


class StatusWriter:
    """Lives as long as the operator leads; `run` is its one task.

    `known` gives what is known of an object, or None if it is gone; `written` is told the API server's answer; `turn`
    is waited for before each write, so that statuses never delay a publication.
    """

    def __init__(
        self,
        api: Api,
        *,
        known: Callable[[str], Known | None],
        written: Callable[[CustomObject, Raw], None],
        tell: Callable[[News], None],
        may_write: Callable[[], None],
        turn: Callable[[], Awaitable[object]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._known = known
        self._written = written
        self._tell = tell
        self._may_write = may_write
        self._turn = turn
        self._clock = clock
        self._due: dict[str, float] = {}
        self._fresh: set[str] = set()
        self._wake = asyncio.Event()
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._bucket = Bucket(RATE, BURST)
        self._waiting: dict[str, asyncio.Task[None]] = {}
        """Writes that wait for the bucket; a new generation's takes the place of an older one's."""
        self._writing: set[str] = set()
        self._failures: Counter[str] = Counter()
        """Writes that failed in a row."""

    @property
    def queue(self) -> int:
        """Objects whose status is still to be looked at or written."""
        return len(self._due) + len(self._waiting) + len(self._writing)

    def fresh(self, uids: Iterable[str]) -> None:
        """Lines that were just stored: looked at when every pod has them, or after a while without that."""
        at = self._clock() + FRESH_SECONDS
        for uid in uids:
            self._fresh.add(uid)
            self._due[uid] = min(at, self._due.get(uid, at))
        self._wake.set()

    def look(self, uids: Iterable[str]) -> None:
        """Has these looked at now; fresh ones at their time, and at once when that is past."""
        now = self._clock()
        for uid in uids:
            if uid not in self._fresh or uid not in self._due:
                self._due[uid] = now
        self._wake.set()

    def taken(self) -> None:
        """Every pod has what was stored: fresh lines need not wait any longer."""
        now = self._clock()
        for uid in self._fresh & self._due.keys():
            self._due[uid] = now
        self._wake.set()

    async def run(self) -> None:
        """Writes until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._wake.clear()
                await self._round(group)
                await wait_for(self._wake, self._next())

    async def _round(self, group: asyncio.TaskGroup) -> None:
        now = self._clock()
        due = [uid for uid, at in self._due.items() if at <= now and uid not in self._writing]
        due.sort(key=lambda uid: uid not in self._fresh)
        for number, uid in enumerate(due, 1):
            if uid in self._writing:  # by now
                continue
            del self._due[uid]
            try:
                change = self._change(uid)
            except Exception:  # noqa: BLE001  one object must not stop the others
                _log.exception("status.defect", uid=uid)
                continue
            if change is not None and change.is_new:
                if waiting := self._waiting.pop(uid, None):
                    waiting.cancel()
                self._writing.add(uid)
                group.create_task(self._write(uid), name=f"status of {uid}")
            elif change is not None and uid not in self._waiting:
                self._waiting[uid] = group.create_task(self._write_later(uid), name=f"status of {uid}")
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)

    def _next(self) -> float | None:
        """Seconds until something is due; what is being written is looked at when that is done."""
        at = min((at for uid, at in self._due.items() if uid not in self._writing), default=None)
        return None if at is None else max(0.0, at - self._clock())

    def _change(self, uid: str) -> "_Change | None":
        known = self._known(uid)
        if known is None:
            self._fresh.discard(uid)
            return None
        before = known.found.status
        status = status_of(known.facts, before, datetime.now(UTC))
        is_new = uid in self._fresh or before.get("observedGeneration") != status["observedGeneration"]
        patch = merge_patch(before, status)
        if condition(status, "Programmed").get("status") == "True" and not patch:
            self._fresh.discard(uid)
        return _Change(known.found, patch, is_new) if patch else None

    async def _write_later(self, uid: str) -> None:
        await self._bucket.wait()
        del self._waiting[uid]
        self._writing.add(uid)
        await self._write(uid)

    async def _write(self, uid: str) -> None:
        again: float | None = None
        try:
            async with self._slots:
                await self._turn()
                change = self._change(uid)  # what was waited for may have changed what is to be said
                if change is not None:
                    self._may_write()
                    await self._send(change)
        except NotFound:
            pass
        except (ApiUnavailable, Conflict, NotLeading) as error:
            _log.debug("status not written", uid=uid, problem=str(error))
            again = seconds_after(self._failures[uid], RETRY_SECONDS)
        except ApiRefused as error:
            again = REFUSED_SECONDS
            _log.warning("status refused", uid=uid, problem=str(error))
        except Exception:  # noqa: BLE001  one object must not stop the others
            again = REFUSED_SECONDS
            _log.exception("status.defect", uid=uid)
        finally:
            self._writing.discard(uid)
            if again is None:
                del self._failures[uid]
            else:
                self._failures[uid] += 1
                self._due.setdefault(uid, self._clock() + again)
            self._wake.set()

    async def _send(self, change: "_Change") -> None:
        identity = change.found.identity
        path = path_of(GROUP, PLURALS[identity.kind], identity.namespace, identity.name, "status")
        # In the version that it was made up for (else 409): the object may have changed, or be another of its name.
        metadata = {"uid": identity.uid, "resourceVersion": str(change.found.version)}
        try:
            answer = await self._api.merge(path, {"metadata": metadata, "status": change.patch})
        except Conflict:
            await self._look_again(change.found)
            raise
        self._written(change.found, answer)
        after = answer.get("status") or {}
        if condition(after, "Programmed").get("status") == "True":
            self._fresh.discard(identity.uid)
        for news in news_of(identity, change.found.status, after):
            self._tell(news)

    async def _look_again(self, found: CustomObject) -> None:
        """Learns of the newest version, which no watch may have told."""
        identity = found.identity
        collection = path_of(GROUP, PLURALS[identity.kind], identity.namespace)
        for raw in await self._api.list(collection, fieldSelector=f"metadata.name={identity.name}"):
            self._written(found, raw)


@dataclass(frozen=True, slots=True)
class _Change:
    found: CustomObject
    patch: Raw
    is_new: bool
