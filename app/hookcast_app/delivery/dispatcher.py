"""Takes lanes, makes their attempts and settles them. Everything about a lane is decided by the one that leases it."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable

import msgspec
import structlog

from hookcast_app.configuration import CurrentConfiguration
from hookcast_app.delivery.attempt import Attempted, Attempts
from hookcast_app.delivery.disabling import Disabling
from hookcast_app.delivery.lane import FETCHED, RESULTS, Lane
from hookcast_app.delivery.models import Place, Record
from hookcast_app.delivery.outcome import Dead
from hookcast_app.delivery.pace import Pace
from hookcast_app.delivery.store import FAR, Fetched, LaneStore, Loaded, Result, Turn
from hookcast_app.delivery.targets import Disposition, Targets
from hookcast_app.health import PATIENCE_SECONDS
from hookcast_core.configuration import Entry
from hookcast_core.errors import Reason, Unavailable

_log = structlog.get_logger("hookcast.delivery")

POLL_SECONDS = 1.0
RENEW_SECONDS = 10.0
IDLE_SECONDS = 10.0
"""A lane without work is given back after so long."""
SETTLE_SECONDS = 0.005
"""How long results wait for others to be settled with, unless there is more to do for their lane."""
PARK_MS = 30_000
"""How long nobody looks at a lane that is suspended, disabled or unknown, unless its configuration changes."""
MAX_LANES_A_TURN = 200
MAX_RESULTS_A_TURN = 512
MAX_FETCHED_A_TURN = 2_048
"""Bounds of one script, which nothing else in Redis can interrupt: some 10 ms."""
MAX_LOADS = 256
ALL_READY_BYTES = 134_217_728
"""Bodies that all lanes together keep loaded: each gets its share, so that none can take another's."""
BACK_OFF_SECONDS = 0.2


