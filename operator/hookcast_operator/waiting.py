"""How long to wait: for an event at most so long, and longer after each failure."""

import asyncio
from collections.abc import Sequence


async def wait_for(event: asyncio.Event, seconds: float | None) -> None:
    """Returns when the event is set, or after so long; None waits without end."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


def seconds_after(failures: int, waits: Sequence[float]) -> float:
    """The wait after `failures` earlier ones in a row; the last one from then on."""
    return waits[min(failures, len(waits) - 1)]
