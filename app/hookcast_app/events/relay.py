"""Relays publications on a Redis Cluster: from the outbox of the event's partition to the shard of the channel.

No script reaches two slots of a cluster, so that a publication is stored with its event and published afterwards. It
may come twice (its relay died before it could say that it had published it): each channel takes an event once.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import structlog

from hookcast_app.realtime import POSITION_SECONDS, PUBLICATION_LUA, Shard, Shards, new_epoch
from hookcast_app.redis import Partition, Script, translated
from hookcast_app.references import ref_of
from hookcast_core.errors import Unavailable

LEASE_MS = 5_000
POLL_SECONDS = 1.0
AT_ONCE = 64
MOST_BYTES = 4_194_304
"""What goes into one script, so that none blocks Redis for long; one event's publications alone may be more."""
SEEN_SECONDS = 300
"""For so long a channel knows which events it has had."""

_outbox = Script("hookcast_app.events", "outbox.lua")
_relayed = Script("hookcast_app.events", "relayed.lua", PUBLICATION_LUA)
_log = structlog.get_logger("hookcast.events")


class Entry(NamedTuple):
    """What an outbox has for one event: `e` its reference, `p` the payload, `c` the channels."""

    id: bytes
    fields: dict[bytes, bytes]

    @property
    def size(self) -> int:
        """The bytes that go to channels."""
        return len(self.fields[b"p"]) * (self.fields[b"c"].count(b" ") + 1)


class Relay:
    """Of one partition's outbox; lives as long as the app. `run` is its one task; `token` names this process."""

    def __init__(self, partition: Partition, shards: Shards, token: str) -> None:
        self._partition = partition
        self._shards = shards
        self._token = token
        self._filled = asyncio.Event()

    @staticmethod
    def wake_channel(partition: Partition) -> str:
        """The Redis channel on which an outbox says that it is no longer empty."""
        return f"{partition.keys.prefix}relay-wake"

    def wake(self, *_: object) -> None:
        """There is something in the outbox, or may be."""
        self._filled.set()

    async def run(self) -> None:
        """Relays until cancelled, through every absence of Redis; then another process may at once."""
        try:
            while True:
                self._filled.clear()
                try:
                    await self._empty()
                except Unavailable as error:
                    _log.debug("relay.unavailable", detail=error.detail)
                try:
                    async with asyncio.timeout(POLL_SECONDS):
                        await self._filled.wait()
                except TimeoutError:
                    continue
        finally:
            await self._leave()

    async def _empty(self) -> None:
        done: list[bytes] = []
        while (entries := await self._take(AT_ONCE, done)) or done:
            for some in _in_pieces(entries):
                await self._publish(some)
            done = [entry for entry, _ in entries]

    async def _leave(self) -> None:
        try:
            await self._take(0, [])
        except Unavailable as error:  # then the lease ends by itself
            _log.debug("relay.unavailable", detail=error.detail)

    async def _take(self, count: int, done: Sequence[bytes]) -> list[Entry]:
        keys = self._partition.keys
        with translated("relay publications"):
            found = await _outbox(
                self._partition.redis,
                [keys.mark, keys.relay, keys.outbox],
                [self._token, LEASE_MS, count, *done],
            )
        return [Entry(entry, dict(zip(flat[::2], flat[1::2], strict=True))) for entry, flat in found or ()]

    async def _publish(self, entries: Sequence[Entry]) -> None:
        """In the order of the outbox on each channel."""
        keys: dict[Shard, list[str]] = defaultdict(list)
        args: dict[Shard, list[str | bytes | int]] = defaultdict(
            lambda: [self._shards.verb, new_epoch(), POSITION_SECONDS, SEEN_SECONDS]
        )
        for _, fields in entries:
            ref = ref_of(fields[b"e"].decode())
            for name in fields[b"c"].decode().split(" "):
                shard = self._shards.of(name)
                keys[shard].append(shard.key("once", f"{name}:event {ref}"))
                args[shard] += (*self._shards.route(name), fields[b"p"])
        with translated("publish on channels"):
            for shard, seen in keys.items():
                await _relayed(shard.redis, seen, args[shard])


def _in_pieces(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """In order, each piece small enough for one script."""
    piece: list[Entry] = []
    for entry in entries:
        if piece and sum(each.size for each in piece) + entry.size > MOST_BYTES:
            yield piece
            piece = []
        piece.append(entry)
    if piece:
        yield piece
