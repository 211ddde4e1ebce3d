"""Publications between processes: those of channels that somebody here listens to, in order and without a gap.

What is published is the protocol's `pub` object, encoded, behind its position where the channel has a history; it is
handed to the hub as it came. Every process that may write to this Redis is trusted with that.

A feed is one channel. What Redis' pub/sub does not bring (a connection was lost, its buffer overflowed) is noticed by
the numbers, and read from the history; if it is not all there, whoever listens is told.
"""

import asyncio
from collections.abc import Callable

import structlog

from hookcast_app.realtime.hub import Hub
from hookcast_app.realtime.positions import NOWHERE, Caught, Kept, Position
from hookcast_app.realtime.protocol import join_push, leave_push
from hookcast_app.realtime.pubsub import WATCH_SECONDS, PubSub, Subscription
from hookcast_app.realtime.shards import Shards
from hookcast_app.realtime.streams import Outgoing, Streams
from hookcast_core.errors import Unavailable

MENDED_AT_ONCE = 64
"""Feeds whose history is read at the same time."""
LAG_SECONDS = 1.0
"""A feed that is behind Redis for so long lacks something."""
JOIN, LEAVE = b"+", b"-"
"""What comes before a `ClientInfo` that says who came, or went."""

_log = structlog.get_logger("hookcast.realtime")


class _Feed:
    """A channel that comes from Redis, or is about to; as its connection sees it."""

    def __init__(self, broker: "Broker", channel: str, name: str, *, has_history: bool) -> None:
        self.broker = broker
        self.channel = channel
        self.name = name
        self.has_history = has_history
        self.users = 0
        self.ready = asyncio.Event()
        """It comes, and where it stands is known."""
        self.position = NOWHERE
        """Of what was given to the hub last; an epoch says that it is known."""
        self.is_interrupted = False
        """Whether publications without a history may have been missed."""
        self.breaks = 0
        """How often subscribers were told that they may have missed something."""
        self.is_mending = False
        self.ahead: list[tuple[Position, bytes]] = []
        """What came while a gap before it is mended."""
        self.joining = 0
        self.recent: list[Kept] = []
        """What came since the first of those who are joining now began to."""
        self.moved = asyncio.Event()

    def confirmed(self) -> None:
        if self.has_history:
            self.broker.mend(self)
            return
        self.ready.set()
        if self.is_interrupted:
            self.is_interrupted = False
            self.broker.interrupted(self)

    def lost(self) -> None:
        self.is_interrupted |= self.ready.is_set()
        self.ready.clear()

    def arrived(self, data: bytes) -> None:
        hub, channel = self.broker.hub, self.channel
        match data[:1]:
            case b"{":
                hub.publish(channel, data)
            case b"+":
                hub.push(channel, join_push(channel, data[1:]))
            case b"-":
                hub.push(channel, leave_push(channel, data[1:]))
            case _:
                epoch, offset, publication = data.split(b":", 2)
                self.take(Position(int(offset), epoch.decode()), publication)

    def take(self, position: Position, publication: bytes) -> None:
        """The next one goes to the hub, one that was here before goes nowhere, and a gap is mended."""
        if self.is_mending:
            self.ahead.append((position, publication))
        elif position.epoch != self.position.epoch or position.offset > self.position.offset + 1:
            self.ahead.append((position, publication))
            self.broker.mend(self)
        elif position.offset > self.position.offset:
            self.give(position.offset, publication)

    def give(self, offset: int, publication: bytes) -> None:
        """Gives the next publication to the hub."""
        self.position = Position(offset, self.position.epoch)
        if self.joining:
            self.recent.append(Kept(offset, publication))
            self.moved.set()
        self.broker.hub.publish(self.channel, publication, self.position.epoch)

    def mended(self, seen: int) -> None:
        """Whatever came meanwhile may follow.

        The first `seen` had come before the reading that mended it began: of another epoch they are of an older one.
        """
        self.is_mending = False
        self.moved.set()
        ahead, self.ahead = self.ahead, []
        for number, (position, publication) in enumerate(ahead):
            if number >= seen or position.epoch == self.position.epoch:
                self.take(position, publication)
        self.ready.set()


