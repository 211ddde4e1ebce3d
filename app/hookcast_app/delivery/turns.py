"""The turns of lanes: which lanes have one next, what Redis answers, and what is loaded then."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable

import structlog

from hookcast_app.delivery.lane import FETCHED, RESULTS, Lane
from hookcast_app.delivery.models import Record
from hookcast_app.delivery.store import Fetched, LaneStore, Loaded, Result, Turn
from hookcast_core.errors import Unavailable

_log = structlog.get_logger("hookcast.delivery")

SETTLE_SECONDS = 0.005
"""How long results wait for others to be settled with, unless there is more to do for their lane."""
MAX_LANES_A_TURN = 200
MAX_RESULTS_A_TURN = 512
MAX_FETCHED_A_TURN = 2_048
"""Bounds of one script, which nothing else in Redis can interrupt: some 10 ms."""
MAX_LOADS = 256
ALL_READY_BYTES = 134_217_728
"""Bodies that all lanes of a process together keep loaded: each gets its share, so that none can take another's."""
BACK_OFF_SECONDS = 0.2
PARK_MS = 30_000
"""How long nobody looks at a lane that is suspended, disabled or unknown, unless its configuration changes."""


class Turns:
    """The lanes that this process holds, and their turns in Redis; lives as long as the dispatcher.

    `ready_bytes` says how much may be loaded; `feed` is called with each lane after its turn; `is_disabled` is asked
    whether what Redis remembers still holds;
    `given_back` hears which lanes are no longer held, and with what turn they ended (None: the lease was lost).
    """

    def __init__(
        self,
        store: LaneStore,
        clock: Callable[[], int],
        *,
        feed: Callable[[Lane], None],
        is_disabled: Callable[[str, bytes], Awaitable[bool]],
        given_back: Callable[[Lane, Turn | None], None],
        ready_bytes: Callable[[], int],
    ) -> None:
        self._ready_bytes = ready_bytes
        self._store = store
        self._clock = clock
        self._feed = feed
        self._is_disabled = is_disabled
        self._given_back = given_back
        self._wanted: dict[str, Lane] = {}
        self._work = asyncio.Event()
        self._settling: asyncio.TimerHandle | None = None
        self._told: str | None = None
        self.lanes: dict[str, Lane] = {}
        self.counts: Counter[str] = Counter()

    def want(self, lane: Lane) -> None:
        """The lane is to have a turn: soon if it is urgent, else once there may be more to settle."""
        if lane.lost:
            return
        self._wanted[lane.uid] = lane
        if lane.is_urgent:
            self._work.set()
        elif self._settling is None:
            self._settling = asyncio.get_running_loop().call_later(SETTLE_SECONDS, self._settle)

    async def run(self) -> None:
        """Makes turns until cancelled, through every absence of Redis."""
        while True:
            await self._work.wait()
            lanes = self._next_lanes()
            try:
                await self._turn(lanes)
                await self._load(lanes)
                self._told = None
            except Unavailable as error:
                self.unavailable(error)
                await asyncio.sleep(BACK_OFF_SECONDS)
                for lane in lanes:
                    self.want(lane)
            for lane in lanes:
                self._feed(lane)

    def unavailable(self, error: Unavailable) -> None:
        """Logs it once, not at every try, until a turn succeeds."""
        if error.detail != self._told:
            self._told = error.detail
            _log.warning("dispatcher.unavailable", detail=error.detail)

    def _settle(self) -> None:
        self._settling = None
        self._work.set()

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

    async def _turn(self, lanes: list[Lane]) -> None:
        most = min(max(MAX_FETCHED_A_TURN // max(len(lanes), 1), 1), FETCHED)
        turns = [lane.next_turn(self._clock(), most) for lane in lanes]
        try:
            answers = await self._store.turn(turns)
        except Unavailable:
            for lane, turn in zip(lanes, turns, strict=True):
                lane.failed(turn)
            raise
        for lane, turn, answer in zip(lanes, turns, answers, strict=True):
            await self._answered(lane, turn, answer)

    async def _answered(self, lane: Lane, turn: Turn, answer: Fetched | None) -> None:
        if answer is None:
            self.counts["lease_lost"] += len(turn.results)
            self._forget(lane, None)
        elif turn.mode in {"release", "park"}:
            self._forget(lane, turn)
        else:
            if answer.disabled and not lane.discarding and await self._is_disabled(lane.uid, answer.disabled):
                lane.hold(PARK_MS)
            lane.answered(turn, answer, asyncio.get_running_loop().time())

    def _forget(self, lane: Lane, turn: Turn | None) -> None:
        """The lane is no longer ours; results of attempts still under way will be dropped."""
        lane.leave()
        lane.lost = True
        self.lanes.pop(lane.uid, None)
        self._wanted.pop(lane.uid, None)
        self._given_back(lane, turn)

    async def _load(self, lanes: Iterable[Lane]) -> None:
        share = self._ready_bytes() // max(len(self.lanes), 1)
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
        wait_ms = 0 if delivery.cancelled else (delivery.record.due or 0) - self._clock()
        lane.loaded(delivery, wait_ms / 1000, asyncio.get_running_loop().time())
