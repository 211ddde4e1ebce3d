"""A rate limit: the generic cell rate algorithm (ITU-T I.371, 4.4.1), as a decision on given times. Pure."""

_ROUNDING = 1e-3
"""Of the time between two: sums of floating-point numbers must not cost a burst its last one."""


class Pace:
    """Allows `requests` per `per_ms`, as a burst or spread out. Times are seconds of one monotonic clock.

    `shared` is among how many that is divided: one alone never gets more than its part.
    """

    __slots__ = ("_burst", "_full_at", "_step")

    def __init__(self, requests: float, per_ms: float, shared: int = 1) -> None:
        self._step = per_ms / 1000 * shared / requests
        self._burst = max(per_ms / 1000 - self._step, 0.0)
        self._full_at = 0.0

    @property
    def next_at(self) -> float:
        """When the next request is allowed."""
        return self._full_at - self._burst

    def take(self, now: float) -> bool:
        """Whether a request may start now; if so, it is counted."""
        if now < self.next_at - self._step * _ROUNDING:
            return False
        self._full_at = max(self._full_at, now) + self._step
        return True
