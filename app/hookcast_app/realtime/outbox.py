"""What waits for one client that is written to through ASGI's `send`: bounded, in bytes."""

import asyncio
from collections.abc import Callable

MAX_QUEUED = 1_048_576
"""Bytes that may wait for a client that does not read."""


class Outbox:
    """Lives as long as its connection. `on_overflow` is called once, when more than MAX_QUEUED bytes wait.

    One write of whatever size is taken when nothing else waits: a large publication makes nobody slow.
    """

    def __init__(self, on_overflow: Callable[[], None]) -> None:
        self._chunks: list[bytes] = []
        self._size = 0
        self._is_closed = False
        self._changed = asyncio.Event()
        self._on_overflow = on_overflow

    def write(self, frames: bytes) -> None:
        """Queues for `take`; after `close`, or beyond the bound, nothing."""
        if self._is_closed:
            return
        self._chunks.append(frames)
        self._size += len(frames)
        self._changed.set()
        if self._size > MAX_QUEUED and len(self._chunks) > 1:
            self._chunks.clear()
            on_overflow = self._on_overflow
            self.close()
            on_overflow()

    def close(self) -> None:
        """Takes nothing more; what is queued can still be taken."""
        self._is_closed = True
        # It knows its owner, which knows this: without it both are freed when nobody else needs them.
        self._on_overflow = _nothing
        self._changed.set()

    async def take(self) -> bytes:
        """Waits for something and returns all of it; empty once closed and empty."""
        while not self._chunks and not self._is_closed:
            self._changed.clear()
            await self._changed.wait()
        taken = b"".join(self._chunks)
        self._chunks.clear()
        self._size = 0
        return taken


def _nothing() -> None:
    """Nothing can overflow any more."""
