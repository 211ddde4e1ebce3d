"""The registry of checks.

A check is a plain function without I/O: what it needs to know is kept up to date elsewhere.
"""

import asyncio
import time
from collections.abc import Callable

import structlog

Check = Callable[[], str | None]
"""The reason why this part cannot serve now, or None if it can."""

BEAT_SECONDS = 1.0
LIVE_SECONDS = 10.0
"""A loop that has not turned for so long is stuck; restarting the process is then the cure."""

_log = structlog.get_logger("hookcast.health")


class Health:
    """Lives as long as the process. `run()` is its heartbeat; before its first beat the process counts as alive."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._checks: dict[str, Check] = {}
        self._last_beat: float | None = None
        self._stopping: str | None = None

    def register(self, name: str, check: Check) -> None:
        """Adds a check under a name that readiness shows; a second one of the same name replaces the first."""
        self._checks[name] = check

    def turn_unready(self, reason: str) -> None:
        """For good: the process is on its way out."""
        self._stopping = reason

    def live(self) -> str | None:
        """Why this process should be restarted, or None."""
        if self._last_beat is None:
            return None
        silent = self._clock() - self._last_beat
        return f"the event loop has not turned for {silent:.0f} s" if silent > LIVE_SECONDS else None

    def ready(self) -> dict[str, str]:
        """Each failing check and its reason; empty if the process may get traffic."""
        failing = {} if self._stopping is None else {"process": self._stopping}
        for name, check in self._checks.items():
            reason = _result(name, check)
            if reason is not None:
                failing[name] = reason
        return failing

    async def run(self, on_lag: Callable[[float], None] = lambda _seconds: None) -> None:
        """Beats once a second until it is cancelled and reports how late each beat came, in seconds."""
        while True:
            due = self._clock() + BEAT_SECONDS
            self._last_beat = self._clock()
            await asyncio.sleep(BEAT_SECONDS)
            on_lag(max(0.0, self._clock() - due))


def _result(name: str, check: Check) -> str | None:
    try:
        return check()
    except Exception as error:  # noqa: BLE001  a broken check is a failing one
        _log.error("a health check failed to run", check=name, exc_info=error)
        return f"the check itself failed: {type(error).__name__}"
