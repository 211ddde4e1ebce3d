"""Ids that publishers gave, remembered for HOOKCAST_DEDUP_SECONDS or within HOOKCAST_DEDUP_BYTES, whichever is less."""

from collections.abc import Callable

from redis.asyncio import Redis

from hookcast_app.redis import Keys, Script, translated

ID_BYTES = 120
"""What one of them takes in Redis, as measured (docs/operations.md)."""
FORGOTTEN_AT_ONCE = 1_000
"""Ids that one script forgets: some ms of Redis."""

_forget = Script("hookcast_app.events", "forget.lua")


class Remembered:
    """The ids of one partition; lives as long as the app.

    `window_seconds` is for how long they are remembered, as was found when some were last forgotten.
    """

    def __init__(
        self, redis: Redis, keys: Keys, *, seconds: int, most_bytes: int, parts: Callable[[], int] = lambda: 1
    ) -> None:
        """`most_bytes` are those of all partitions, of which there are `parts`; 0 remembers any number."""
        self._redis = redis
        self._keys = [keys.mark, keys.remembered, keys.remembered_order]
        self._seconds, self._all_bytes, self._parts = seconds, most_bytes, parts
        self.window_seconds = seconds

    async def forget(self) -> int:
        """Forgets what is too old or too much; how many. Raises Unavailable."""
        most = max(self._all_bytes // ID_BYTES // self._parts(), 1) if self._all_bytes else 0
        limits = (self._seconds, most, FORGOTTEN_AT_ONCE)
        forgotten, count = 0, FORGOTTEN_AT_ONCE
        while count == FORGOTTEN_AT_ONCE:
            with translated("forget ids"):
                count, self.window_seconds = await _forget(self._redis, self._keys, limits)
            forgotten += count
        return forgotten
