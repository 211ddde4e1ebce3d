"""Whether an endpoint may be tried: a circuit breaker (M. Nygard, "Release It!", 2nd edition, 5.4). Pure.

Failures in a row open it, an answer between them starts the count anew: an endpoint that fails one request in a hundred
keeps being used however busy it is. While it is open nothing is attempted; after that one attempt tries the endpoint,
and what becomes of it closes the breaker or opens it again. Waiting consumes no attempt. All times are epoch ms.
"""

from collections import deque

import msgspec

from hookcast_core.subscription import CircuitBreaker

KEEP_AFTER_MS = 10_000
"""An endpoint that has been failing for less is not written down, unless its lane is given back."""


_DEFAULT = CircuitBreaker()


class Failing(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of a failing endpoint over restarts and hand-overs.

    `of` is the fingerprint of the specification that it was learnt of; `open_until` is None if the breaker is closed.
    """

    of: str
    since: int
    open_until: int | None = None


class Breaker:
    """One endpoint's, with the time since which it fails; lives as long as its lane is leased."""

    def __init__(self, limits: CircuitBreaker = _DEFAULT, of: str = "") -> None:
        self._limits = limits
        self._of = of
        self._recent: deque[int] = deque(maxlen=limits.failures)
        self._open_until: int | None = None
        self._trying = False
        self.failing_since: int | None = None

    def follow(self, limits: CircuitBreaker, of: str) -> None:
        """Takes the limits of a specification; of what was seen of another nothing holds."""
        if of != self._of:
            self._limits, self._of = limits, of
            self._recent = deque(maxlen=limits.failures)
            self.forget()

    @property
    def is_open(self) -> bool:
        """Whether attempts are stopped, or one is trying the endpoint."""
        return self._open_until is not None

    def wait_ms(self, now: int) -> int | None:
        """How long no attempt may start: 0 if one may, None until the attempt that tries the endpoint has ended."""
        if self._open_until is None:
            return 0
        if now < self._open_until:
            self._open_until = min(
                self._open_until, now + self._limits.open
            )  # a clock that was set back holds no longer
            return self._open_until - now
        return None if self._trying else 0

    def begin(self) -> None:
        """An attempt starts."""
        self._trying = self.is_open

    def end(self) -> None:
        """An attempt has ended, however it did: another one may try the endpoint."""
        self._trying = False

    def delivered(self) -> None:
        """The endpoint has taken a delivery."""
        self.forget()

    def forget(self) -> None:
        """Begins anew."""
        self._close()
        self.failing_since = None

    def refused(self, now: int) -> None:
        """The endpoint is there, and has refused a delivery for good."""
        self._close()
        self._has_failed(now)

    def failed(self, now: int) -> None:
        """An attempt failed, and another may not."""
        self._has_failed(now)
        if self._open_until is None:
            self._recent.append(now)
            if len(self._recent) == self._limits.failures and now - self._recent[0] <= self._limits.window:
                self._open(now)
        elif now >= self._open_until:  # an attempt that began before it opened tells nothing new
            self._open(now)

    def failing(self, now: int, *, leaving: bool) -> Failing | None:
        """What whoever leases the lane next should know, None if there is nothing."""
        since = self.failing_since
        if since is None or not (leaving or self.is_open or now - since >= KEEP_AFTER_MS):
            return None
        return Failing(self._of, since, self._open_until)

    def restore(self, failing: Failing) -> None:
        """Takes what `failing` gave, here or in another process, if it is of the same specification."""
        if failing.of == self._of:
            self.failing_since, self._open_until = failing.since, failing.open_until

    def _has_failed(self, now: int) -> None:
        if self.failing_since is None:
            self.failing_since = now

    def _close(self) -> None:
        self._recent.clear()
        self._open_until, self._trying = None, False

    def _open(self, now: int) -> None:
        self._close()
        self._open_until = now + self._limits.open
