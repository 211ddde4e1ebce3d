"""Keeps what Redis holds within its bounds: every dispatcher does, and it does no harm that several do."""

import asyncio

import structlog

from hookcast_app.delivery.retention import Retention
from hookcast_app.events import Remembered
from hookcast_core.errors import Unavailable

BEAT_SECONDS = 1.0

_log = structlog.get_logger("hookcast.delivery")


class Janitor:
    """Lives as long as the dispatcher; `run` is its one task."""

    def __init__(self, retention: Retention, remembered: Remembered) -> None:
        self._retention = retention
        self._remembered = remembered
        self._told: str | None = None

    async def run(self) -> None:
        """Works until cancelled, through every absence of Redis."""
        while True:
            try:
                await self.work()
                self._told = None
            except Unavailable as error:
                self._unavailable(error)
            await asyncio.sleep(BEAT_SECONDS)

    async def work(self) -> None:
        """One round. Raises Unavailable, also while the data are being moved."""
        taken = await self._retention.make_room()
        if taken:
            _log.debug("events.retired", events=taken)
        await self._remembered.forget()

    def _unavailable(self, error: Unavailable) -> None:
        if error.detail != self._told:
            self._told = error.detail
            _log.debug("janitor.unavailable", detail=error.detail)