class Dispatcher:
    """Leases lanes and delivers; lives as long as the app. `run()` holds all its tasks."""

    def __init__(
        self,
        store: LaneStore,
        configuration: CurrentConfiguration,
        targets: Targets,
        attempts: Attempts,
        clock: Callable[[], int],
        observe: Callable[[str, Attempted], None],
    ) -> None:
        self._store = store
        self._configuration = configuration
        self._targets = targets
        self._attempts = attempts
        self._clock = clock
        self._observe = observe
        self._disabling = Disabling(store, configuration, clock)
        self._lanes: dict[str, Lane] = {}
        self._wanted: dict[str, Lane] = {}
        self._timers: dict[Lane, asyncio.TimerHandle] = {}
        self._work = asyncio.Event()
        self._look = asyncio.Event()
        self._given_back = asyncio.Event()
        self._settling: asyncio.TimerHandle | None = None
        self._stopping = False
        self._paused = False
        self._tasks: asyncio.TaskGroup | None = None
        self.counts: Counter[str] = Counter()
        self._polled_at: float | None = None
        self._told: str | None = None
        configuration.listen(self._changed)

    @property
    def lanes_held(self) -> int:
        """How many lanes this process leases now."""
        return len(self._lanes)

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

    def wake(self, uid: str) -> None:
        """Something was published to this lane, or it wants attention for another reason."""
        lane = self._lanes.get(uid)
        if lane is None and not self._stopping and not self._paused:
            lane = self._lanes[uid] = Lane(uid)
            self._apply(lane)
        if lane is not None:
            lane.caught_up = False
            self._want(lane)

    def look(self) -> None:
        """Looks for lanes that want attention at once: after signals may have been missed."""
        self._look.set()

    def pause(self) -> None:
        """Takes nothing more, lets attempts end and gives the lanes back, until `resume`; may be told repeatedly."""
        if not self._paused:
            self._paused = True
            for lane in list(self._lanes.values()):
                self._leave(lane)

    def resume(self) -> None:
        """Works again; harmless if it was not paused."""
        if self._paused:
            self._paused = False
            self.look()

    def _changed(self, uids: Iterable[str]) -> None:
        for uid in uids:
            lane = self._lanes.get(uid)
            if lane is None:
                self.wake(uid)
            else:
                self._apply(lane)

    def _apply(self, lane: Lane) -> None:
        """Makes a lane follow the configuration in force."""
        disposition = self._targets.disposition(lane.uid)
        if disposition is Disposition.DELIVER and not lane.discarding:
            delivery = self._configuration.entries[lane.uid].spec.delivery
            lane.fifo = delivery.ordering == "FIFO"
            lane.limit = 1 if lane.fifo else delivery.max_in_flight
            lane.park_ms = 0
            rate = delivery.rate_limit
            lane.pace = Pace(rate.requests, rate.per) if rate else None
        elif disposition is Disposition.DISCARD and not lane.taken:
            lane.discarding, lane.limit = True, 1
        elif disposition is not Disposition.DISCARD or not lane.discarding:
            # Given back; whoever looks at it next follows the new disposition.
            self._leave(lane, PARK_MS if disposition is Disposition.HOLD else 0)

    # Its tasks

    async def run(self) -> None:
        """Works until cancelled, or until a task of it dies."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(self._turns(), name="dispatcher turns")
            tasks.create_task(self._poll(), name="dispatcher poll")

    async def drain(self, seconds: float) -> None:
        """Starts nothing new, lets attempts end for `seconds`, settles them and gives the lanes back."""
        self._stopping = True
        for lane in list(self._lanes.values()):
            self._leave(lane)
        try:
            async with asyncio.timeout(seconds):
                while self._lanes:
                    self._given_back.clear()
                    await self._given_back.wait()
        except TimeoutError:
            _log.warning("dispatcher.drain_timeout", in_flight=self.in_flight)

    async def _poll(self) -> None:
        horizon = FAR  # at first also what a process with our token left leased
        while not self._stopping:
            self._look.clear()
            try:
                for uid in await self._store.due(10_000 if horizon else 500, horizon):
                    self.wake(uid)
                horizon = horizon if self._paused else 0
                self._polled_at = asyncio.get_running_loop().time()
            except Unavailable as error:
                self._unavailable(error)
            self._tend(asyncio.get_running_loop().time())
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await self._look.wait()
            except TimeoutError:
                continue

    def _tend(self, now: float) -> None:
        """Renews leases, and gives back the lanes that have been idle."""
        for lane in list(self._lanes.values()):
            soon = lane.due_at is not None and lane.due_at < now + IDLE_SECONDS
            if lane.idle and not soon and now - lane.busy_at > IDLE_SECONDS:
                self._leave(lane)
            elif now - lane.renewed_at > RENEW_SECONDS:
                self._want(lane)

    async def _turns(self) -> None:
        while True:
            await self._work.wait()
            lanes = self._next_lanes()
            try:
                await self._turn(lanes)
                await self._load(lanes)
                self._told = None
            except Unavailable as error:
                self._unavailable(error)
                await asyncio.sleep(BACK_OFF_SECONDS)
                for lane in lanes:
                    self._want(lane)
            for lane in lanes:
                self._feed(lane)

    # Turns

    def _next_lanes(self) -> list[Lane]:
        """Those that have wanted a turn the longest, as many as one script should take."""
        lanes: list[Lane] = []
        results = 0
        while self._wanted and len(lanes) < MAX_LANES_A_TURN and results < MAX_RESULTS_A_TURN:
            lane = self._wanted.pop(next(iter(self._wanted)))
            lanes.append(lane)
            results += min(len(lane.results), RESULTS)
        if not self._wanted:
            self._work.clear()
        return lanes

    def _want(self, lane: Lane) -> None:
        if lane.lost:
            return
        self._wanted[lane.uid] = lane
        if lane.is_urgent:
            self._work.set()
        elif self._settling is None:
            self._settling = asyncio.get_running_loop().call_later(SETTLE_SECONDS, self._settle)

    def _settle(self) -> None:
        self._settling = None
        self._work.set()

    def _leave(self, lane: Lane, park_ms: int = 0) -> None:
        lane.leave(park_ms)
        if lane.wants_turn:
            self._want(lane)

    def _forget(self, lane: Lane) -> None:
        """The lane is no longer ours; results of attempts still under way will be dropped."""
        lane.leave()
        lane.lost = True
        self._lanes.pop(lane.uid, None)
        self._given_back.set()
        self._wanted.pop(lane.uid, None)
        timer = self._timers.pop(lane, None)
        if timer is not None:
            timer.cancel()

    async def _turn(self, lanes: list[Lane]) -> None:
        most = max(MAX_FETCHED_A_TURN // max(len(lanes), 1), 1)
        turns = [self._turn_of(lane, min(most, FETCHED)) for lane in lanes]
        try:
            answers = await self._store.turn(turns)
        except Unavailable:
            for lane, turn in zip(lanes, turns, strict=True):
                lane.failed(turn)
            raise
        for lane, turn, answer in zip(lanes, turns, answers, strict=True):
            await self._answered(lane, turn, answer)

    def _turn_of(self, lane: Lane, most: int) -> Turn:
        if lane.leaving and not lane.taken:
            return Turn(lane.uid, "park", park_ms=lane.park_ms)
        return lane.next_turn(FAR if lane.discarding else 0, most)

    async def _answered(self, lane: Lane, turn: Turn, answer: Fetched | None) -> None:
        if answer is None:
            self.counts["lease_lost"] += len(turn.results)
            self._forget(lane)
            self._look.set()  # nobody may hold it, if Redis lost its data
        elif turn.mode in {"release", "park"}:
            self._forget(lane)
            if lane.park_ms < turn.park_ms:
                self.wake(lane.uid)  # it was parked for what no longer holds
            elif not turn.park_ms:
                self._look.set()
        else:
            lane.answered(turn, answer, asyncio.get_running_loop().time())
            if answer.disabled and not lane.discarding and await self._disabling.stays(lane.uid, answer.disabled):
                self._leave(lane, PARK_MS)

    async def _load(self, lanes: Iterable[Lane]) -> None:
        share = ALL_READY_BYTES // max(len(self._lanes), 1)
        wanted = [(lane, *each) for lane in lanes if not lane.leaving for each in lane.to_load(share)]
        while wanted:
            some = wanted[:MAX_LOADS]
            try:
                found = await self._store.load([(lane.uid, entry, ref) for lane, entry, ref in some])
            except Unavailable:
                for lane, entry, ref in reversed(wanted):
                    lane.queued.appendleft((entry, ref))
                raise
            del wanted[:MAX_LOADS]
            for (lane, entry, ref), delivery in zip(some, found, strict=True):
                self._loaded(lane, entry, ref, delivery)

    def _loaded(self, lane: Lane, entry: bytes, ref: str, delivery: Loaded | None) -> None:
        if lane.leaving:
            return
        if delivery is None:
            _log.error("delivery.event_missing", subscription=lane.uid, ref=ref)
            lane.results.append(Result(entry, ref, "missing", 0, Record()))
            return
        lane.loaded(delivery)
        if lane.fifo and delivery.record.due and len(lane.ready) == 1:
            wait = (delivery.record.due - self._clock()) / 1000
            lane.not_before = asyncio.get_running_loop().time() + wait

    # Attempts

    def _feed(self, lane: Lane) -> None:
        """Starts what may start, and sets the clock for what may start later."""
        now = asyncio.get_running_loop().time()
        if lane.due_at is not None and lane.due_at <= now:
            lane.due_at, lane.caught_up = None, False
        while (delivery := lane.next(now)) is not None:
            assert self._tasks is not None, "run() opened the group"  # noqa: S101
            self._tasks.create_task(self._work_through(lane, delivery), name=f"lane {lane.uid}")
        if lane.wants_turn:
            self._want(lane)
        self._set_timer(lane, lane.wake_at(now))

    def _set_timer(self, lane: Lane, at: float | None) -> None:
        timer = self._timers.pop(lane, None)
        if timer is not None:
            timer.cancel()
        if at is not None and not lane.lost:
            self._timers[lane] = asyncio.get_running_loop().call_at(at, self._ring, lane)

    def _ring(self, lane: Lane) -> None:
        """A lane's own time has come: something became due, or may start."""
        self._timers.pop(lane, None)
        self._feed(lane)

    async def _work_through(self, lane: Lane, delivery: Loaded | None) -> None:
        """Attempts one delivery after the other; a lane has as many of these as may be in flight."""
        while delivery is not None:
            if lane.discarding:
                self._discard(lane, delivery)
            else:
                await self._attempt(lane, delivery)
            if lane.wants_turn:
                self._want(lane)
            now = asyncio.get_running_loop().time()
            delivery = lane.next(now)
        self._feed(lane)

    async def _attempt(self, lane: Lane, delivery: Loaded) -> None:
        now_ms = self._clock()
        target = self._targets.target(lane.uid, now_ms)
        if target is None:
            lane.not_attempted()
            return
        attempted = await self._attempts.make(target, delivery, now_ms)
        self._observe(lane.uid, attempted)
        if isinstance(attempted.outcome, Dead) and attempted.outcome.disables:
            await self._disable(lane, target.entry, attempted.outcome.reason)
        if lane.lost:
            self.counts["lease_lost"] += 1
        elif attempted.result.outcome == "held":
            lane.held(delivery, attempted.result, asyncio.get_running_loop().time())
        else:
            lane.settled(attempted.result)

    async def _disable(self, lane: Lane, attempted: Entry, reason: Reason) -> None:
        """Disables a subscription because of an answer, unless it was changed since that request was sent."""
        if not self._disabling.concerns(attempted):
            return
        self._leave(lane, PARK_MS)
        try:
            await self._disabling.disable(attempted, reason)
        except Unavailable as error:
            # The next delivery will be answered 410 again.
            self._unavailable(error)

    def _unavailable(self, error: Unavailable) -> None:
        """Logs it once, not at every try, until a turn succeeds."""
        if error.detail != self._told:
            self._told = error.detail
            _log.warning("dispatcher.unavailable", detail=error.detail)

    def _discard(self, lane: Lane, delivery: Loaded) -> None:
        record = msgspec.structs.replace(
            delivery.record, place=Place.DISCARDED, reason=Reason.SUBSCRIPTION_DELETED, due=None
        )
        self.counts["discarded"] += 1
        if not lane.lost:
            lane.settled(Result(delivery.entry, delivery.ref, "discarded", 0, record))
