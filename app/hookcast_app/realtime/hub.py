"""Which connection listens to which channel, and the writes that reach them: one a client and loop tick.

A publication is encoded once for each encoding that its channel's subscribers want, and waits in a buffer. At the end
of the loop's tick each buffer is joined once, or once for each group of clients that have the same buffers to come,
and written once per client. Nothing here awaits, and order within a channel is the order of `publish`.
"""

import asyncio
import logging
import time
from collections.abc import Iterator
from typing import Protocol

from hookcast_app.realtime.framing import ENCODERS, PUSHES, UNREADABLE, Encoding
from hookcast_app.realtime.stats import Stats

FLUSH_BYTES = 65_536
"""A buffer that grows to this is written before the tick ends: a write stays near what a socket takes at once."""

SHORTEST_REST, LONGEST_REST = 0.001, 0.02
"""Seconds: a flush that took less is followed by the next one at once, and none has publications wait for longer."""

_log = logging.getLogger(__name__)


class Connection(Protocol):
    """A client as the hub sees it."""

    @property
    def encoding(self) -> Encoding:
        """What `write` takes."""
        ...

    def write(self, frames: bytes, /) -> None:
        """Sends or queues. Never raises, never calls the hub back: it runs while the hub walks its subscribers."""
        ...

    def interrupted(self, channel: str) -> None:
        """Publications of `channel` may be missing; the connection may call the hub."""
        ...

    def disconnect(self) -> None:
        """The server goes away; the client should come back, to another one."""
        ...


class _Group:
    """The subscribers of one channel that want one encoding, and what they have to come."""

    __slots__ = ("encode", "frames", "members", "push", "size")

    def __init__(self, encoding: Encoding) -> None:
        self.encode = ENCODERS[encoding]
        self.push = PUSHES[encoding]
        self.frames: list[bytes] = []
        self.size = 0
        # A dict is a set that keeps its order.
        self.members: dict[Connection, None] = {}

    def take(self) -> bytes:
        joined = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        self.frames = []
        self.size = 0
        return joined


class Hub:
    """Lives as long as the server; used from its one event loop only."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._channels: dict[str, dict[Encoding, _Group]] = {}
        self._dirty: list[_Group] = []
        self._flush_is_due = False
        self._rest_until = 0.0
        """Before that, by the loop's time, only what must is flushed."""

    def count(self, channel: str) -> int:
        """Subscribers of a channel here."""
        return sum(len(group.members) for group in self._channels.get(channel, {}).values())

    def counts(self) -> Iterator[tuple[str, int]]:
        """Every channel that has subscribers here, and how many; to be read through at once."""
        for channel, groups in self._channels.items():
            if " " not in channel:  # no name has a blank
                yield channel, sum(len(group.members) for group in groups.values())

    def subscribe(self, channel: str, connection: Connection) -> None:
        """From the next publication on, `connection` gets what is published on `channel`."""
        groups = self._channels.setdefault(channel, {})
        group = groups.get(connection.encoding)
        if group is None:
            group = groups[connection.encoding] = _Group(connection.encoding)
        if group.frames:
            self.flush()
        group.members[connection] = None

    def unsubscribe(self, channel: str, connection: Connection) -> bool:
        """Stops at once, also what is still buffered; returns whether `connection` was subscribed."""
        groups = self._channels.get(channel, {})
        group = groups.get(connection.encoding)
        if group is None or connection not in group.members:
            return False
        del group.members[connection]
        if not group.members:
            del groups[connection.encoding]
        if not groups:
            del self._channels[channel]
        return True

    def publish(self, channel: str, publication: bytes, epoch: str = "") -> None:
        """Gives an encoded publication to every subscriber of `channel`, at the end of this tick.

        `epoch` is that of its offset, if it has one.
        """
        self._stats.publications += 1
        for group in self._channels.get(channel, {}).values():
            try:
                self._append(group, group.encode(channel, publication, epoch))
            except UNREADABLE:
                # It did not come from `encode_publication`, or is nested as deep as can just be read elsewhere.
                _log.warning("a publication on %s cannot be read: not sent to those for whom it is to be", channel)

    def push(self, channel: str, push: bytes) -> None:
        """Gives a push of the protocol to every subscriber of `channel` that can take it, at the end of this tick."""
        for group in self._channels.get(channel, {}).values():
            if encoded := group.push(push):
                self._append(group, encoded)

    def _append(self, group: _Group, encoded: bytes) -> None:
        if not group.frames:
            self._dirty.append(group)
            self._schedule_flush()
        group.frames.append(encoded)
        group.size += len(encoded)
        self._stats.deliveries += len(group.members)
        if group.size >= FLUSH_BYTES:
            self.flush()

    def _schedule_flush(self) -> None:
        if self._flush_is_due:
            return
        self._flush_is_due = True
        loop = asyncio.get_running_loop()
        if loop.time() < self._rest_until:
            loop.call_at(self._rest_until, self._tick)
        else:
            loop.call_soon(self._tick)

    def _tick(self) -> None:
        """Flushes, and then rests for as long as that took: half of the time is left for others.

        Publications that come meanwhile share the next write. With a thousand subscribers at full load that is the
        difference between one publication a write and dozens.
        """
        loop = asyncio.get_running_loop()
        began = time.perf_counter()
        self._flush_is_due = False
        self.flush()
        took = time.perf_counter() - began
        if took >= SHORTEST_REST:
            # The loop's time is that of the tick's beginning.
            self._rest_until = loop.time() + took + min(took, LONGEST_REST)

    def flush(self) -> None:
        """Writes all that waits, now."""
        dirty, self._dirty = self._dirty, []
        if len(dirty) == 1:
            joined = dirty[0].take()
            for connection in dirty[0].members:
                connection.write(joined)
        elif dirty:
            _write_grouped(dirty)

    def interrupted(self, channel: str) -> None:
        """Tells every subscriber of `channel` that publications may be missing."""
        self._stats.interruptions += 1
        groups = self._channels.get(channel, {})
        for connection in [member for group in groups.values() for member in group.members]:
            connection.interrupted(channel)


def _write_grouped(groups: list[_Group]) -> None:
    """Writes several buffers: those with the same ones to come share one joined text."""
    buffers = [group.take() for group in groups]
    pending: dict[Connection, tuple[int, ...]] = {}
    for number, group in enumerate(groups):
        alone = (number,)
        for connection in group.members:
            before = pending.get(connection)
            pending[connection] = alone if before is None else before + alone
    joined: dict[tuple[int, ...], bytes] = {}
    for connection, numbers in pending.items():
        frames = joined.get(numbers)
        if frames is None:
            frames = joined[numbers] = b"".join([buffers[number] for number in numbers])
        connection.write(frames)
