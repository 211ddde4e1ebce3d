"""Leases lanes of one partition and sees to them. Everything about a lane is decided by the one that leases it."""

import asyncio
from collections.abc import Callable, Iterable

import structlog

from hookcast_app.configuration import CurrentConfiguration
from hookcast_app.delivery.attempt import Attempted, Attempts
from hookcast_app.delivery.disabling import Disabling
from hookcast_app.delivery.gates import Gates
from hookcast_app.delivery.lane import Lane
from hookcast_app.delivery.ordering import Order
from hookcast_app.delivery.sharing import LeftAlone, Part
from hookcast_app.delivery.store import FAR, LaneStore, Turn
from hookcast_app.delivery.targets import Disposition, Targets, fingerprint
from hookcast_app.delivery.turns import ALL_READY_BYTES, PARK_MS, Turns
from hookcast_app.delivery.work import Work
from hookcast_app.health import PATIENCE_SECONDS
from hookcast_core.configuration import Entry
from hookcast_core.errors import Unavailable
from hookcast_core.pace import Pace

_log = structlog.get_logger("hookcast.delivery")

POLL_SECONDS = 1.0
RENEW_SECONDS = 10.0
UNKNOWN_PARK_MS = 1_000
"""How long a lane is left alone for everybody by a process that does not know all subscriptions."""
IDLE_SECONDS = 10.0
"""A lane without work is given back after so long."""


