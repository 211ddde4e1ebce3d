"""One client that speaks typed messages: who it is, what it says, and what becomes of that."""

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

from hookcast_app.auth import ANONYMOUS, Identity
from hookcast_app.realtime import control, plain_protocol
from hookcast_app.realtime.broker import JOIN, LEAVE
from hookcast_app.realtime.claims import Claims
from hookcast_app.realtime.context import Context
from hookcast_app.realtime.event_ids import shown
from hookcast_app.realtime.expiry import Expiry
from hookcast_app.realtime.framing import Encoding, encoded, frame
from hookcast_app.realtime.limits import Pace
from hookcast_app.realtime.outbox import MAX_QUEUED
from hookcast_app.realtime.plain_admission import Admission, Presented, TurnedAway
from hookcast_app.realtime.plain_protocol import Place, Said, direct_channel
from hookcast_app.realtime.plain_transport import PlainTransport
from hookcast_app.realtime.positions import Caught
from hookcast_app.realtime.protocol import MAX_MESSAGE, TOO_BIG, Disconnect, encode_publication
from hookcast_app.realtime.transport import Message
from hookcast_core.errors import InvalidInput, Reason, Refused, Unavailable
from hookcast_core.nesting import MAX_DEPTH, is_too_deep

_CLOSE_CODES = range(3000, 5000)
"""Those that a WebSocket has for its applications (RFC 6455, 7.4.2)."""


