"""One client on a WebSocket: carries out what its session decides, and keeps its time."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from hookcast_app.auth import Grant, Identity, TokenExpired, TokenInvalid
from hookcast_app.realtime import protocol, session
from hookcast_app.realtime.broker import JOIN, LEAVE, Broker
from hookcast_app.realtime.channels import ChannelRules
from hookcast_app.realtime.clients import Clients
from hookcast_app.realtime.expiry import Expiry
from hookcast_app.realtime.framing import Encoding
from hookcast_app.realtime.hub import Connection, Hub, comings
from hookcast_app.realtime.limits import Pace
from hookcast_app.realtime.positions import Caught, Position
from hookcast_app.realtime.presence import Presence
from hookcast_app.realtime.protocol import BadMessage, Disconnect
from hookcast_app.realtime.session import Effect, Session
from hookcast_app.realtime.stats import Stats
from hookcast_app.realtime.streams import EpochGone, Streams, read_history
from hookcast_app.realtime.transport import Message, Transport
from hookcast_core.errors import Reason, Refused, Unavailable


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


@dataclass(frozen=True, slots=True)
class Context:
    """What all connections of a server share."""

    hub: Hub
    broker: Broker
    streams: Streams
    presence: Presence
    rules: ChannelRules
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
        self, channel: str, connection: Connection, since: Position | None = None, *, hears_comings: bool = False
    ) -> Caught:
        """Subscribes a connection, and says what it missed since it was there last.

        Raises Unavailable if Redis does not answer within `timing.redis` seconds, Refused if the channel is full.
        """
        async with self.time_limit():
            await self.broker.subscribe(channel)
        try:
            async with self.time_limit():
                last = self.rules.options(channel).cache_last
                caught = await self.broker.catch_up(channel, since, last=last)
            # Others may have come while Redis was waited for; from here to the hub nothing is.
            self._check_room(channel)
        except BaseException:
            self.broker.unsubscribe(channel)
            raise
        self.hub.subscribe(channel, connection)
        if hears_comings:
            self.hub.subscribe(comings(channel), connection)
        return caught

    def leave(self, channel: str, connection: Connection) -> None:
        """Unsubscribes a connection, if it was subscribed."""
        self.hub.unsubscribe(comings(channel), connection)
        if self.hub.unsubscribe(channel, connection):
            self.broker.unsubscribe(channel)

    @asynccontextmanager
    async def time_limit(self) -> AsyncIterator[None]:
        """For what waits for Redis. Raises Unavailable if it takes longer than `timing.redis` seconds."""
        try:
            async with asyncio.timeout(self.timing.redis):
                yield
        except TimeoutError as error:
            raise Unavailable("Redis does not answer") from error

    def _check_room(self, channel: str) -> None:
        if self.is_full(channel):
            raise Refused(Reason.FORBIDDEN, f"{channel} has as many subscribers as it may")

    def is_full(self, channel: str) -> bool:
        """Whether a channel has as many subscribers here as it may."""
        limit = self.rules.options(channel).max_subscribers
        return 0 < limit <= self.hub.count(channel)


class ClientConnection:
    """A WebSocket client, as the hub sees it; lives from the accepted handshake to the end of `run`.

    Commands are carried out one after the other, in the order in which they came.
    """

    def __init__(
        self,
        client: Session,
        transport: Transport,
        context: Context,
        *,
        messages_per_second: float = 0,
        on_connected: Callable[[], None] = lambda: None,
    ) -> None:
        self.encoding: Encoding = transport.encoding
        self.write = transport.write
        self._session = client
        self._transport = transport
        self._context = context
        self._is_closed = False
        self._loop = asyncio.get_running_loop()
        self._pace = Pace(messages_per_second, self._loop.time)
        self._on_connected = on_connected
        self._timer = self._loop.call_later(context.timing.connect, self._connect_due)
        self._expiry: Expiry | None = None

    async def run(self) -> None:
        """Reads and answers until the connection ends; then nothing of it is left anywhere."""
        self._context.stats.websocket_connections += 1
        self._context.clients.all.add(self)
        try:
            while (message := await self._transport.receive())["type"] != "websocket.disconnect":
                await self._received(message)
        except BaseException:
            self._close(protocol.SERVER_ERROR)
            raise
        finally:
            self._release()
            await self._transport.aclose()

    def disconnect(self) -> None:
        """See hub.Connection."""
        self._close(protocol.SHUTDOWN)

    def interrupted(self, channel: str) -> None:
        """See hub.Connection."""
        self._do_now(self._session.interrupted(channel))

    # Commands

    async def _received(self, message: Message) -> None:
        try:
            for command in protocol.parse_commands(_text(message)):
                if not self._pace.take():
                    self._hasty()
                    return
                for effect in self._session.handle(command):
                    await self._do(effect)
        except BadMessage:
            self._close(protocol.BAD_REQUEST)
        except _TooBigError:
            self._close(protocol.TOO_BIG)

    async def _do(self, effect: Effect) -> None:
        if self._is_closed:
            return
        match effect:
            case session.Authenticate():
                self._do_now(await self._authenticate(effect))
            case session.AuthenticateSubscription():
                for following in await self._authenticate_subscription(effect):
                    await self._do(following)
            case session.Subscribe():
                self._do_now(await self._subscribe(effect))
            case session.Publish() | session.Present() | session.History():
                self._do_now(await self._asked(effect))
            case _:
                self._do_now([effect])

    def _do_now(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case session.Reply():
                    self._transport.reply(effect.line)
                case session.Connected():
                    self._connected()
                case session.Announce():
                    self._context.streams.announce(effect.channel, JOIN + effect.info)
                case session.Unsubscribe():
                    self._leave(effect)
                case session.Close():
                    self._close(effect.disconnect)

    async def _authenticate(self, effect: session.Authenticate) -> list[Effect]:
        try:
            identity = await self._context.verify(effect.token)
        except TokenExpired:
            self._context.stats.refused += 1
            return self._session.refused(effect.command_id, protocol.EXPIRED_TOKEN)
        except TokenInvalid:
            self._context.stats.refused += 1
            return [session.Close(protocol.INVALID_TOKEN)]
        except Unavailable:
            return self._session.refused(effect.command_id, protocol.INTERNAL)
        return [] if self._is_closed else self._session.authenticated(effect.command_id, identity)

    async def _authenticate_subscription(self, effect: session.AuthenticateSubscription) -> list[Effect]:
        number, channel = effect.command_id, effect.request.channel
        try:
            grant = await self._context.verify_subscription(effect.request.token, channel, effect.user)
        except TokenExpired:
            self._context.stats.refused += 1
            return self._session.subscribe_failed(number, channel, protocol.EXPIRED_TOKEN)
        except TokenInvalid:
            self._context.stats.refused += 1
            return self._session.subscribe_failed(number, channel, protocol.PERMISSION_DENIED)
        except Unavailable:
            return self._session.subscribe_failed(number, channel, protocol.INTERNAL)
        return self._session.granted(number, effect.request, grant)

    def _hasty(self) -> None:
        if not self._is_closed:
            self._context.stats.hasty_closes += 1
        self._close(protocol.TOO_MANY_REQUESTS)

    async def _subscribe(self, effect: session.Subscribe) -> list[Effect]:
        channel, context = effect.channel, self._context
        if context.is_full(channel):
            return self._session.subscribe_failed(effect.command_id, channel, protocol.LIMIT_EXCEEDED)
        try:
            if effect.info is not None:
                async with context.time_limit():
                    await context.presence.enter(channel, self._session.client, effect.info)
            caught = await context.listen(channel, self, effect.since, hears_comings=effect.hears_comings)
        except (Refused, Unavailable) as error:
            context.presence.leave(channel, self._session.client)
            failure = protocol.LIMIT_EXCEEDED if isinstance(error, Refused) else protocol.INTERNAL
            return self._session.subscribe_failed(effect.command_id, channel, failure)
        # The answer goes out before the hub's next write: publications come after it, and none is left out.
        return self._session.subscribed(effect, caught)

    def _leave(self, effect: session.Unsubscribe) -> None:
        self._context.leave(effect.channel, self)
        self._context.presence.leave(effect.channel, self._session.client)
        if effect.info is not None:
            self._context.streams.announce(effect.channel, LEAVE + effect.info)

    async def _asked(self, effect: session.Publish | session.Present | session.History) -> list[Effect]:
        try:
            async with self._context.time_limit():
                return await self._answer(effect)
        except Unavailable:
            return self._session.failed(effect.command_id, protocol.INTERNAL)

    async def _answer(self, effect: session.Publish | session.Present | session.History) -> list[Effect]:
        context = self._context
        match effect:
            case session.Publish():
                await context.broker.publish(effect.channel, effect.publication)
                context.stats.client_publications += 1
                return self._session.published(effect.command_id)
            case session.Present():
                clients = await context.presence.present(effect.channel)
                return self._session.present(effect.command_id, clients, is_counted=effect.is_counted)
            case session.History():
                try:
                    return self._session.history(effect.command_id, await read_history(context.streams, effect.request))
                except EpochGone:
                    return self._session.failed(effect.command_id, protocol.UNRECOVERABLE)

    # Time

    def _connected(self) -> None:
        self._context.stats.connects += 1
        self._on_connected()
        # Clients that came together are pinged apart.
        self._set_timer(self._context.timing.ping * self._context.random.uniform(0.4, 1.0), self._ping)
        self._expiry = Expiry(
            self._session.identity.expires_at, self._context.clock, lambda: self._close(protocol.EXPIRED)
        )

    def _set_timer(self, seconds: float, then: Callable[[], None]) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_later(seconds, then)

    def _connect_due(self) -> None:
        self._close(protocol.STALE)

    def _ping(self) -> None:
        self._set_timer(self._context.timing.pong, self._pong_due)
        self._do_now(self._session.ping())

    def _pong_due(self) -> None:
        timing = self._context.timing
        self._set_timer(timing.ping - timing.pong, self._ping)
        self._do_now(self._session.pong_due())

    # The end

    def _close(self, disconnect: Disconnect) -> None:
        """Ends the connection; `run` comes to its end by what the transport then receives."""
        if not self._is_closed:
            self._is_closed = True
            self._stop_timers()
            self._transport.close(disconnect)

    def _stop_timers(self) -> None:
        self._timer.cancel()
        if self._expiry is not None:
            self._expiry.cancel()

    def _release(self) -> None:
        self._is_closed = True
        self._stop_timers()
        self._context.clients.all.discard(self)
        self._do_now(self._session.ended())
        self._context.stats.websocket_connections -= 1


class _TooBigError(Exception):
    """A message beyond MAX_MESSAGE, which a server without our wire class let through."""


def _text(message: Message) -> str:
    """What a client sent, in a text or a binary frame. Raises BadMessage for binary data that is no UTF-8."""
    text: str | None = message.get("text")
    data = text.encode() if text is not None else bytes(message.get("bytes") or b"")
    if len(data) > protocol.MAX_MESSAGE:
        raise _TooBigError
    try:
        return data.decode() if text is None else text
    except UnicodeDecodeError as error:
        raise BadMessage("no UTF-8") from error
