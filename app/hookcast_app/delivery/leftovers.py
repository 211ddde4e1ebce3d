"""Forgets the lanes of subscriptions that are gone, once nothing of theirs is kept any more."""

from collections.abc import Callable

from redis.asyncio import Redis

from hookcast_app.redis import Keys, Script, translated

LANES = 200
"""Lanes of one script."""

_leftovers = Script("hookcast_app.delivery", "leftovers.lua")


class Leftovers:
    """Lives as long as the app. `is_gone` says whether a subscription is gone for good."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        is_gone: Callable[[str], bool],
        *,
        retention_seconds: int,
        dead_letter_retention_seconds: int,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._is_gone = is_gone
        self._retention = (retention_seconds, dead_letter_retention_seconds)

    async def clear(self) -> int:
        """Looks at every lane that ever ended a delivery; how many there are no more. Raises Unavailable."""
        gone = sorted(uid for uid in await self._lanes() if self._is_gone(uid))
        cleared = 0
        for first in range(0, len(gone), LANES):
            cleared += await self._clear(gone[first : first + LANES])
        return cleared

    async def _lanes(self) -> set[str]:
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.smembers(self._keys.hungry)
        pipeline.smembers(self._keys.buried)
        pipeline.hkeys(self._keys.disabled)
        pipeline.hkeys(self._keys.failing)
        with translated("list lanes"):
            found = await pipeline.execute()
        return {uid.decode() for some in found for uid in some}

    async def _clear(self, uids: list[str]) -> int:
        names = self._keys
        keys = [names.mark, names.hungry, names.disabled, names.failing, names.buried]
        for uid in uids:
            keys += [names.lane(uid, "lease"), *names.places(uid)]
        with translated("forget lanes"):
            cleared: int = await _leftovers(self._redis, keys, [*self._retention, *uids])
        return cleared
