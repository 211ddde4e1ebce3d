"""Partitions of the data: which there are, which one a key or an event belongs to, and how there come to be more.

How many there are stands in Redis. Growing adds partitions while everything runs: publishing by the earlier layout is
ended in each partition (`switches`), and what the earlier ones hold stays where it is and is worked off there.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

import structlog
from redis.asyncio import Redis

from hookcast_app.redis.errors import translated
from hookcast_app.redis.keys import Keys
from hookcast_app.redis.moving import swap
from hookcast_app.redis.scripts import Script
from hookcast_app.redis.servers import tags_of
from hookcast_core.errors import InvalidInput, Reason, Unavailable

LOOK_SECONDS = 1.0
LAYOUT_CODE = "HOOKCASTLAYOUT"
"""What a script answers that was called by a layout which is no longer that of its partition."""

_switch = Script("hookcast_app.redis", "switch.lua")
_log = structlog.get_logger("hookcast.redis")


class LayoutChanged(Exception):  # noqa: N818  it says what happened
    """There are more partitions now: nothing was done; look, and do it again."""


class Partition(NamedTuple):
    """One partition: the client for it, and its keys."""

    redis: Redis
    keys: Keys


class Clients(Protocol):
    """Servers, as partitions see them."""

    @property
    def is_cluster(self) -> bool: ...  # noqa: D102  named by the class
    def of(self, tag: int) -> Redis: ...  # noqa: D102


class Partitions:
    """Lives as long as the app; `run` is its one task.

    `active` are those of now in order, `all` also those of before. `epoch` counts how often there came to be more;
    `counts` says how many there were each time.
    """

    def __init__(self, servers: Clients) -> None:
        self._servers = servers
        self.home = Partition(servers.of(0), Keys(0))
        self.counts: tuple[int, ...] = (1,)
        self.active: tuple[Partition, ...] = (self.home,)
        self.all: tuple[Partition, ...] = (self.home,)
        self._switches: dict[int, tuple[int, ...]] = {}
        self._openers: list[Callable[[], Awaitable[None]]] = []
        self._followers: list[Callable[[], None]] = []
        self._changing = asyncio.Lock()

    @property
    def epoch(self) -> int:
        """How often the number of partitions has changed."""
        return len(self.counts) - 1

    @property
    def is_cluster(self) -> bool:
        """Whether partitions may be on different servers, so that no script reaches two of them."""
        return self._servers.is_cluster

    def switches(self, partition: Partition) -> tuple[int, ...]:
        """When (epoch ms) each change of the layout came to a partition: what is older is of before."""
        return self._switches.get(partition.keys.tag, ())

    def layout(self, epoch: int) -> tuple[Partition, ...]:
        """The partitions that there were then, in order."""
        known = {partition.keys.tag: partition for partition in self.all}
        return tuple(known[tag] for tag in tags_of(self.counts[epoch]))

    def by_tag(self, tag: int) -> Partition | None:
        """A partition by its hash tag."""
        return next((partition for partition in self.all if partition.keys.tag == tag), None)

    def listen(self, opener: Callable[[], Awaitable[None]], follower: Callable[[], None] = lambda: None) -> None:
        """Calls `opener` whenever `all` has more partitions, before they are used, and `follower` once they are."""
        self._openers.append(opener)
        self._followers.append(follower)

    async def open(self, wanted: int) -> None:
        """Learns how many partitions there are, and makes them `wanted`.

        Raises InvalidInput (field `partitions`) if there are more, Unavailable.
        """
        stored = await self._read()
        if stored is None or stored[-1] < wanted:
            epoch = await self._reached(wanted)
            if stored is None:
                # Nothing was published yet, or all of it to one partition; or what is known once was lost, and each of
                # the others still knows how often there came to be more.
                first = wanted if epoch or await self._is_fresh() else 1
                await self._swap("", _text([first] * (epoch + 1)))
                stored = await self._read() or (1,)
        while stored[-1] < wanted:
            await self._swap(_text(stored), _text((*stored, wanted)))
            stored = await self._read() or (1,)
        if stored[-1] > wanted:
            detail = f"is {wanted}, and the data of this Redis are in {stored[-1]}; they can become more, never fewer"
            raise InvalidInput(Reason.INVALID_SETTING, "partitions", detail)
        await self._adopt(stored)

    async def run(self) -> None:
        """Looks for a change until cancelled, through every absence of Redis."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.refresh()
            except Unavailable as error:
                _log.debug("partitions.unavailable", detail=error.detail)

    async def learn(self) -> None:
        """Learns which partitions there are, of a deployment that this process is no part of. Writes nothing.

        Raises Unavailable.
        """
        self.counts = await self._read() or self.counts
        self.all = tuple(self._each(self.counts).values())
        self.active = self.layout(self.epoch)

    def _each(self, counts: Sequence[int]) -> dict[int, Partition]:
        """All partitions that there are or were, by tag, those of now first."""
        tags = dict.fromkeys(tag for count in reversed(counts) for tag in tags_of(count))
        return {tag: self.by_tag(tag) or Partition(self._servers.of(tag), Keys(tag)) for tag in tags}

    async def refresh(self) -> None:
        """Learns whether there are more by now. Raises Unavailable."""
        stored = await self._read()
        if stored is None:
            await self.restore()
        elif len(stored) > len(self.counts):
            await self._adopt(stored)

    async def renew(self) -> None:
        """After LayoutChanged: learns what there is now, and ends earlier layouts where that was lost.

        Raises Unavailable.
        """
        await self.refresh()
        await self.restore()

    async def restore(self) -> None:
        """Writes what is known to a Redis that came back empty. Raises Unavailable."""
        await self._swap("", _text(self.counts))
        for partition in self.all:
            await self._end_earlier(partition, self.epoch)

    async def _adopt(self, counts: tuple[int, ...]) -> None:
        async with self._changing:
            if counts == self.counts:
                return
            known = self._each(counts)
            for partition in known.values():
                await self._end_earlier(partition, len(counts) - 1)
            if self.epoch or len(counts) > 1:
                _log.info("partitions.grown", partitions=counts[-1], before=counts[:-1])
            self.all = tuple(known.values())
            for opener in self._openers:
                await opener()
            self.counts = counts
            self.active = self.layout(self.epoch)
            for follower in self._followers:
                follower()

    async def _end_earlier(self, partition: Partition, epoch: int) -> None:
        """Once this was done to every partition, nothing is published by an earlier layout."""
        if not epoch:
            return
        with translated("change its partitions"):
            keys = [partition.keys.mark, partition.keys.switches]
            found: bytes = await _switch(partition.redis, keys, [epoch])
        self._switches[partition.keys.tag] = tuple(map(int, found.split()[1:]))

    async def _reached(self, count: int) -> int:
        """Reaches each of so many partitions before there are; how often their number has changed.

        Raises Unavailable.
        """
        epochs = []
        for partition in self._each([count]).values():
            with translated("be asked for its partitions"):
                found = await partition.redis.get(partition.keys.switches)
            epochs.append(int((found or b"0").split()[0]))
        return max(epochs)

    async def _read(self) -> tuple[int, ...] | None:
        with translated("be asked for its partitions"):
            stored = await self.home.redis.get(self.home.keys.layout)
        return None if stored is None else tuple(map(int, stored.split()))

    async def _swap(self, before: str, after: str) -> None:
        with translated("change its partitions"):
            await swap(self.home.redis, self.home.keys.layout, before, after)

    async def _is_fresh(self) -> bool:
        with translated("be asked for its events"):
            return not await self.home.redis.exists(self.home.keys.events)


def _text(counts: Sequence[int]) -> str:
    return " ".join(map(str, counts))
