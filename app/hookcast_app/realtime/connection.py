"""One client: carries out what its session decides, and keeps its time."""

import asyncio
from collections.abc import Callable, Sequence

from hookcast_app.realtime import effects, protocol
from hookcast_app.realtime.asking import Asking
from hookcast_app.realtime.broker import JOIN, LEAVE
from hookcast_app.realtime.context import Context
from hookcast_app.realtime.control import Order, Subscribe, Unsubscribe
from hookcast_app.realtime.effects import Effect
from hookcast_app.realtime.expiry import Expiry
from hookcast_app.realtime.framing import Encoding
from hookcast_app.realtime.limits import Pace
from hookcast_app.realtime.outbox import MAX_QUEUED
from hookcast_app.realtime.protocol import BadMessage, Disconnect
from hookcast_app.realtime.session import Session
from hookcast_app.realtime.transport import Message, Transport

MAX_ORDERS = 1_000
"""What the server may have ordered that is not done yet."""


class ClientConnection:
    """A client, as the hub and orders see it; lives from the accepted handshake to the end of `run`.

    Commands are carried out one after the other, in the order in which they came, and orders between them. `session` is
    the id by which an emulated connection gets its commands.
    """

    def __init__(
        self,
        client: Session,
        transport: Transport,
        context: Context,
        *,
        session: str = "",
        messages_per_second: float = 0,
        on_connected: Callable[[], None] = lambda: None,
    ) -> None:
        self.encoding: Encoding = transport.encoding
        self.write = transport.write
        self.client = client.client
        self.session = session
        self._session = client
        self._transport = transport
        self._context = context
        self._asking = Asking(client, context, transport.reply)
        self._is_closed = False
        self._loop = asyncio.get_running_loop()
        self._pace = Pace(messages_per_second, self._loop.time)
        self._on_connected = on_connected
        self._timer = self._loop.call_later(context.timing.connect, self._connect_due)
        self._expiries: dict[str, Expiry] = {}
        """By channel; the connection's own by an empty name."""
        self._turn = asyncio.Lock()
        """Held while a command or an order is carried out."""
        self._orders: list[Order] = []
        self._obeying: asyncio.Task[None] | None = None

    @property
    def user(self) -> str:
        """See clients.Client."""
        return self._session.identity.user

    async def run(self) -> None:
        """Reads and answers until the connection ends; then nothing of it is left anywhere."""
        with self._context.clients.staying(self, self._transport.name):
            try:
                while (message := await self._transport.receive())["type"] != "websocket.disconnect":
                    async with self._turn:
                        await self._received(message)
            except BaseException:
                self._close(protocol.SERVER_ERROR)
                raise
            finally:
                await self._stop_obeying()
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
                await self._do(self._session.handle(command))
        except BadMessage:
            self._close(protocol.BAD_REQUEST)
        except _TooBigError:
            self._close(protocol.TOO_BIG)

    def _hasty(self) -> None:
        if not self._is_closed:
            self._context.stats.hasty_closes += 1
        self._close(protocol.TOO_MANY_REQUESTS)

    async def _do(self, following: Sequence[Effect]) -> None:
        for effect in following:
            if self._is_closed:
                return
            match effect:
                case effects.Connect():
                    await self._connect(effect)
                case effects.Subscribe() | effects.SubscribeAsTold():
                    self._do_now(await self._asking.listened(effect, self))
                case effects.Publish() | effects.Present() | effects.History():
                    self._do_now(await self._asking.answered(effect))
                case effects.Call() | effects.Message() | effects.Greet():
                    await self._do(await self._asking.called(effect))
                case (
                    effects.Authenticate()
                    | effects.AuthenticateAgain()
                    | effects.AuthenticateSubscription()
                    | effects.AuthenticateSubscriptionAgain()
                ):
                    await self._do(await self._asking.verified(effect))
                case _:
                    self._do_now([effect])

    def _do_now(self, following: Sequence[Effect]) -> None:
        for effect in following:
            match effect:
                case effects.Reply():
                    self._transport.reply(effect.line)
                case effects.Connected():
                    self._connected()
                case effects.Announce():
                    self._context.streams.announce(effect.channel, JOIN + effect.info)
                case effects.Unsubscribe():
                    self._leave(effect)
                case effects.Lasts():
                    self._lasts(effect)
                case effects.Close():
                    self._close(effect.disconnect)

    async def _connect(self, effect: effects.Connect) -> None:
        """Nothing is written before the answer, though some channels are listened to earlier than others."""
        early: list[bytes] = []
        self.write = early.append
        try:
            self._do_now(await self._asking.listened(effect, self))
        finally:
            self.write = self._transport.write
        if sum(map(len, early)) > MAX_QUEUED:
            self._close(protocol.SLOW)
        elif early:
            self.write(b"".join(early))

    def _leave(self, effect: effects.Unsubscribe) -> None:
        channel = effect.channel
        if (expiry := self._expiries.pop(channel, None)) is not None:
            expiry.cancel()
        self._context.leave(channel, self)
        self._context.presence.leave(channel, self.client)
        if effect.info is not None:
            self._context.streams.announce(channel, LEAVE + effect.info)

    # Orders

    def carry_out(self, order: Order) -> None:
        """See clients.Client. What changes subscriptions waits for its turn."""
        if not isinstance(order, Subscribe | Unsubscribe):
            self._do_now(self._session.told(order))
        elif len(self._orders) >= MAX_ORDERS:
            self._close(protocol.INSUFFICIENT_STATE)
        elif not self._is_closed:
            self._orders.append(order)
            if self._obeying is None:
                self._obeying = self._loop.create_task(self._obey(), name="realtime-orders")

    async def _obey(self) -> None:
        try:
            while self._orders and not self._is_closed:
                async with self._turn:
                    await self._do(self._session.told(self._orders.pop(0)))
        except Exception:
            self._close(protocol.SERVER_ERROR)
            raise
        finally:
            self._obeying = None

    async def _stop_obeying(self) -> None:
        if (task := self._obeying) is not None:
            task.cancel()
            await asyncio.wait({task})

    # Time

    def _connected(self) -> None:
        self._context.stats.connects += 1
        self._context.clients.enter(self)
        self._on_connected()
        # Clients that came together are pinged apart.
        self._set_timer(self._context.timing.ping * self._context.random.uniform(0.4, 1.0), self._ping)

    def _lasts(self, effect: effects.Lasts) -> None:
        channel = effect.channel
        if (before := self._expiries.pop(channel, None)) is not None:
            before.cancel()
        if effect.until is not None and not self._is_closed:
            at = effect.until + self._context.timing.expiry
            self._expiries[channel] = Expiry(at, self._context.clock, lambda: self._expired(channel))

    def _expired(self, channel: str) -> None:
        self._do_now(self._session.expired(channel))

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
            self._context.stats.closed(disconnect.code, protocol.OWN_CODES)
            self._transport.close(disconnect)

    def _stop_timers(self) -> None:
        self._timer.cancel()
        for expiry in self._expiries.values():
            expiry.cancel()
        self._expiries.clear()

    def _release(self) -> None:
        self._is_closed = True
        self._stop_timers()
        self._context.clients.leave(self)
        self._do_now(self._session.ended())


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
