"""Writes events to one partition: those that arrive while it writes go together into the next call."""

import asyncio
from collections import deque
from typing import NamedTuple

from hookcast_app.events.store import EventStore, Publication
from hookcast_app.redis import LayoutChanged
from hookcast_core.errors import Unavailable

MAX_WRITE_EVENTS = 2_000
MAX_WRITE_BYTES = 4_194_304
MAX_WRITE_DELIVERIES = 4_000
"""What goes into one script call, so that none blocks Redis for long; one event alone may be larger."""


class _Waiting(NamedTuple):
    publication: Publication
    epoch: int
    verdict: asyncio.Future[int]


class Writer:
    """Lives as long as the app; `run()` is its one task."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._queue: deque[_Waiting] = deque()
        self._filled = asyncio.Event()
        self.queued_bytes = 0

    def enqueue(self, publication: Publication, epoch: int = 0) -> asyncio.Future[int]:
        """What became of it (EventStore.publish), once it is written; may raise what that raises.

        `epoch` is that of the layout by which it was placed here.
        """
        verdict: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(publication, epoch, verdict))
        self.queued_bytes += publication.size
        self._filled.set()
        return verdict

    async def run(self) -> None:
        """Writes what is queued, one call at a time: what arrives during a call goes together into the next."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._queue:
                await self._write(self._take())

    def _take(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        size = deliveries = 0
        while self._queue and len(batch) < MAX_WRITE_EVENTS:
            publication, epoch, _ = self._queue[0]
            size += publication.size
            deliveries += len(publication.lanes)
            is_full = size > MAX_WRITE_BYTES or deliveries > MAX_WRITE_DELIVERIES
            if batch and (is_full or epoch != batch[0].epoch):
                break
            batch.append(self._queue.popleft())
            self.queued_bytes -= batch[-1].publication.size
        return batch

    async def _write(self, batch: list[_Waiting]) -> None:
        try:
            verdicts = await self._store.publish([waiting.publication for waiting in batch], batch[0].epoch)
        except BaseException as error:
            is_passing = isinstance(error, Unavailable | LayoutChanged)
            for waiting in batch:
                if not waiting.verdict.done():
                    waiting.verdict.set_exception(error if is_passing else Unavailable("the writer of events stopped"))
            if not is_passing:
                raise
            return
        for waiting, verdict in zip(batch, verdicts, strict=True):
            if not waiting.verdict.done():  # a client that went away cancelled it
                waiting.verdict.set_result(verdict)
