"""Keeps what Redis holds within its bounds: every dispatcher does, and it does no harm that several do."""

import asyncio

import structlog

from hookcast_app.delivery.leftovers import Leftovers
from hookcast_app.delivery.retention import Retention
from hookcast_app.events import Remembered
from hookcast_core.errors import Unavailable

BEAT_SECONDS = 1.0
BEATS_TO_LEFTOVERS = 60
"""Subscriptions go seldom, and what they leave behind is small."""

_log = structlog.get_logger("hookcast.delivery")


class Janitor:
    """Lives as long as the dispatcher; `run` is its one task."""

    def __init__(self, retention: Retention, remembered: Remembered, leftovers: Leftovers) -> None:
        self.retention = retention
        self.remembered = remembered
        self._leftovers = leftovers
        self._told: str | None = None

    async def run(self) -> None:
        """Works until cancelled, through every absence of Redis."""
        beats = 0
        while True:
            beats += 1
            try:
                await self.work(with_leftovers=beats % BEATS_TO_LEFTOVERS == 0)
                self._told = None
            except Unavailable as error:
                self._unavailable(error)
            await asyncio.sleep(BEAT_SECONDS)

    async def work(self, *, with_leftovers: bool) -> None:
        """One round. Raises Unavailable, also while the data are being moved."""
        taken = await self.retention.make_room()
        if taken:
            _log.debug("events.retired", events=taken)
        await self.remembered.forget()
        if with_leftovers:
            await self._leftovers.clear()

    def _unavailable(self, error: Unavailable) -> None:
        if error.detail != self._told:
            self._told = error.detail
            _log.debug("janitor.unavailable", detail=error.detail)
