"""A token bucket: so many at once, then so many a second."""

import asyncio
import time
from collections.abc import Callable


class Bucket:
    """`burst` tokens, refilled at `rate` a second. Takers are served in their order."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._tokens = float(burst)
        self._at = clock()

    def take(self) -> float:
        """Takes a token; gives the seconds to wait before it may be used."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate) - 1
        self._at = now
        return max(0.0, -self._tokens / self._rate)

    async def wait(self) -> None:
        """Takes a token and waits until it may be used."""
        if seconds := self.take():
            await asyncio.sleep(seconds)
