"""What all connections of a server share, and how one comes to listen on a channel."""

import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from hookcast_app.auth import Grant, Identity
from hookcast_app.realtime.broker import Broker
from hookcast_app.realtime.channels import ChannelRules
from hookcast_app.realtime.clients import Clients
from hookcast_app.realtime.hub import Connection, Hub
from hookcast_app.realtime.positions import Caught, Position
from hookcast_app.realtime.presence import Presence
from hookcast_app.realtime.stats import Stats
from hookcast_app.realtime.streams import Streams
from hookcast_app.redis import time_limit
from hookcast_app.rpc import Methods
from hookcast_core.errors import Reason, Refused


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds between a client's signs of life."""

    ping: float = 25.0
    """Between the server's pings; below the idle time-outs of proxies, which are 30 s and more."""
    pong: float = 8.0
    """From a ping to its answer."""
    connect: float = 10.0
    """From the handshake to the connect command."""
    redis: float = 5.0
    """That a command may wait for Redis."""
    expiry: float = 25.0
    """From the end of a token's time to the end of what it began: clients refresh at the former."""
    call: float = 10.0
    """That a function of the application may take."""


@dataclass(frozen=True, slots=True)
class Context:
    """What all connections of a server share."""

    hub: Hub
    broker: Broker
    streams: Streams
    presence: Presence
    rules: ChannelRules
    methods: Methods
    verify: Callable[[str], Awaitable[Identity]]
    """Of a connection token. Raises TokenInvalid, TokenExpired, Unavailable."""
    verify_subscription: Callable[[str, str, str], Awaitable[Grant]]
    """Of a subscription token, for a channel and a user. Raises the same."""
    clock: Callable[[], float]
    """Epoch seconds, as tokens count them."""
    timing: Timing
    stats: Stats
    random: random.Random
    clients: Clients
    is_draining: Callable[[], bool]
    """Whether new clients should go elsewhere."""

    async def listen(
        self, channel: str, connection: Connection, since: Position | None = None, *, wants_all: bool = False
    ) -> Caught:
        """Subscribes a connection, and says what it missed since it was there last.

        Where a channel has `cache_last` that is the newest publication; with `wants_all`, only for who was never there.
        Raises Unavailable if Redis does not answer within `timing.redis` seconds, Refused if the channel is full.
        """
        if self.broker.is_subscribed(channel):
            await self.broker.subscribe(channel)
        else:
            async with self.time_limit():
                await self.broker.subscribe(channel)
        try:
            caught = await self.catch_up(channel, since, wants_all=wants_all)
            # Others may have come while Redis was waited for; from here to the hub nothing is.
            self.check_room(channel)
        except BaseException:
            self.broker.unsubscribe(channel)
            raise
        self.hub.subscribe(channel, connection)
        return caught

    async def catch_up(self, channel: str, since: Position | None, *, wants_all: bool = False) -> Caught:
        """Where a channel stands that somebody here listens on, and what was missed since. Raises Unavailable."""
        last = self.rules.options(channel).cache_last and not (wants_all and since is not None)
        if since is None and not last:
            # Nothing has to be read for that.
            return await self.broker.catch_up(channel, None)
        async with self.time_limit():
            return await self.broker.catch_up(channel, since, last=last)

    def leave(self, channel: str, connection: Connection) -> None:
        """Unsubscribes a connection, if it was subscribed."""
        if self.hub.unsubscribe(channel, connection):
            self.broker.unsubscribe(channel)

    def time_limit(self) -> AbstractAsyncContextManager[None]:
        """For what waits for Redis. Raises Unavailable if it takes longer than `timing.redis` seconds."""
        return time_limit(self.timing.redis)

    def check_room(self, channel: str) -> None:
        """Raises Refused if a channel has as many subscribers here as it may."""
        if self.is_full(channel):
            raise Refused(Reason.FORBIDDEN, f"{channel} has as many subscribers as it may")

    def is_full(self, channel: str) -> bool:
        """Whether a channel has as many subscribers here as it may."""
        limit = self.rules.options(channel).max_subscribers
        return 0 < limit <= self.hub.count(channel)
