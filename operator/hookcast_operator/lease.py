"""Who may write: the holder of a Lease (coordination.k8s.io/v1), renewed every few seconds.

The decision is `decide`, pure; a holder's time is measured by our clock from when we saw it renew, as clocks of two
machines differ. Whoever cannot renew in time writes nothing until it can; whoever sees another holder ends.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

import structlog

from hookcast_operator.api import Api, Raw, path_of
from hookcast_operator.errors import AlreadyExists, ApiRefused, ApiUnavailable, Conflict, NotFound, NotLeading

DURATION_SECONDS = 15
"""Without a renewal for so long the lease may be taken by another."""
RENEW_SECONDS = 3.0
"""Between two renewals, and two looks at another's lease."""
DEADLINE_SECONDS = 10.0
"""After so long without a renewal the holder writes nothing: well before another may take the lease."""
_GROUP = "coordination.k8s.io/v1"

_log = structlog.get_logger("hookcast.operator.lease")


@dataclass(frozen=True, slots=True)
class Seen:
    """Another's lease, and when (monotonic seconds) it was first seen like this."""

    holder: str
    renewed: str
    seconds: float
    since: float


class Step(Enum):
    """What to do about the lease."""

    TAKE = "take"
    WAIT = "wait"
    LOST = "lost"


def decide(me: str, seen: Seen, now: float, *, was_mine: bool) -> Step:
    """Ours or nobody's is taken, or renewed; another's is waited for, and taken when it was not renewed in time.

    An operator that held it and finds another there has been overtaken: what it knows may be old.
    """
    if seen.holder in {me, ""}:
        return Step.TAKE
    if was_mine:
        return Step.LOST
    return Step.TAKE if now - seen.since > seen.seconds else Step.WAIT


class Lease:
    """Lives as long as the process; `run` is its one task. It ends by an exception if another holds the lease."""

    def __init__(
        self,
        api: Api,
        *,
        name: str,
        namespace: str,
        me: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._name = name
        self._namespace = namespace
        self._me = me
        self._clock = clock
        self._renewed: float | None = None
        self._seen: Seen | None = None
        self.acquired = asyncio.Event()
        """Set when the lease is held for the first time."""

    @property
    def is_held(self) -> bool:
        """Whether it is ours now, as far as can be known without asking."""
        return self._renewed is not None and self._clock() - self._renewed < DEADLINE_SECONDS

    def check(self) -> None:
        """Raises NotLeading unless the lease is held."""
        if not self.is_held:
            raise NotLeading("the lease could not be renewed in time")

    async def run(self) -> None:
        """Takes the lease and renews it until cancelled; raises NotLeading when another took it."""
        while True:
            try:
                await self._turn()
            except (ApiUnavailable, Conflict, AlreadyExists) as error:
                _log.warning("the lease was not renewed", problem=str(error))
            except ApiRefused as error:
                _log.error("the lease was refused", problem=str(error))
            await asyncio.sleep(RENEW_SECONDS)

    async def release(self) -> None:
        """Gives the lease back, so that a successor need not wait."""
        if not self.is_held:
            return
        try:
            found = await self._api.get(self._path())
            if found["spec"].get("holderIdentity") == self._me:
                found["spec"]["holderIdentity"] = ""
                await self._api.replace(self._path(), found)
        except (ApiRefused, ApiUnavailable) as error:
            _log.warning("the lease was not given back", problem=str(error))
        self._renewed = None

    async def _turn(self) -> None:
        asked = self._clock()
        try:
            found = await self._api.get(self._path())
        except NotFound:
            await self._api.create(path_of(_GROUP, "leases", self._namespace), self._lease(None))
            self._held(asked)
            return
        self._seen = _seen(found, self._seen, asked)
        step = decide(self._me, self._seen, asked, was_mine=self._renewed is not None)
        if step is Step.LOST:
            self._renewed = None
            raise NotLeading(f"the lease is held by {self._seen.holder}")
        if step is Step.TAKE:
            await self._api.replace(self._path(), self._lease(found))
            self._held(asked)

    def _held(self, asked: float) -> None:
        if self._renewed is None:
            _log.info("leading", me=self._me)
        self._renewed = asked
        self.acquired.set()

    def _lease(self, found: Raw | None) -> Raw:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = dict(found["spec"]) if found else {}
        if spec.get("holderIdentity") != self._me:
            spec |= {"acquireTime": now, "leaseTransitions": int(spec.get("leaseTransitions") or 0) + 1}
        spec |= {"holderIdentity": self._me, "leaseDurationSeconds": DURATION_SECONDS, "renewTime": now}
        metadata = found["metadata"] if found else {"name": self._name}
        return {"apiVersion": _GROUP, "kind": "Lease", "metadata": metadata, "spec": spec}

    def _path(self) -> str:
        return path_of(_GROUP, "leases", self._namespace, self._name)


def _seen(found: Raw, before: Seen | None, now: float) -> Seen:
    spec = found.get("spec") or {}
    holder, renewed = spec.get("holderIdentity") or "", spec.get("renewTime") or ""
    seconds = float(spec.get("leaseDurationSeconds") or DURATION_SECONDS)
    if before is not None and (before.holder, before.renewed) == (holder, renewed):
        return before
    return Seen(holder, renewed, seconds, now)
