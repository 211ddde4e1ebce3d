"""How each subscription's endpoint is doing, for whoever reports it to users. Pure.

In memory and of this process alone: another process may have made the attempts, so that what several know is merged by
time. Readers ask for what changed since they last asked.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Literal

import msgspec

from hookcast_app.delivery.outcome import Dead, Delivered, Outcome
from hookcast_core.errors import Reason

State = Literal["Delivering", "Failing", "Disabled", "EgressDenied", "NoSigningKey"]
Stopped = tuple[State, Reason]
"""Why nothing is attempted."""
FAILURES = 3
"""Attempts in a row that must fail before an endpoint counts as failing; one is no news."""


class Last(msgspec.Struct, frozen=True):
    """The last attempt; `at` is epoch ms."""

    at: int
    outcome: Literal["Delivered", "Failed", "Dead"]
    reason: Reason | None


class Wellbeing(msgspec.Struct, frozen=True):
    """What is known of one subscription. `last` is None where only why nothing is attempted is known."""

    uid: str
    state: State
    reason: Reason | None
    last: Last | None


class Changes(msgspec.Struct, frozen=True):
    """What changed since a cursor, and the cursor to ask with next time."""

    cursor: str
    deliveries: list[Wellbeing]


class _Known:
    __slots__ = ("change", "failures", "last", "state", "stopped")

    def __init__(self) -> None:
        self.change = 0
        self.failures = 0
        self.last: Last | None = None
        self.state: State = "Delivering"
        self.stopped: Stopped | None = None


class EndpointsWellbeing:
    """Lives as long as the app; `boot` tells its cursors from those of a process before."""

    def __init__(self, boot: str, clock: Callable[[], int]) -> None:
        self._boot = boot
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._change = 0

    def record(self, uid: str, outcome: Outcome) -> None:
        """Takes an attempt's outcome. It counts as a change if the state, the outcome or the reason is another."""
        known = self._known.get(uid)
        if known is None:
            known = self._known[uid] = _Known()
        before = known.last
        word: Literal["Delivered", "Failed", "Dead"]
        reason: Reason | None
        state: State
        if isinstance(outcome, Delivered):
            word, reason, state, known.failures = "Delivered", None, "Delivering", 0
        else:
            dead = isinstance(outcome, Dead)
            word, reason, known.failures = "Dead" if dead else "Failed", outcome.reason, known.failures + 1
            state = _failing(known.state, reason, is_sure=dead or known.failures >= FAILURES)
        known.last = Last(self._clock(), word, reason)
        if before is None or (before.outcome, before.reason) != (word, reason) or state != known.state:
            self._changed(known)
        known.state = state

    def stopped(self, stopped: Mapping[str, Stopped]) -> None:
        """Takes for which subscriptions nothing is attempted, all of them."""
        for uid in stopped.keys() - self._known.keys():
            self._known[uid] = _Known()
        for uid, known in self._known.items():
            if stopped.get(uid) != known.stopped:
                known.stopped = stopped.get(uid)
                self._changed(known)

    def keep(self, uids: Collection[str]) -> None:
        """Forgets every other subscription."""
        for uid in self._known.keys() - uids:
            del self._known[uid]

    def since(self, cursor: str | None) -> Changes:
        """What changed since `cursor`; everything if there is none, or it is another process's."""
        boot, _, number = (cursor or "").rpartition(":")
        after = int(number) if boot == self._boot and number.isdecimal() else -1
        found = [_shown(uid, known) for uid, known in self._known.items() if known.change > after]
        return Changes(f"{self._boot}:{self._change}", found)

    def _changed(self, known: _Known) -> None:
        self._change += 1
        known.change = self._change


def _failing(before: State, reason: Reason, *, is_sure: bool) -> State:
    if reason is Reason.EGRESS_DENIED:
        return "EgressDenied"
    return "Failing" if is_sure else before


def _shown(uid: str, known: _Known) -> Wellbeing:
    if known.stopped is not None:
        return Wellbeing(uid, *known.stopped, known.last)
    return Wellbeing(uid, known.state, known.last.reason if known.last else None, known.last)