class PlainConnection:
    """Lives from the accepted handshake to the end of `run`. Messages are seen to one after the other, in their order.

    `user` and `client` are whose it is and what it is called; they hold once it is known who this is.
    """

    encoding = Encoding.TYPED_FRAMES
    session = ""

    def __init__(
        self,
        place: Place,
        presented: Presented,
        transport: PlainTransport,
        context: Context,
        claims: Claims,
        *,
        anonymous: bool,
        messages_per_second: float = 0,
        on_known: Callable[[], None] = lambda: None,
    ) -> None:
        self.write: Callable[[bytes], None] = self._hold
        self.user = ""
        self._connection = str(uuid.uuid4())
        self.client = place.client or self._connection
        self._place = place
        self._since = presented.since
        self._admission = Admission(place, presented, context, anonymous=anonymous)
        self._transport = transport
        self._context = context
        self._claims = claims
        self._on_known = on_known
        self._identity = ANONYMOUS
        self._info = b""
        self._early = bytearray()
        """What is for it before it is welcome."""
        self._is_announced = False
        self._is_closed = False
        self._has_ended = False
        self._loop = asyncio.get_running_loop()
        self._pace = Pace(messages_per_second, self._loop.time)
        self._timer = self._loop.call_later(context.timing.connect, lambda: self._close(plain_protocol.NO_TOKEN))
        self._expiry: Expiry | None = None

    async def run(self) -> None:
        """Lets the client in and serves it until the connection ends; then nothing of it is left anywhere."""
        with self._context.clients.staying(self, self._transport.name):
            try:
                await self._let_in()
                while message := await self._next():
                    await self._received(message)
            except BaseException:
                self._close(plain_protocol.FAULT)
                raise
            finally:
                self._release()
                await self._transport.aclose()

    async def _next(self) -> Message | None:
        """What comes next; None at the end, and ever after."""
        if self._has_ended:
            return None
        message = await self._transport.receive()
        self._has_ended = message["type"] == "websocket.disconnect"
        return None if self._has_ended else message

    def disconnect(self) -> None:
        """See hub.Connection."""
        self._close(plain_protocol.SHUTDOWN)

    def interrupted(self, channel: str) -> None:
        """See hub.Connection. The subscription goes on."""
        # What the hub still holds came before.
        self._context.hub.flush()
        self.write(frame(plain_protocol.reset(channel)))

    def _hold(self, frames: bytes) -> None:
        self._early += frames
        if len(self._early) > MAX_QUEUED:
            self._early.clear()
            self._context.stats.slow_closes += 1
            self._close(plain_protocol.SLOW)

    def carry_out(self, order: control.Order) -> None:
        """See clients.Client. It has one channel, so it cannot be subscribed to others."""
        match order:
            case control.Disconnect() if self.client not in order.spared:
                is_ours = order.code in _CLOSE_CODES
                self._close(Disconnect(order.code if is_ours else plain_protocol.FORBIDDEN.code, order.reason))
            case control.Unsubscribe() if order.channel in {"", self._place.channel}:
                self._close(plain_protocol.UNSUBSCRIBED)
            case control.Refresh(is_expired=True):
                self._close(plain_protocol.EXPIRED)
            case control.Refresh():
                self._expire_at(order.expires_at)

    # Who it is

    async def _let_in(self) -> None:
        try:
            identity = await self._admission.identity(self._next)
            if identity is None or self._is_closed:
                return
            self._on_known()
            self._timer.cancel()
            self._admission.check(identity)
            self._known(identity)
            await self._enter()
        except TurnedAway as turned:
            self._close(turned.disconnect)
        except Refused:
            self._close(plain_protocol.FULL)
        except Unavailable:
            self._close(plain_protocol.UNAVAILABLE)

    def _known(self, identity: Identity) -> None:
        self._identity = identity
        self.user = identity.user
        is_named = self._place.user and not identity.user
        shown_info = plain_protocol.unproven(self._place.user) if is_named else identity.info
        self._info = plain_protocol.client_info(self.user, self.client, shown_info)
        self._context.clients.enter(self)
        self._expire_at(identity.expires_at)

    async def _enter(self) -> None:
        """Raises TurnedAway, Refused, Unavailable."""
        context, place = self._context, self._place
        context.check_room(place.channel)
        if place.client:
            if not await self._is_claimed():
                raise TurnedAway(plain_protocol.TAKEN)
            await context.listen(direct_channel(self.client), self)
        more = await self._present()
        caught = await context.listen(place.channel, self, self._since, wants_all=True)
        if not self._is_closed:
            # The answer goes out before the hub's next write: publications come after it, and none is left out.
            self._welcome(caught, more)

    async def _is_claimed(self) -> bool:
        # Who is anonymous cannot be told from others, so that it shares its client id with no other connection.
        owner = f"user {self.user}" if self.user else f"connection {self._connection}"
        async with self._context.time_limit():
            return await self._claims.claim(self.client, owner, self._connection, self._lost_claim)

    def _lost_claim(self) -> None:
        self._close(plain_protocol.TAKEN)

    async def _present(self) -> dict[str, Any]:
        """Tells that it is there, and says who is, if others may ask for that."""
        context, channel = self._context, self._place.channel
        if not context.rules.options(channel).presence:
            return {}
        async with context.time_limit():
            await context.presence.enter(channel, self._connection, self._info)
            infos = await context.presence.present(channel)
        return {"members": plain_protocol.members(channel, infos.values())}

    def _welcome(self, caught: Caught, more: dict[str, Any]) -> None:
        channel, position = self._place.channel, caught.position
        if position.epoch:
            more["position"] = shown(position)
        if self._since is not None:
            more["recovered"] = caught.is_all
            self._context.stats.came_back(is_all=caught.is_all)
        self._transport.reply(plain_protocol.welcome(self._place, self.client, self.user, **more))
        self.write = self._transport.write
        self.write(b"".join([*encoded(self.encoding, channel, caught.missed, position.epoch), self._early]))
        self._early.clear()
        self._context.stats.connects += 1
        if self._context.rules.options(channel).join_leave:
            self._is_announced = True
            self._context.streams.announce(channel, JOIN + self._info)
        # Clients that came together are pinged apart.
        self._set_timer(self._context.timing.ping * self._context.random.uniform(0.4, 1.0), self._ping)

    # What it says

    async def _received(self, message: Message) -> None:
        if self._is_closed:
            return
        content = message.get("text")
        if content is None:
            content = bytes(message.get("bytes") or b"")
        if len(content.encode() if isinstance(content, str) else content) > MAX_MESSAGE:
            self._close(TOO_BIG)
        elif not self._pace.take():
            self._context.stats.hasty_closes += 1
            self._close(plain_protocol.TOO_FAST)
        elif isinstance(content, bytes) and not self._may_publish():
            self._close(plain_protocol.UNSUPPORTED)
        else:
            await self._answered(content)

    async def _answered(self, content: str | bytes) -> None:
        """Whatever comes to nothing is told, and the connection stays."""
        try:
            if isinstance(content, bytes):
                await self._publish(plain_protocol.binary_publication(content, self._info))
            else:
                await self._do(plain_protocol.parse(content))
        except (InvalidInput, Refused) as error:
            self._transport.reply(plain_protocol.error(error.reason, error.detail))
        except Unavailable as error:
            self._transport.reply(plain_protocol.error(Reason.UNAVAILABLE, error.detail))

    async def _do(self, said: Said) -> None:
        """Raises InvalidInput, Refused, Unavailable."""
        match said.type:
            case "message":
                if not self._may_publish():
                    raise Refused(Reason.FORBIDDEN, f"you may not publish on {self._place.channel}")
                await self._publish(encode_publication(_data(said), self._info))
            case "direct":
                await self._direct(said)
            case "ping":
                self._transport.reply(plain_protocol.PONG)
            case "auth":
                raise InvalidInput(Reason.INVALID_REQUEST, "type", "it is known already who you are")
            case _:
                raise InvalidInput(Reason.INVALID_REQUEST, "type", "is none of message, direct and ping")

    def _may_publish(self) -> bool:
        return self._context.rules.may_publish(self._identity, self._place.channel, subscribed=True)

    async def _publish(self, publication: bytes) -> None:
        async with self._context.time_limit():
            await self._context.broker.publish(self._place.channel, publication)
        self._context.stats.client_publications += 1

    async def _direct(self, said: Said) -> None:
        if not self._place.client:
            raise Refused(
                Reason.FORBIDDEN, "direct messages are sent by those who have a client id, at /ws/{client_id}"
            )
        if not plain_protocol.is_client_id(said.to):
            raise InvalidInput(Reason.INVALID_REQUEST, "to", "is no client id; write 1 to 128 of A-Za-z0-9_.:@-")
        publication = encode_publication(_data(said), self._info)
        async with self._context.time_limit():
            if not await self._claims.is_held(said.to):
                raise InvalidInput(Reason.NOT_FOUND, "to", "nobody is connected by this client id")
            await self._context.broker.publish(direct_channel(said.to), publication)
        self._context.stats.client_publications += 1

    # Time

    def _expire_at(self, moment: float | None) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry = Expiry(moment, self._context.clock, lambda: self._close(plain_protocol.EXPIRED))

    def _set_timer(self, seconds: float, then: Callable[[], None]) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_later(seconds, then)

    def _ping(self) -> None:
        timing, asked_at = self._context.timing, self._loop.time()
        self._set_timer(timing.pong, lambda: self._pong_due(asked_at))
        self._transport.ping()

    def _pong_due(self, asked_at: float) -> None:
        timing = self._context.timing
        if self._transport.was_heard_since(asked_at):
            self._set_timer(timing.ping - timing.pong, self._ping)
        else:
            self._close(plain_protocol.NO_PONG)

    # The end

    def _close(self, disconnect: Disconnect) -> None:
        """Ends the connection; `run` comes to its end by what the transport then receives."""
        if not self._is_closed:
            self._is_closed = True
            self._stop_timers()
            self._context.stats.closed(disconnect.code, plain_protocol.OWN_CODES)
            self._transport.close(disconnect)

    def _stop_timers(self) -> None:
        self._timer.cancel()
        if self._expiry is not None:
            self._expiry.cancel()

    def _release(self) -> None:
        self._is_closed = True
        self.write = self._transport.write
        self._stop_timers()
        context, channel = self._context, self._place.channel
        context.clients.leave(self)
        context.leave(channel, self)
        context.leave(direct_channel(self.client), self)
        context.presence.leave(channel, self._connection)
        self._claims.release(self.client, self._connection)
        if self._is_announced:
            context.streams.announce(channel, LEAVE + self._info)


def _data(said: Said) -> bytes:
    """Raises InvalidInput."""
    if not said.data:
        raise InvalidInput(Reason.INVALID_REQUEST, "data", "is missing; it can be any JSON value")
    if is_too_deep(bytes(said.data)):
        raise InvalidInput(Reason.INVALID_REQUEST, "data", f"is nested too deep; {MAX_DEPTH} levels are taken")
    return bytes(said.data)
