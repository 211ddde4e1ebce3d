"""A lane as its dispatcher sees it: the deliveries of one subscription while this process holds the lease.

State changes are synchronous and return what is to be done; nothing here awaits. Times are the loop's, in seconds.
"""

from collections import deque
from dataclasses import dataclass, field

from hookcast_app.delivery.pace import Pace
from hookcast_app.delivery.store import Fetched, Loaded, Mode, Result, Turn

READY_BYTES = 1_048_576
"""Bodies that a lane keeps loaded beyond those in flight, at the most; one delivery is loaded whatever its size."""
QUEUED = 512
"""References that a lane reads ahead."""
READY_LOW = 64
"""With fewer loaded deliveries than this it is time to load more."""
RESULTS = 256
"""So many results are settled without waiting for more, and at the most in one turn: longer scripts cost more each."""
FETCHED = 256
"""References that one turn reads at the most."""
_FIRST_SIZE = 16_384


@dataclass(slots=True, eq=False)
class Lane:
    """Lives from the lease's taking until it is given back or lost."""

    uid: str
    fifo: bool = False
    limit: int = 1
    pace: Pace | None = None
    discarding: bool = False
    taken: bool = False
    lost: bool = False
    leaving: bool = False
    park_ms: int = 0
    after: bytes = b"-"
    caught_up: bool = False
    queued: deque[tuple[bytes, str]] = field(default_factory=deque)
    ready: deque[Loaded] = field(default_factory=deque)
    ready_bytes: int = 0
    in_flight: int = 0
    results: list[Result] = field(default_factory=list)
    due_at: float | None = None
    renewed_at: float = 0.0
    busy_at: float = 0.0
    not_before: float = 0.0
    _size: float = _FIRST_SIZE

    @property
    def idle(self) -> bool:
        """Nothing in hand, and nothing in the stream that was not read."""
        return self.caught_up and not (self.queued or self.ready or self.in_flight or self.results)

    @property
    def wants_turn(self) -> bool:
        """Whether a turn would settle, fetch or give back something."""
        if self.leaving:
            return bool(self.results) or not self.in_flight
        return bool(self.results) or (not self.caught_up and len(self.queued) < QUEUED // 2)

    @property
    def is_urgent(self) -> bool:
        """Whether a turn is wanted for more than settling, which may wait a little and is cheaper for many."""
        if self.leaving or not self.taken or len(self.results) >= RESULTS:
            return True
        if self.queued and len(self.ready) < READY_LOW:
            return True
        return not self.caught_up and len(self.queued) < QUEUED // 2

    def next_turn(self, horizon_ms: int, most: int = FETCHED) -> Turn:
        """The lane's part of the next turn, reading `most` references; its results are handed over with it."""
        results, self.results = self.results[:RESULTS], self.results[RESULTS:]
        last = self.leaving and not self.in_flight and not self.results
        mode: Mode = "release" if last else "hold" if self.taken else "take"
        want = 0 if self.leaving else min(QUEUED - len(self.queued), most)
        return Turn(self.uid, mode, self.after, want, self.park_ms, horizon_ms, results)

    def failed(self, turn: Turn) -> None:
        """The turn's fate is unknown: its results go into the next one (settling twice does nothing)."""
        self.results[:0] = turn.results

    def answered(self, turn: Turn, fetched: Fetched, now: float) -> None:
        """Takes in a turn's answer."""
        self.taken = True
        self.renewed_at = now
        self.due_at = None if fetched.due_ms is None else now + fetched.due_ms / 1000
        if not self.leaving:
            self.caught_up = len(fetched.entries) < turn.want
        if fetched.entries:
            self.queued.extend(fetched.entries)
            self.after = fetched.entries[-1][0]
            self.busy_at = now

    def to_load(self, ready_bytes: int = READY_BYTES) -> list[tuple[bytes, str]]:
        """The references whose events are to be loaded now, in order, so that about `ready_bytes` are loaded then."""
        room = int((min(ready_bytes, READY_BYTES) - self.ready_bytes) / self._size)
        count = min(max(room, 0 if self.ready else 1), QUEUED - len(self.ready), len(self.queued))
        return [self.queued.popleft() for _ in range(count)]

    def loaded(self, delivery: Loaded) -> None:
        """A delivery is ready for its attempt."""
        self.ready.append(delivery)
        self.ready_bytes += len(delivery.body)
        self._size += (len(delivery.body) + 256 - self._size) / 16

    def next(self, now: float) -> Loaded | None:
        """Takes the next delivery in flight, or None: there is none, or none may start yet (see `feed_at`)."""
        if self.leaving or not self.ready or self.in_flight >= self.limit or now < self.not_before:
            return None
        if self.pace is not None and not self.pace.take(now):
            self.not_before = self.pace.next_at
            return None
        delivery = self.ready.popleft()
        self.ready_bytes -= len(delivery.body)
        self.in_flight += 1
        return delivery

    def wake_at(self, now: float) -> float | None:
        """When this lane next has something to do by itself: a delivery becomes due, or may start."""
        times = [at for at in (self.due_at, self.not_before if self.ready else None) if at is not None and at > now]
        return min(times, default=None)

    def settled(self, result: Result) -> None:
        """The attempt ended; the result goes to Redis with the next turn."""
        self.in_flight -= 1
        self.results.append(result)

    def not_attempted(self) -> None:
        """A delivery that was taken in flight has nowhere to go now: it stays in the stream, and the lane is left."""
        self.in_flight -= 1
        self.leave()

    def held(self, delivery: Loaded, result: Result, now: float) -> None:
        """FIFO: the head failed; it keeps its place and is tried again after the result's delay."""
        self.settled(result)
        if not self.leaving:
            self.ready.appendleft(delivery._replace(record=result.record))
            self.ready_bytes += len(delivery.body)
            self.not_before = now + result.delay_ms / 1000

    def leave(self, park_ms: int = 0) -> None:
        """Starts no more attempts; what is in hand but not in flight stays in the stream for whoever comes next."""
        self.leaving = True
        self.park_ms = max(self.park_ms, park_ms)
        self.queued.clear()
        self.ready.clear()
        self.ready_bytes = 0
