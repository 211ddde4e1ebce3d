"""Passes lanes on to other processes, so that each has about as many: see `sharing`."""

import asyncio
from collections.abc import Callable, Iterable

import structlog

from hookcast_app.configuration import CurrentConfiguration
from hookcast_app.delivery.dispatcher import Dispatcher
from hookcast_app.delivery.sharing import surplus
from hookcast_app.delivery.store import LaneStore
from hookcast_core.errors import Unavailable

SECONDS = 1.0

_log = structlog.get_logger("hookcast.delivery")


class Balance:
    """Of a process' lanes in all partitions; lives as long as the app. `run` is its one task.

    `store` is that of the partition where processes tell each other how many lanes they hold.
    """

    def __init__(
        self, store: LaneStore, configuration: CurrentConfiguration, dispatchers: Callable[[], Iterable[Dispatcher]]
    ) -> None:
        self._store = store
        self._configuration = configuration
        self._dispatchers = dispatchers
        self._stopped = False

    async def run(self) -> None:
        """Works until cancelled, through every absence of Redis."""
        while True:
            try:
                await self._look()
            except Unavailable as error:
                _log.debug("balance.unavailable", detail=error.detail)
            await asyncio.sleep(SECONDS)

    async def stop(self) -> None:
        """Tells that this process takes no more lanes."""
        self._stopped = True
        try:
            await self._store.unshare()
        except Unavailable as error:  # the others notice by themselves
            _log.debug("balance.unavailable", detail=error.detail)

    async def _look(self) -> None:
        """Passes on what others should have; who does not know all subscriptions has no share."""
        if self._stopped or not self._configuration.complete:
            return
        dispatchers = list(self._dispatchers())
        share = await self._store.share(sum(dispatcher.lanes_held for dispatcher in dispatchers))
        held = [(lane.in_flight, at, lane) for at, each in enumerate(dispatchers) for lane in each.lanes_to_share]
        idlest = sorted(held, key=lambda each: each[0])
        for _, at, lane in idlest[: surplus(share, len(held))]:
            dispatchers[at].pass_on(lane)
