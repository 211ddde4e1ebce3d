"""Long work on the event loop, done in pieces."""

import asyncio
import time
from collections.abc import Callable

PIECE_SECONDS = 0.002


class Pause:
    """To be awaited between the pieces of some work: lets others have the loop once `PIECE_SECONDS` were taken."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._since = clock()

    async def __call__(self) -> None:
        """Returns at once, or when whatever waits for the loop has had its turn."""
        if self._clock() - self._since >= PIECE_SECONDS:
            await asyncio.sleep(0)
            self._since = self._clock()
