"""Hears which lanes were published to while nobody was reading them."""

import asyncio
from collections.abc import Callable

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

_log = structlog.get_logger("hookcast.delivery")

BACK_OFF_SECONDS = 0.2


class Signals:
    """Redis' wake channel; lives as long as the app. `run()` is its one task.

    A signal may be lost (a broken connection): `on_gap` is called after each connect, so that its hearer looks itself.
    """

    def __init__(
        self, redis: Redis, channel: str, on_wake: Callable[[str, str], None], on_gap: Callable[[], None]
    ) -> None:
        self._redis = redis
        self._channel = channel
        self._on_wake = on_wake
        self._on_gap = on_gap

    async def run(self) -> None:
        """Listens until cancelled, through every restart of Redis."""
        while True:
            try:
                await self._listen()
            except (RedisError, OSError) as error:
                _log.debug("signals.disconnected", error=type(error).__name__)
            await asyncio.sleep(BACK_OFF_SECONDS)

    async def _listen(self) -> None:
        async with self._redis.pubsub() as subscription:
            await subscription.subscribe(self._channel)
            async for message in subscription.listen():
                if message["type"] == "message":
                    uid, _, reference = message["data"].decode().partition(" ")
                    self._on_wake(uid, reference)
                else:
                    self._on_gap()
