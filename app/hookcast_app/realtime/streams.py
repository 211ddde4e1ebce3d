"""Publications in Redis: numbered, kept for a while and published by one script; and what is read of them later."""

import asyncio
import secrets
from collections.abc import Sequence
from importlib.resources import files
from typing import NamedTuple, cast

from hookcast_app.realtime.channels import ChannelRules
from hookcast_app.realtime.positions import Kept, Position, Read
from hookcast_app.realtime.protocol import HistoryRequest
from hookcast_app.realtime.shards import POSITION_SECONDS, Shard, Shards
from hookcast_app.redis import Script, translated

ONCE_SECONDS = 300
"""For how long a publication's idempotency key is known."""
AT_ONCE = 100
"""Publications in one script call."""
HISTORY_BYTES = 4_194_304
"""Of publications that are read at once: well above what a client is queued before it is closed as a slow one, so that
it can recover; and not so much that many who come back at the same time exhaust the server's memory."""

PUBLICATION_LUA = files("hookcast_app.realtime").joinpath("publication.lua").read_bytes()
"""What goes before every script that publishes on channels."""
_publish = Script("hookcast_app.realtime", "publish.lua", PUBLICATION_LUA)
_history = Script("hookcast_app.realtime", "history.lua")
_renew = Script("hookcast_app.realtime", "renew.lua")


class Outgoing(NamedTuple):
    """A publication on a channel, encoded; one with an idempotency key is published once."""

    channel: str
    publication: bytes
    once: str = ""
    skip_history: bool = False


class Streams:
    """Lives as long as the app. What is published while a script is under way goes into the next one, in order."""

    def __init__(self, shards: Shards, rules: ChannelRules) -> None:
        self._shards = shards
        self._rules = rules
        self._queued: dict[Shard, list[tuple[Outgoing, asyncio.Future[Position]]]] = {}
        self._senders: dict[Shard, asyncio.Task[None]] = {}
        self._reads: dict[tuple[str, int], asyncio.Future[Read]] = {}

    def has_history(self, channel: str) -> bool:
        """Whether a channel's publications are numbered and kept."""
        return self._rules.options(channel).history_size > 0

    async def publish(self, outgoing: Outgoing) -> Position:
        """Publishes, and says where. Raises Unavailable: it may have been published all the same."""
        (future,) = self.send([outgoing])
        return await future

    def send(self, batch: Sequence[Outgoing]) -> list[asyncio.Future[Position]]:
        """Publishes a batch, in order within each channel; each future as `publish`."""
        loop = asyncio.get_running_loop()
        futures = []
        for outgoing in batch:
            future: asyncio.Future[Position] = loop.create_future()
            shard = self._shards.of(outgoing.channel)
            self._queued.setdefault(shard, []).append((outgoing, future))
            if shard not in self._senders:
                self._senders[shard] = loop.create_task(self._send_all(shard), name="realtime-publish")
            futures.append(future)
        return futures

    async def _send_all(self, shard: Shard) -> None:
        try:
            while queued := self._queued.pop(shard, None):
                for start in range(0, len(queued), AT_ONCE):
                    await self._send_some(shard, queued[start : start + AT_ONCE])
        finally:
            # Nobody cancels this but the end of the process.
            del self._senders[shard]

    async def _send_some(self, shard: Shard, some: Sequence[tuple[Outgoing, asyncio.Future[Position]]]) -> None:
        args: list[str | bytes | int] = [self._shards.verb, shard.prefix, new_epoch(), POSITION_SECONDS]
        for outgoing, _ in some:
            options = self._rules.options(outgoing.channel)
            size = 0 if outgoing.skip_history else options.history_size
            args += (
                outgoing.channel,
                size,
                options.history_ttl // 1000,
                outgoing.once,
                ONCE_SECONDS,
                outgoing.publication,
            )
        keys = [shard.key("position", outgoing.channel) for outgoing, _ in some]
        try:
            with translated("publish on channels"):
                answers: list[tuple[int, bytes]] = await _publish(shard.redis, keys, args)
        except Exception as error:  # noqa: BLE001  whoever publishes is told, also of what is no Unavailable
            _set([future for _, future in some], [error] * len(some))
        else:
            _set([future for _, future in some], [Position(offset, epoch.decode()) for offset, epoch in answers])

    def announce(self, channel: str, said: bytes) -> None:
        """Tells subscribers something that is no publication, after what was published here before."""
        (future,) = self.send([Outgoing(channel, said, skip_history=True)])
        future.add_done_callback(asyncio.Future.exception)  # who comes and goes is not made up for

    async def since(self, channel: str, offset: int) -> Read:
        """Where a channel stands, and what was published since. Raises Unavailable.

        Those who ask the same while it is read get the same answer, unless one of those who wait for it has given up:
        what came after a reading is kept for as long as they wait.
        """
        key = (channel, offset)
        if (reading := self._reads.get(key)) is None:
            reading = self._reads[key] = asyncio.ensure_future(self.history(channel, f"({offset}", "+", -1))
        try:
            return await asyncio.shield(reading)
        finally:
            if self._reads.get(key) is reading:
                del self._reads[key]

    async def history(self, channel: str, first: str, last: str, limit: int, *, reverse: bool = False) -> Read:
        """Where a channel stands, and a part of its history; see history.lua. Raises Unavailable.

        It is at most `limit` publications (-1: any number), and no more than have HISTORY_BYTES together.
        """
        shard = self._shards.of(channel)
        args = [new_epoch(), POSITION_SECONDS, first, last, limit, int(reverse), HISTORY_BYTES]
        with translated("read a channel's history"):
            epoch, offset, found = await _history(
                shard.redis, [shard.key("position", channel), shard.key("history", channel)], args
            )
        entries = cast("list[tuple[bytes, list[bytes]]]", found)
        kept = [Kept(int(entry.partition(b"-")[0]), fields[1]) for entry, fields in entries]
        return Read(Position(int(offset), epoch.decode()), kept)

    async def renew(self, channel: str, epoch: str) -> None:
        """Begins a new epoch of a channel if it is still of that one. Raises Unavailable."""
        shard = self._shards.of(channel)
        with translated("begin a new epoch of a channel"):
            await _renew(shard.redis, [shard.key("position", channel)], [epoch, new_epoch()])

    async def forget(self, channel: str) -> None:
        """Removes a channel's history; it stands where it stood. Raises Unavailable."""
        shard = self._shards.of(channel)
        with translated("remove a channel's history"):
            await shard.redis.delete(shard.key("history", channel))


def _set(futures: Sequence[asyncio.Future[Position]], outcomes: Sequence[Position | Exception]) -> None:
    """Nobody may wait for one any more."""
    for future, outcome in zip(futures, outcomes, strict=True):
        if future.done():
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


class EpochGone(Exception):  # noqa: N818  it says what happened
    """A position is of an earlier epoch: nothing is known of what came after it."""


async def read_history(streams: Streams, request: HistoryRequest) -> Read:
    """What a client or the server API asks for. Raises EpochGone, Unavailable."""
    since, first, last = request.since, "-", "+"
    if since is not None and request.reverse:
        last = f"({since.offset}-0"
    elif since is not None:
        first = f"({since.offset}"
    read = await streams.history(request.channel, first, last, max(request.limit, -1), reverse=request.reverse)
    if since is not None and since.epoch not in {"", read.position.epoch}:
        raise EpochGone
    is_ahead = since is not None and since.offset > read.position.offset
    return Read(read.position, []) if is_ahead else read


def new_epoch() -> str:
    """Tells one life of a channel's history from others."""
    return secrets.token_hex(4)
