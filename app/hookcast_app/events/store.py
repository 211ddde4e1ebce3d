"""Writes accepted events to Redis: many in one script call, each with its deliveries and its publications."""

from collections.abc import Coroutine, Sequence
from typing import Any, NamedTuple

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from hookcast_app.realtime import POSITION_SECONDS, PUBLICATION_LUA, Shards, new_epoch
from hookcast_app.redis import ALIVE_SECONDS, LAYOUT_CODE, Keys, LayoutChanged, Script, translated
from hookcast_app.references import ref_of
from hookcast_core.errors import Unavailable

STORED = -1
REUSED = -2
ELSEWHERE = -3

_publish = Script("hookcast_app.events", "publish.lua", PUBLICATION_LUA)
_claim = Script("hookcast_app.events", "claim.lua")


class Publication(msgspec.Struct, frozen=True):
    """One event, ready to be stored: its bytes, the lanes that it matched and the channels that it goes to.

    `is_ordered` says that it matched a subscription that gets its events in order.
    """

    reference: str
    given: bytes | None
    record: bytes
    body: bytes
    lanes: Sequence[str]
    channels: Sequence[str]
    payload: bytes
    is_ordered: bool = False

    @property
    def size(self) -> int:
        """Roughly the bytes that this takes in a script call."""
        return len(self.record) + 2 * len(self.body) + 40 * len(self.lanes) + 200


class Claim(NamedTuple):
    """An id that is to be used for an event in a partition, by tag; `expected` is what is known of it until then."""

    publication: Publication
    tag: int
    expected: bytes = b""


def reserved(publication: Publication, tag: int) -> bytes:
    """What is known of an id that is to be used in another partition."""
    return (publication.given or b"") + f"@{tag}".encode()


class EventStore:
    """Events in one partition; lives as long as the app.

    `relay` is the Redis channel that wakes the relay of its outbox; without one publications go out at once.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        shards: Shards,
        *,
        retention_seconds: int,
        dedup_seconds: int,
        wait: tuple[int, int] | None = None,
        relay: str = "",
    ) -> None:
        """`wait` is for how many replicas, and for how many ms at the most."""
        self._wait = wait
        self._relay = relay
        # WAIT speaks of what its own connection wrote: that is one of our own then, and one call at a time uses it.
        self._redis = redis.client() if wait else redis
        self._keys = keys
        self._shards = shards
        self._limits = (retention_seconds, dedup_seconds)

    async def publish(self, batch: Sequence[Publication], epoch: int = 0) -> list[int]:
        """STORED, REUSED, ELSEWHERE, or (a duplicate) the number of matches of the first time, for each in turn.

        All of the batch is written or none. Raises Unavailable: what became of the batch is then unknown. Raises
        LayoutChanged if this partition's layout is not that of `epoch`.
        """
        lanes = list(dict.fromkeys(uid for publication in batch for uid in publication.lanes))
        numbers = {uid: number for number, uid in enumerate(lanes, 1)}
        names = self._keys
        keys = [names.ring, names.hungry, names.events, names.mark, names.switches, names.outbox, names.stored]
        keys += [names.remembered, names.remembered_order]
        keys += [self._keys.lane(uid, "waiting") for uid in lanes]
        args: list[str | bytes | int] = [len(lanes), len(batch), *self._limits, names.wake, epoch, self._relay]
        args += (f"@{names.tag}", new_epoch(), POSITION_SECONDS, *lanes)
        for publication in batch:
            keys.append(self._keys.event(publication.reference))
            args += (publication.reference, publication.given or b"", publication.record, publication.body)
            args += (len(publication.lanes), *(numbers[uid] for uid in publication.lanes), len(publication.channels))
            if publication.channels:
                args.append(publication.payload)
                for name in publication.channels:
                    args += (name,) if self._relay else self._shards.route(name)
        with translated("publish"):
            verdicts: list[int] = await _by_layout(_publish(self._redis, keys, args))
            if self._wait is not None:
                await self._replicated(*self._wait, is_written=STORED in verdicts)
        return verdicts

    async def claim(self, wanted: Sequence[Claim], epoch: int | None) -> list[bytes]:
        """What is known here of ids, each b"" if nothing.

        Those of which is known what is expected are reserved then, unless `epoch` is None. Raises Unavailable,
        LayoutChanged.
        """
        names = self._keys
        keys = [names.mark, names.switches, names.remembered, names.remembered_order]
        args: list[str | bytes | int] = ["" if epoch is None else epoch, self._limits[1]]
        for claim in wanted:
            args += (ref_of(claim.publication.reference), claim.expected, reserved(claim.publication, claim.tag))
        with translated("look for ids"):
            found: list[bytes] = await _by_layout(_claim(self._redis, keys, args))
        return found

    async def _replicated(self, replicas: int, timeout_ms: int, *, is_written: bool) -> None:
        """Returns once so many replicas have the events at hand. Raises Unavailable if they do not in that time."""
        if not is_written:
            # WAIT looks no further than its own connection's last write, and duplicates may be another's, and younger.
            await self._redis.set(self._keys.alive, "1", ex=ALIVE_SECONDS)
        reached = await self._redis.wait(replicas, timeout_ms)
        if reached < replicas:
            raise Unavailable(f"{reached} of {replicas} replicas of Redis have the event; publish it again")

    async def close(self) -> None:
        """Gives back what is its own."""
        if self._wait is not None:
            await self._redis.aclose()


async def _by_layout(call: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await call
    except ResponseError as error:
        if str(error).startswith(LAYOUT_CODE):
            raise LayoutChanged from None
        raise
