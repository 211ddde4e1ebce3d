"""Writes accepted events to Redis: many in one script call, each with its deliveries and its publications."""

from collections.abc import Sequence

import msgspec
from redis.asyncio import Redis

from hookcast_app.redis import ALIVE_KEY, ALIVE_SECONDS, Keys, Script, channel, translated
from hookcast_core.errors import Unavailable

STORED = -1
REUSED = -2

_publish = Script("hookcast_app.events", "publish.lua")


class Publication(msgspec.Struct, frozen=True):
    """One event, ready to be stored: its bytes, the lanes that it matched and the channels that it goes to."""

    reference: str
    given: bytes | None
    record: bytes
    body: bytes
    lanes: Sequence[str]
    channels: Sequence[str]
    payload: bytes

    @property
    def size(self) -> int:
        """Roughly the bytes that this takes in a script call."""
        return len(self.record) + 2 * len(self.body) + 40 * len(self.lanes) + 200


class EventStore:
    """Events in Redis; lives as long as the app."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        retention_seconds: int,
        dedup_seconds: int,
        wait: tuple[int, int] | None = None,
    ) -> None:
        """`wait` is for how many replicas, and for how many ms at the most."""
        self._wait = wait
        # WAIT speaks of what its own connection wrote: that is one of our own then, and one call at a time uses it.
        self._redis = redis.client() if wait else redis
        self._keys = keys
        self._limits = (retention_seconds, dedup_seconds)

    async def publish(self, batch: Sequence[Publication]) -> list[int]:
        """STORED, REUSED, or (a duplicate) the number of matches of the first time, for each in turn.

        All of the batch is written or none. Raises Unavailable: what became of the batch is then unknown.
        """
        lanes = list(dict.fromkeys(uid for publication in batch for uid in publication.lanes))
        numbers = {uid: number for number, uid in enumerate(lanes, 1)}
        keys = [self._keys.ring, self._keys.hungry, self._keys.events, self._keys.mark]
        keys += [self._keys.lane(uid, "waiting") for uid in lanes]
        args: list[str | bytes | int] = [len(lanes), len(batch), *self._limits, self._keys.wake, *lanes]
        for publication in batch:
            keys.append(self._keys.event(publication.reference))
            if publication.given is not None:
                keys.append(self._keys.dedup(publication.reference))
            args += (publication.reference, publication.given or b"", publication.record, publication.body)
            args += (len(publication.lanes), *(numbers[uid] for uid in publication.lanes), len(publication.channels))
            if publication.channels:
                args += (publication.payload, *map(channel, publication.channels))
        with translated("publish"):
            verdicts: list[int] = await _publish(self._redis, keys, args)
            if self._wait is not None:
                await self._replicated(*self._wait, is_written=STORED in verdicts)
        return verdicts

    async def _replicated(self, replicas: int, timeout_ms: int, *, is_written: bool) -> None:
        """Returns once so many replicas have the events at hand. Raises Unavailable if they do not in that time."""
        if not is_written:
            # WAIT looks no further than its own connection's last write, and duplicates may be another's, and younger.
            await self._redis.set(ALIVE_KEY, "1", ex=ALIVE_SECONDS)
        reached = await self._redis.wait(replicas, timeout_ms)
        if reached < replicas:
            raise Unavailable(f"{reached} of {replicas} replicas of Redis have the event; publish it again")

    async def close(self) -> None:
        """Gives back what is its own."""
        if self._wait is not None:
            await self._redis.aclose()
