"""How much is to be delivered, and how long the oldest of it has been due: read from Redis from time to time."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from hookcast_app.configuration import CurrentConfiguration
from hookcast_app.delivery.store import ALL, FAR, Depth, LaneStore
from hookcast_app.observability import Metrics
from hookcast_core.errors import Unavailable

SECONDS = 15.0
"""Between two looks; with 10,000 lanes one takes Redis some 10 ms, in pieces."""
LANES_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Totals:
    """Of all lanes: deliveries that are due, those to be attempted later, and for how many ms the oldest is due."""

    waiting: int = 0
    later: int = 0
    oldest_ms: int = 0


class Backlog:
    """Lives as long as the app; `run()` is its one task. The same numbers are read by every process of a deployment.

    A subscription that is suspended waits because somebody wants it to: it counts, but is not told as old.
    """

    def __init__(
        self,
        stores: Callable[[], Iterable[LaneStore]],
        configuration: CurrentConfiguration,
        clock: Callable[[], int],
        metrics: Metrics,
    ) -> None:
        """`stores` are those of all partitions."""
        self._stores = stores
        self._configuration = configuration
        self._clock = clock
        self.totals = Totals()
        metrics.sampled(
            "gauge",
            "deliveries",
            "Deliveries that have not ended: due, or to be attempted again later.",
            "state",
            lambda: [("waiting", self.totals.waiting), ("later", self.totals.later)],
        )
        metrics.gauge(
            "oldest_delivery_age_seconds",
            "How long the oldest delivery has been due, those of suspended subscriptions apart.",
            lambda: self.totals.oldest_ms / 1000,
        )

    async def run(self, pause: float = SECONDS) -> None:
        """Looks every `pause` seconds until it is cancelled; what was seen last stays while Redis does not answer."""
        while True:
            with suppress(Unavailable):  # the watch of Redis tells it
                await self.look()
            await asyncio.sleep(pause)

    async def look(self) -> None:
        """One look at every lane with anything to do. Raises Unavailable."""
        waiting = later = 0
        oldest = now = self._clock()
        for store in list(self._stores()):
            async for uid, depth in _depths(store):
                waiting += depth.waiting
                later += depth.later
                if depth.due_since is not None and not self._is_suspended(uid):
                    oldest = min(oldest, depth.due_since)
        self.totals = Totals(waiting, later, now - oldest)

    def _is_suspended(self, uid: str) -> bool:
        entry = self._configuration.entries.get(uid)
        return entry is not None and entry.spec.suspend


async def _depths(store: LaneStore) -> AsyncIterator[tuple[str, Depth]]:
    """Of all lanes with anything to do."""
    lanes = await store.due(ALL, FAR)
    for start in range(0, len(lanes), LANES_AT_ONCE):
        some = lanes[start : start + LANES_AT_ONCE]
        for each in zip(some, await store.depths(some), strict=True):
            yield each
