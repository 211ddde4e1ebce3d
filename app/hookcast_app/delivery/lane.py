"""A lane as its dispatcher sees it: the deliveries of one subscription while this process holds the lease.

State changes are synchronous and return what is to be done; nothing here awaits. Times named `now` are the loop's, in
seconds; those named `now_ms` are epoch ms.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

import msgspec

from hookcast_app.delivery.breaker import Breaker, Failing
from hookcast_app.delivery.ordering import Order, Waiting
from hookcast_app.delivery.store import FAR, Fetched, Loaded, Mode, Result, Turn
from hookcast_core.pace import Pace
from hookcast_core.subscription import Delivery, MaxBacklog

READY_BYTES = 1_048_576
"""Bodies that a lane keeps loaded beyond those in flight, at the most; one delivery is loaded whatever its size."""
QUEUED = 512
"""References that a lane reads ahead."""
BEHIND = 100_000
"""References that wait behind others of their ordering key, at the most: some 20 MB. Beyond it the lane reads no more,
and the other keys wait as well."""
READY_LOW = 64
"""With fewer loaded deliveries than this it is time to load more."""
RESULTS = 256
"""So many results are settled without waiting for more, and at the most in one turn: longer scripts cost more each."""
FETCHED = 256
"""References that one turn reads at the most."""
_FIRST_SIZE = 16_384
_encode = msgspec.json.Encoder().encode
_decode_failing = msgspec.json.Decoder(Failing).decode


@dataclass(slots=True, eq=False)
class Lane:
    """Lives from the lease's taking until it is given back or lost."""

    uid: str
    order: Order | None = None
    limit: int = 1
    pace: Pace | None = None
    max_backlog: MaxBacklog | None = None
    breaker: Breaker = field(default_factory=Breaker)
    discarding: bool = False
    holding: bool = False
    """Nothing is attempted; the lane is held for its backlog's sake."""
    taken: bool = False
    lost: bool = False
    leaving: bool = False
    park_ms: int = 0
    after: bytes = b"-"
    until_ms: int | None = None
    """What is of this time or later must wait (see gates)."""
    caught_up: bool = False
    queued: deque[Waiting] = field(default_factory=deque)
    ready: deque[Loaded] = field(default_factory=deque)
    ready_bytes: int = 0
    in_flight: int = 0
    results: list[Result] = field(default_factory=list)
    retries: list[tuple[float, Waiting]] = field(default_factory=list)
    """A heap of deliveries that keep their place, by the times of their next attempts."""
    excess: int = 0
    """Deliveries beyond the backlog's limit when it was last counted."""
    due_at: float | None = None
    renewed_at: float = 0.0
    busy_at: float = 0.0
    not_before: float = 0.0
    """When more may start, as it was when that was last asked: when to ask again."""
    _size: float = _FIRST_SIZE
    _kept: Failing | None = None
    _woken: bool = False
    _called: set[str] = field(default_factory=set)
    """References that were to be looked at while they may have been under way."""

    @property
    def idle(self) -> bool:
        """Nothing in hand, and nothing in the stream that was not read."""
        return self.caught_up and not (self.queued or self.ready or self.in_flight or self.results or self.retries)

    @property
    def is_crowded(self) -> bool:
        """Whether so many deliveries wait behind others that no more are read."""
        return self.order is not None and self.order.behind >= BEHIND

    @property
    def may_fetch(self) -> bool:
        """Whether there may be more to read, and there is room for it."""
        return not self.caught_up and not self.is_crowded and len(self.queued) < QUEUED // 2

    @property
    def wants_turn(self) -> bool:
        """Whether a turn would settle, fetch, load or give back something."""
        if self.leaving:
            return bool(self.results) or not self.in_flight
        return bool(self.results) or self.may_fetch or bool(self.queued and not self.ready)

    @property
    def is_urgent(self) -> bool:
        """Whether a turn is wanted for more than settling, which may wait a little and is cheaper for many."""
        if self.leaving or not self.taken or len(self.results) >= RESULTS:
            return True
        if self.results and self.order is not None and self.order.behind:
            return True
        if self.queued and len(self.ready) < READY_LOW:
            return True
        return self.may_fetch

    @property
    def has_held_enough(self) -> bool:
        """Whether there is no more to do for a lane that is held for its backlog's sake."""
        looked = bool(self.ready) or (self.caught_up and not self.queued)
        return self.holding and self.taken and not self.leaving and not self.excess and looked

    def may_deliver(self, delivery: Delivery) -> bool:
        """Whether this lane can follow a specification; else it is to be given back and taken anew."""
        if self.discarding or self.holding:
            return False
        return not self.taken or (self.order is not None) == (delivery.ordering == "FIFO")

    def wake(self, reference: str = "") -> None:
        """There is something new in the stream, or a delivery that keeps its place in it is to be looked at at once."""
        self.caught_up, self._woken = False, True
        if not reference:
            return
        self.retries = [(0.0 if retry[1][1] == reference else retry[0], retry[1]) for retry in self.retries]
        heapify(self.retries)
        # One that is loaded is looked at again; one that is under way, when it has failed.
        again = [loaded for loaded in self.ready if loaded.ref == reference]
        for loaded in again:
            self.ready.remove(loaded)
            self.ready_bytes -= len(loaded.body)
            self.queued.appendleft((loaded.entry, loaded.ref))
        if self.in_flight and self.order is not None:
            self._called.add(reference)

    def hold(self, park_ms: int) -> None:
        """Attempts nothing: the lane is given back for `park_ms`, after what its backlog has too much of has ended."""
        if self.max_backlog is None or self.taken:
            self.leave(park_ms)
        else:
            self.holding, self.order = True, None

    def next_turn(self, now_ms: int, most: int = FETCHED) -> Turn:
        """The lane's part of the next turn, reading `most` references; its results are handed over with it."""
        self._woken = False
        if self.leaving and not self.taken:
            return Turn(self.uid, "park", park_ms=self.park_ms)
        results, self.results = self.results[:RESULTS], self.results[RESULTS:]
        last = self.leaving and not self.in_flight and not self.results
        mode: Mode = "release" if last else "hold" if self.taken else "take"
        turn = Turn(self.uid, mode, self.after, park_ms=self.park_ms, results=results, until_ms=self.until_ms)
        if not (self.leaving or self.is_crowded):
            turn.want = min(QUEUED - len(self.queued), most)
        if self.taken:
            failing = None if self.discarding else self.breaker.failing(now_ms, leaving=last)
            if failing != self._kept:
                self._kept, turn.failing = failing, _encode(failing) if failing else b"-"
        if self.discarding:
            turn.horizon_ms = FAR
        return turn

    def failed(self, turn: Turn) -> None:
        """The turn's fate is unknown: its results go into the next one (settling twice does nothing)."""
        self.results[:0] = turn.results
        if turn.failing:
            self._kept = Failing("", 0)  # none that could be: it is written again

    def answered(self, turn: Turn, fetched: Fetched, now: float) -> None:
        """Takes in a turn's answer."""
        if not self.taken and fetched.failing:
            self._kept = _decode_failing(fetched.failing)
            self.breaker.restore(self._kept)
        self.taken = True
        self.renewed_at = now
        self.due_at = None if fetched.due_ms is None else now + fetched.due_ms / 1000
        if self.leaving:
            return
        self.caught_up = len(fetched.entries) < turn.want and not self._woken
        self._count(fetched.backlog)
        for result in turn.results:
            self._go_on(result, now)
        if fetched.entries:
            self.after = fetched.entries[-1][0]
            self.busy_at = now
        for waiting in fetched.entries:
            if self.order is None or self.order.admit(waiting):
                self.queued.append(waiting)

    def _go_on(self, result: Result, now: float) -> None:
        """FIFO: once Redis has a result, its delivery is tried again in its place, or the next of its key goes."""
        if result.outcome == "held":
            wait = 0 if result.ref in self._called else result.delay_ms / 1000
            heappush(self.retries, (now + wait, (result.entry, result.ref)))
            self._called.discard(result.ref)
        elif self.order is not None and (following := self.order.ended(result.ref)) is not None:
            self.queued.append(following)

    def _count(self, backlog: int) -> None:
        limit = self.max_backlog.count if self.max_backlog else None
        self.excess = 0 if limit is None else max(backlog - len(self.results) - limit, 0)

    def to_load(self, ready_bytes: int = READY_BYTES) -> list[Waiting]:
        """The references whose events are to be loaded now, in order, so that about `ready_bytes` are loaded then."""
        room = int((min(ready_bytes, READY_BYTES) - self.ready_bytes) / self._size)
        count = min(max(room, 0 if self.ready else 1), QUEUED - len(self.ready), len(self.queued))
        return [self.queued.popleft() for _ in range(count)]

    def loaded(self, delivery: Loaded, wait: float = 0.0, now: float = 0.0) -> None:
        """A delivery is ready for its attempt; one that keeps its place may have to `wait` for it."""
        if self.order is not None and wait > 0 and not self.excess:
            heappush(self.retries, (now + wait, (delivery.entry, delivery.ref)))
            return
        self.ready.append(delivery)
        self.ready_bytes += len(delivery.body)
        self._size += (len(delivery.body) + 256 - self._size) / 16

    def doomed(self, now: float, now_ms: int) -> Iterator[Loaded]:
        """Takes the deliveries that are too many or too old, the oldest first."""
        age = self.max_backlog.age if self.max_backlog else None
        while self.ready and not self.leaving:
            is_old = age is not None and self.ready[0].event.accepted_ms + age <= now_ms
            if not is_old and not self.excess:
                break
            self.excess = max(self.excess - 1, 0)
            yield self._take()
        self._set_aside(now, now_ms)

    def _set_aside(self, now: float, now_ms: int) -> None:
        """FIFO: heads that were loaded before their time, to be doomed perhaps, wait for it again."""
        if self.order is None:
            return
        for loaded in [one for one in self.ready if not one.cancelled and (one.record.due or 0) > now_ms]:
            self.ready.remove(loaded)
            self.ready_bytes -= len(loaded.body)
            heappush(self.retries, (now + ((loaded.record.due or 0) - now_ms) / 1000, (loaded.entry, loaded.ref)))

    def next(self, now: float, now_ms: int) -> Loaded | None:
        """Takes the next delivery in flight, or None: there is none, or none may start yet (see `wake_at`)."""
        if self.leaving or self.holding or not self.ready or self.in_flight >= self.limit:
            return None
        if not self.discarding:
            # Asked each time: an answer, or another specification, may have changed it meanwhile.
            wait_ms = self.breaker.wait_ms(now_ms)
            if wait_ms != 0:
                self.not_before = now + (wait_ms or 0) / 1000
                return None
            if self.pace is not None and not self.pace.take(now):
                self.not_before = self.pace.next_at
                return None
            self.breaker.begin()
        self.in_flight += 1
        return self._take()

    def _take(self) -> Loaded:
        delivery = self.ready.popleft()
        self.ready_bytes -= len(delivery.body)
        return delivery

    def ring(self, now: float) -> None:
        """The time has come for what is due by `now`."""
        if self.due_at is not None and self.due_at <= now:
            self.due_at, self.caught_up = None, False
        while self.retries and (self.retries[0][0] <= now or len(self.queued) + len(self.ready) < self.excess):
            self.queued.append(heappop(self.retries)[1])

    def wake_at(self, now: float) -> float | None:
        """When this lane next has something to do by itself: a delivery becomes due, or may start."""
        retry_at = self.retries[0][0] if self.retries else None
        times = [self.due_at, self.not_before if self.ready else None, retry_at]
        return min((at for at in times if at is not None and at > now), default=None)

    def settled(self, result: Result) -> None:
        """The attempt ended; the result goes to Redis with the next turn."""
        self.in_flight -= 1
        self.results.append(result)

    def not_attempted(self) -> None:
        """A delivery that was taken in flight has nowhere to go now: it stays in the stream, and the lane is left."""
        self.in_flight -= 1
        self.breaker.end()
        self.leave()

    def leave(self, park_ms: int = 0) -> None:
        """Starts no more attempts; what is in hand but not in flight stays in the stream for whoever comes next."""
        self.leaving = True
        self.park_ms = max(self.park_ms, park_ms)
        self.queued.clear()
        self.ready.clear()
        self.retries.clear()
        self.ready_bytes = 0