class Dispatcher:
    """Lives as long as the app. `run()` holds all its tasks.

    `part` says what its lanes have of their subscriptions' limits, `gates` how far lanes in order may go.
    """

    def __init__(
        self,
        store: LaneStore,
        configuration: CurrentConfiguration,
        targets: Targets,
        attempts: Attempts,
        disabling: Disabling,
        clock: Callable[[], int],
        observe: Callable[[str, Attempted], None],
        *,
        gates: Gates,
        part: Callable[[], Part] = Part,
        ready_bytes: Callable[[], int] = lambda: ALL_READY_BYTES,
    ) -> None:
        self._gates = gates
        self._part = part
        self._store = store
        self._configuration = configuration
        self._targets = targets
        self._work = Work(targets, attempts, disabling, clock, want=self._want, observe=observe)
        self._turns = Turns(
            store,
            clock,
            feed=self._work.feed,
            is_disabled=disabling.stays,
            given_back=self._given_back,
            ready_bytes=ready_bytes,
        )
        self._lanes = self._turns.lanes
        self._left_alone = LeftAlone()
        self._look = asyncio.Event()
        self._fewer = asyncio.Event()
        self._stopping = False
        self._paused = False
        self._polled_at: float | None = None
        self._horizon = FAR
        """How far ahead, in ms, to look for lanes: at first also those that a process with our token left leased."""
        configuration.listen(self._changed)

    def dropped(self) -> Iterable[tuple[str, int]]:
        """Results dropped, by why."""
        return (self._turns.counts + self._work.counts).items()

    @property
    def lanes_held(self) -> int:
        """How many lanes are leased now."""
        return len(self._lanes)

    @property
    def lanes_to_share(self) -> list[Lane]:
        """Those that could be passed on to another process."""
        return [lane for lane in self._lanes.values() if lane.taken and not lane.leaving]

    @property
    def breakers_open(self) -> int:
        """How many of them attempt nothing because their endpoints keep failing."""
        return sum(lane.breaker.is_open for lane in self._lanes.values())

    @property
    def in_flight(self) -> int:
        """How many attempts are under way."""
        return sum(lane.in_flight for lane in self._lanes.values())

    def check(self, now: float) -> str | None:
        """Why, at loop time `now`, no lanes can be leased, or None. As patient as the watch of Redis is."""
        if self._polled_at is None or now - self._polled_at > PATIENCE_SECONDS:
            return "the dispatcher has not reached Redis"
        return None

    # What others tell it

    def wake(self, uid: str, reference: str = "") -> None:
        """Something was published to this lane, or it wants attention for another reason: one delivery may have it."""
        lane = self._lanes.get(uid)
        if lane is None and self._takes(uid):
            lane = self._lanes[uid] = Lane(uid)
            self._apply(lane)
        if lane is not None:
            lane.wake(reference)
            self._want(lane)

    def _takes(self, uid: str) -> bool:
        passed_on = self._left_alone.has(uid, asyncio.get_running_loop().time())
        return not (self._stopping or self._paused or passed_on)

    def look(self) -> None:
        """Looks for lanes that want attention at once: after signals may have been missed."""
        self._look.set()

    def pass_on(self, lane: Lane) -> None:
        """Gives a lane back so that another process takes it."""
        self._left_alone.add(lane.uid, asyncio.get_running_loop().time())
        self._work.leave(lane)

    def start_over(self) -> None:
        """Gives every lane back when its attempts have ended, to be taken and read anew: Redis may know less now."""
        for lane in list(self._lanes.values()):
            self._work.leave(lane)
        self._horizon = FAR
        self.look()

    def pause(self) -> None:
        """Takes nothing more, lets attempts end and gives the lanes back, until `resume`; may be told repeatedly."""
        if not self._paused:
            self._paused = True
            for lane in list(self._lanes.values()):
                self._work.leave(lane)

    def resume(self) -> None:
        """Works again; harmless if it was not paused."""
        if self._paused:
            self._paused = False
            self.look()

    def _want(self, lane: Lane) -> None:
        self._turns.want(lane)

    def _given_back(self, lane: Lane, turn: Turn | None) -> None:
        self._work.forget(lane)
        self._fewer.set()
        if turn is not None and lane.park_ms < turn.park_ms:
            self.wake(lane.uid)  # it was parked for what no longer holds
        elif turn is None or not turn.park_ms:
            self.look()  # nobody may hold it, if Redis lost its data

    # What the configuration says

    def _changed(self, uids: Iterable[str]) -> None:
        for uid in uids:
            lane = self._lanes.get(uid)
            if lane is None:
                self.wake(uid)
            else:
                self._apply(lane)

    def follow(self) -> None:
        """Has all lanes follow the configuration in force anew: there are more partitions."""
        for lane in list(self._lanes.values()):
            self._apply(lane)
            lane.wake()
            self._want(lane)

    def _apply(self, lane: Lane) -> None:
        """Makes a lane follow the configuration in force."""
        disposition = self._targets.disposition(lane.uid)
        entry = self._configuration.entries.get(lane.uid)
        if disposition is Disposition.DELIVER and entry is not None and lane.may_deliver(entry.spec.delivery):
            self._follow(lane, entry)
            if lane.taken:
                self._work.feed(lane)  # what kept it from starting more may no longer hold
        elif disposition is Disposition.HOLD and entry is not None:
            lane.max_backlog = entry.spec.delivery.max_backlog
            self._work.hold(lane)
        elif disposition is Disposition.DISCARD and not lane.taken:
            lane.discarding, lane.limit = True, 1
        elif disposition is not Disposition.DISCARD or not lane.discarding:
            # Given back; whoever looks at it next follows the new disposition.
            # Others may know more than a process whose configuration is not whole.
            park_ms = PARK_MS if self._configuration.complete else UNKNOWN_PARK_MS
            self._work.leave(lane, park_ms if disposition is Disposition.HOLD else 0)

    def _follow(self, lane: Lane, entry: Entry) -> None:
        delivery = entry.spec.delivery
        if not lane.taken:
            lane.order = Order() if delivery.ordering == "FIFO" else None
        lane.until_ms = self._gates.until(lane.uid) if lane.order is not None else None
        if lane.until_ms is not None:
            self.look()
        part = self._part()
        lane.limit = part.count(delivery.max_in_flight)
        lane.park_ms = 0
        lane.max_backlog = delivery.max_backlog
        lane.breaker.follow(delivery.circuit_breaker, fingerprint(entry))
        rate = delivery.rate_limit
        lane.pace = Pace(rate.requests, rate.per, part.of) if rate else None

    # Its tasks

    async def run(self) -> None:
        """Works until cancelled, or until a task of it dies."""
        async with asyncio.TaskGroup() as tasks:
            self._work.tasks = tasks
            tasks.create_task(self._turns.run(), name="dispatcher turns")
            tasks.create_task(self._poll(), name="dispatcher poll")

    async def drain(self, seconds: float) -> None:
        """Starts nothing new, lets attempts end for `seconds`, settles them and gives the lanes back."""
        self._stopping = True
        for lane in list(self._lanes.values()):
            self._work.leave(lane)
        try:
            async with asyncio.timeout(seconds):
                while self._lanes:
                    self._fewer.clear()
                    await self._fewer.wait()
        except TimeoutError:
            _log.warning("dispatcher.drain_timeout", in_flight=self.in_flight)

    async def _poll(self) -> None:
        while not self._stopping:
            self._look.clear()
            try:
                await self._find()
                await self._open_gates()
                self._polled_at = asyncio.get_running_loop().time()
            except Unavailable as error:
                self._turns.unavailable(error)
            self._tend(asyncio.get_running_loop().time())
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await self._look.wait()
            except TimeoutError:
                continue

    async def _open_gates(self) -> None:
        """Lets lanes in order go on for which everything of an earlier layout has ended."""
        for lane in [lane for lane in self._lanes.values() if lane.until_ms is not None]:
            await self._gates.look(lane.uid)
            if (until_ms := self._gates.until(lane.uid)) != lane.until_ms:
                lane.until_ms = until_ms
                lane.wake()
                self._want(lane)

    async def _find(self) -> None:
        """Takes the lanes that want attention; whoever starts over meanwhile has them looked for once more."""
        horizon, self._horizon = self._horizon, 0
        is_done = False
        try:
            for uid in await self._store.due(10_000 if horizon else 500, horizon):
                self.wake(uid)
            is_done = not self._paused
        finally:
            if not is_done:
                self._horizon = self._horizon or horizon

    def _tend(self, now: float) -> None:
        """Renews leases, and gives back the lanes that have been idle."""
        for lane in list(self._lanes.values()):
            soon = lane.due_at is not None and lane.due_at < now + IDLE_SECONDS
            if lane.idle and not soon and now - lane.busy_at > IDLE_SECONDS:
                self._work.leave(lane)
            elif now - lane.renewed_at > RENEW_SECONDS:
                self._want(lane)
