"""The end of an identity's time, by the wall clock that tokens are written in."""

import asyncio
from collections.abc import Callable

LONGEST_TIMER = 86_400.0
"""Seconds; what is further away is looked at again then, so that a changed clock is noticed."""


class Expiry:
    """Calls `then` once, when `clock()` (epoch seconds) reaches `at`, unless cancelled; never if `at` is None."""

    def __init__(self, at: float | None, clock: Callable[[], float], then: Callable[[], None]) -> None:
        self._clock = clock
        self._then = then
        self._timer: asyncio.TimerHandle | None = None
        if at is not None:
            self._look(at)

    def _look(self, at: float) -> None:
        left = at - self._clock()
        if left <= 0:
            self._then()
        else:
            self._timer = asyncio.get_running_loop().call_later(min(left, LONGEST_TIMER), self._look, at)

    def cancel(self) -> None:
        """It does not matter any more, and whoever was to be called is forgotten."""
        self._then = _nothing
        if self._timer is not None:
            self._timer.cancel()


def _nothing() -> None:
    """Nobody is called any more."""