class Broker:
    """Lives as long as the server. `connect` opens it, `run` keeps it alive until cancelled, `close` ends it.

    `backoff(failures)` is the pause in seconds after so many failures in a row.
    """

    def __init__(
        self,
        shards: Shards,
        streams: Streams,
        hub: Hub,
        *,
        backoff: Callable[[int], float],
        watch_seconds: float = WATCH_SECONDS,
    ) -> None:
        self.hub = hub
        self._shards = shards
        self._streams = streams
        self._backoff = backoff
        self._connections = {
            shard: PubSub(shard.redis, sharded=shards.is_sharded, backoff=backoff, watch_seconds=watch_seconds)
            for shard in shards.servers
        }
        self._feeds: dict[str, _Feed] = {}
        self._broken: dict[_Feed, int] = {}
        """Feeds whose position is to be looked up, and what they lack read; and how often that was asked for."""
        self._has_broken = asyncio.Event()

    @property
    def is_connected(self) -> bool:
        """Whether publications come in now, of every channel."""
        return all(each.is_connected for each in self._connections.values())

    # What connections call

    def is_subscribed(self, channel: str) -> bool:
        """Whether `subscribe` would return at once."""
        feed = self._feeds.get(channel)
        return feed is not None and feed.ready.is_set()

    async def subscribe(self, channel: str) -> None:
        """Returns when everything published on `channel` from now on reaches the hub; `unsubscribe` ends it.

        If this is cancelled nothing is left to end.
        """
        feed = self._feeds.get(channel)
        if feed is None:
            name = self._shards.of(channel).key("pub", channel)
            feed = self._feeds[channel] = _Feed(self, channel, name, has_history=self._streams.has_history(channel))
            self._connection(feed).subscribe(feed)
        feed.users += 1
        try:
            await feed.ready.wait()
        except asyncio.CancelledError:
            self.unsubscribe(channel)
            raise

    def unsubscribe(self, channel: str) -> None:
        """Ends one `subscribe`; the last one for a channel ends what comes from it."""
        feed = self._feeds[channel]
        feed.users -= 1
        if feed.users == 0:
            del self._feeds[channel]
            self._broken.pop(feed, None)
            self._connection(feed).unsubscribe(feed)

    def position(self, channel: str) -> Position:
        """Of what was given to the hub last on a channel that is subscribed to; NOWHERE without a history."""
        return self._feeds[channel].position

    async def catch_up(self, channel: str, since: Position | None, *, last: bool = False) -> Caught:
        """What a subscriber is to be told before the hub's next publication; nothing is awaited after that is known.

        It was last there at `since`; with `last` it wants the newest publication, however long it was away. Raises
        Unavailable.
        """
        feed = self._feeds[channel]
        if not feed.has_history:
            return Caught(NOWHERE, [], is_all=False)
        if not last and (since is None or since == feed.position):
            return Caught(feed.position, [], is_all=since is not None)
        breaks = feed.breaks
        feed.joining += 1
        try:
            if since is None or last:
                found = await self._streams.history(channel, "-", "+", 1, reverse=True)
                is_all = bool(found.publications)
            else:
                found = await self._streams.since(channel, since.offset)
                is_all = found.is_all_since(since)
            await self._reached(feed, found.position)
            if feed.breaks != breaks:
                raise Unavailable("publications may be missing; subscribe again")
            later = [each for each in feed.recent if each.offset > found.position.offset]
            missed = [each.publication for each in (*found.publications, *later)] if is_all else []
            return Caught(feed.position, missed, is_all)
        finally:
            feed.joining -= 1
            if not feed.joining:
                feed.recent = []

    async def _reached(self, feed: _Feed, position: Position) -> None:
        """Waits until a feed has come to where Redis was a moment ago, or was interrupted. Raises Unavailable."""
        breaks = feed.breaks
        try:
            async with asyncio.timeout(LAG_SECONDS):
                while feed.breaks == breaks and feed.position.offset < position.offset:
                    feed.moved.clear()
                    await feed.moved.wait()
            if feed.breaks != breaks or feed.position.epoch == position.epoch:
                return
        except TimeoutError:
            pass
        self.mend(feed)
        raise Unavailable("publications may be missing; subscribe again")

    async def reached(self, channel: str, position: Position) -> None:
        """Waits until the hub has got everything up to a position, if it gets this channel; for LAG_SECONDS at most."""
        feed = self._feeds.get(channel)
        if feed is not None and feed.has_history:
            feed.joining += 1
            try:
                await self._reached(feed, position)
            except Unavailable:
                _log.debug("channel.behind", channel=channel)
            finally:
                feed.joining -= 1
                if not feed.joining:
                    feed.recent = []

    async def publish(self, channel: str, publication: bytes) -> Position:
        """Publishes what `encode_publication` gave. Raises Unavailable: it may have reached nobody."""
        return await self._streams.publish(Outgoing(channel, publication))

    def listen(self, subscription: Subscription) -> None:
        """Has something else subscribed to, for good; it is in the first shard."""
        self._connections[self._shards.servers[0]].subscribe(subscription)

    def _connection(self, feed: _Feed) -> PubSub:
        return self._connections[self._shards.server_of(feed.channel)]

    # What feeds call

    def interrupted(self, feed: _Feed) -> None:
        """Tells whoever listens that publications may be missing."""
        feed.breaks += 1
        feed.moved.set()
        self.hub.interrupted(feed.channel)

    def mend(self, feed: _Feed) -> None:
        """Has it looked up where a channel stands, and what is missing read."""
        if self._feeds.get(feed.channel) is feed:  # else nobody listens any more, or another one took its place
            feed.is_mending = True
            self._broken[feed] = self._broken.get(feed, 0) + 1
            self._has_broken.set()

    # Lifetimes

    async def connect(self) -> None:
        """Opens the connections. Raises Unavailable."""
        for connection in self._connections.values():
            await connection.connect()

    async def run(self) -> None:
        """Reads until cancelled; connects again after a failure, and then mends what was interrupted."""
        async with asyncio.TaskGroup() as tasks:
            for connection in self._connections.values():
                tasks.create_task(connection.run(), name="realtime-redis")
            tasks.create_task(self._mend_all(), name="realtime-mend")

    async def close(self) -> None:
        """Closes the connections; what waits for Redis waits on until its own time is up."""
        for connection in self._connections.values():
            await connection.close()

    async def _mend_all(self) -> None:
        failures = 0
        while True:
            await self._has_broken.wait()
            self._has_broken.clear()
            some = list(self._broken.items())[:MENDED_AT_ONCE]
            try:
                async with asyncio.TaskGroup() as tasks:
                    for feed, asked in some:
                        tasks.create_task(self._mend(feed, asked))
                failures = 0
            except* Unavailable as error:
                failures += 1
                _log.debug("channels.unavailable", detail=str(error.exceptions[0]))
                await asyncio.sleep(self._backoff(failures))
            if self._broken:
                self._has_broken.set()

    async def _mend(self, feed: _Feed, asked: int) -> None:
        before, seen = feed.position, len(feed.ahead)
        # Not a reading that others have begun: it must come after what was interrupted.
        wanted = (f"({before.offset}", "+", -1) if before.epoch else ("-", "+", 0)
        found = await self._streams.history(feed.channel, *wanted)
        if found.position.epoch == before.epoch and found.position.offset < before.offset:
            # Redis has lost what was here already, and will give its numbers to others.
            await self._streams.renew(feed.channel, before.epoch)
            return  # it is read again
        if self._broken.get(feed) != asked:
            return  # nobody listens any more, or it was interrupted again, and this may be too old
        del self._broken[feed]
        if not before.epoch:
            feed.position = found.position
        elif found.position.epoch == before.epoch and found.is_all_since(before):
            for each in found.publications:
                feed.give(*each)
        else:
            feed.position = found.position
            self.interrupted(feed)
        feed.mended(seen)
