"""Who is present: how the task that says so ends."""

import asyncio
from contextlib import suppress

import pytest
from redis.asyncio import Redis

from hookcast_app.realtime import presence
from hookcast_app.realtime.presence import Presence
from tests.support.channels import shards


async def test_it_ends_though_a_library_swallows_its_cancellation(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `asyncio.wait_for` may do beneath the Redis client."""
    is_writing = asyncio.Event()

    async def write(*_: object) -> None:
        is_writing.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    monkeypatch.setattr(presence, "_presence", write)
    present = Presence(shards(Redis()))
    present._beat.here["chat:a", "a client"] = b"{}"
    present.leave("chat:a", "a client")
    task = asyncio.create_task(present.run())
    await is_writing.wait()
    task.cancel()
    await asyncio.wait({task}, timeout=5)
    assert task.cancelled()
