"""What is done with the deliveries of lanes: attempts as they may start, and those that end without one."""

import asyncio
from collections import Counter
from collections.abc import Callable

import msgspec
import structlog

from hookcast_app.delivery.attempt import Attempted, Attempts
from hookcast_app.delivery.disabling import Disabling
from hookcast_app.delivery.lane import Lane
from hookcast_app.delivery.models import Place, delivery_id
from hookcast_app.delivery.outcome import Dead, Delivered
from hookcast_app.delivery.store import Loaded, Result, ScriptOutcome
from hookcast_app.delivery.targets import Targets
from hookcast_app.delivery.turns import PARK_MS
from hookcast_core.configuration import Entry
from hookcast_core.errors import Reason, Unavailable

_log = structlog.get_logger("hookcast.delivery")


class Work:
    """Lives as long as the dispatcher. `want` is told which lanes are to have a turn."""

    def __init__(
        self,
        targets: Targets,
        attempts: Attempts,
        disabling: Disabling,
        clock: Callable[[], int],
        *,
        want: Callable[[Lane], None],
        observe: Callable[[str, Attempted], None],
    ) -> None:
        self._targets = targets
        self._attempts = attempts
        self._disabling = disabling
        self._clock = clock
        self._want = want
        self._observe = observe
        self._timers: dict[Lane, asyncio.TimerHandle] = {}
        self.tasks: asyncio.TaskGroup | None = None
        """What attempts are tasks of, while the dispatcher runs."""
        self.counts: Counter[str] = Counter()

    def feed(self, lane: Lane) -> None:
        """Starts what may start, and sets the clock for what may start later."""
        now = asyncio.get_running_loop().time()
        lane.ring(now)
        lane.results += [_ended(each, Place.DEAD, Reason.BACKLOG_FULL) for each in lane.doomed(now, self._clock())]
        if lane.has_held_enough:
            lane.leave(PARK_MS)
        while (delivery := lane.next(now, self._clock())) is not None:
            assert self.tasks is not None, "the dispatcher's run() opened the group"  # noqa: S101
            self.tasks.create_task(self._work_through(lane, delivery), name=f"lane {lane.uid}")
        self._turn_if_wanted(lane)
        self._set_timer(lane, lane.wake_at(now))

    def forget(self, lane: Lane) -> None:
        """The lane is no longer ours."""
        self._set_timer(lane, None)

    def leave(self, lane: Lane, park_ms: int = 0) -> None:
        """Starts no more attempts of a lane and gives it back when those under way have ended."""
        lane.leave(park_ms)
        self._turn_if_wanted(lane)

    def hold(self, lane: Lane) -> None:
        """Attempts nothing for a while, but ends what its backlog has too much of."""
        lane.hold(PARK_MS)
        self._turn_if_wanted(lane)

    def _turn_if_wanted(self, lane: Lane) -> None:
        if lane.wants_turn:
            self._want(lane)

    def _set_timer(self, lane: Lane, at: float | None) -> None:
        timer = self._timers.pop(lane, None)
        if timer is not None:
            timer.cancel()
        if at is not None and not lane.lost:
            self._timers[lane] = asyncio.get_running_loop().call_at(at, self._ring, lane)

    def _ring(self, lane: Lane) -> None:
        """A lane's own time has come: something became due, or may start."""
        self._timers.pop(lane, None)
        self.feed(lane)

    async def _work_through(self, lane: Lane, delivery: Loaded | None) -> None:
        """Attempts one delivery after the other; a lane has as many of these as may be in flight."""
        while delivery is not None:
            if lane.discarding:
                self._discard(lane, delivery, Reason.SUBSCRIPTION_DELETED)
            elif delivery.cancelled:
                lane.breaker.end()
                self._discard(lane, delivery, Reason.CANCELLED)
            else:
                await self._attempt(lane, delivery)
            self._turn_if_wanted(lane)
            now = asyncio.get_running_loop().time()
            delivery = lane.next(now, self._clock())
        self.feed(lane)

    async def _attempt(self, lane: Lane, delivery: Loaded) -> None:
        now_ms = self._clock()
        target = self._targets.target(lane.uid, now_ms)
        if target is None:
            lane.not_attempted()
            return
        attempted = await self._attempts.make(target, delivery, now_ms)
        self._observe(lane.uid, attempted)
        reason = self._judge(lane, attempted)
        lane.breaker.end()
        if reason is not None:
            await self._disable(lane, target.entry, reason)
        if isinstance(attempted.outcome, Dead) and lane.order is not None:
            # What waited behind it goes on without it: whoever counts on the order should know.
            _log.warning(
                "delivery.passed_over", delivery=delivery_id(delivery.ref, lane.uid), reason=attempted.outcome.reason
            )
        if lane.lost:
            self.counts["lease_lost"] += 1
        else:
            lane.settled(attempted.result)

    def _judge(self, lane: Lane, attempted: Attempted) -> Reason | None:
        """What the attempt says of the endpoint, and why its subscription is to be disabled, if it is."""
        now_ms = self._clock()
        match attempted.outcome:
            case Delivered():
                lane.breaker.delivered()
            case Dead(reason=reason, disables=True):
                return reason
            case Dead(reason=reason) if reason is not Reason.ATTEMPTS_EXHAUSTED:
                lane.breaker.refused(now_ms)
            case _:
                lane.breaker.failed(now_ms)
        return Reason.ENDPOINT_FAILING if self._disabling.is_due(lane.breaker.failing_since) else None

    async def _disable(self, lane: Lane, attempted: Entry, reason: Reason) -> None:
        """Disables a subscription because of an answer, unless it was changed since that request was sent."""
        if lane.leaving or not self._disabling.concerns(attempted):
            return
        self.leave(lane, PARK_MS)
        try:
            await self._disabling.disable(attempted, reason)
            lane.breaker.forget()
        except Unavailable:
            _log.warning("subscription.not_disabled", subscription=lane.uid, reason=reason)  # the next answer does it

    def _discard(self, lane: Lane, delivery: Loaded, reason: Reason) -> None:
        self.counts["discarded"] += 1
        if not lane.lost:
            lane.settled(_ended(delivery, Place.DISCARDED, reason))


def _ended(delivery: Loaded, place: Place, reason: Reason) -> Result:
    """The result of a delivery that ends without another attempt."""
    record = msgspec.structs.replace(delivery.record, place=place, reason=reason, due=None)
    outcome: ScriptOutcome = "dead" if place is Place.DEAD else "discarded"
    return Result(delivery.entry, delivery.ref, outcome, 0, record)
