"""Who a client is, and what it is subscribed to; what follows from that. Pure: it returns what is to be done."""

from collections.abc import Callable
from typing import Any

import msgspec

from hookcast_app.auth import ANONYMOUS
from hookcast_app.realtime import control, protocol
from hookcast_app.realtime.channels import ChannelRules
from hookcast_app.realtime.effects import (
    Announce,
    Close,
    Effect,
    Lasts,
    Listening,
    Reply,
    Subscribe,
    SubscribeAsTold,
    Unsubscribe,
)
from hookcast_app.realtime.held import Held, lasting, overridden, result_of
from hookcast_app.realtime.positions import Caught, Position
from hookcast_app.realtime.protocol import Failure


class Membership:
    """Lives as long as its connection, of which `client` is the id. `clock` gives epoch seconds."""

    def __init__(self, client: str, rules: ChannelRules, clock: Callable[[], float]) -> None:
        self.client = client
        self.identity = ANONYMOUS
        self.held: dict[str, Held] = {}
        """Channels that are subscribed to, or about to be."""
        self.rules = rules
        self.clock = clock

    def listening(self, channel: str, since: Position | None) -> Listening:
        """How the client is to listen on a channel that is held."""
        held = self.held[channel]
        info = self.info(channel) if held.options.presence else None
        return Listening(channel, since if held.is_recoverable else None, info)

    def info(self, channel: str) -> bytes:
        """Who this is on a channel (`ClientInfo` of the protocol)."""
        info: dict[str, Any] = {"user": self.identity.user, "client": self.client}
        if self.identity.info is not None:
            info["conn_info"] = self.identity.info
        if (held := self.held.get(channel)) is not None and held.info is not None:
            info["chan_info"] = held.info
        return msgspec.json.encode(info)

    def subscribed(self, effect: Subscribe, caught: Caught) -> list[Effect]:
        """A channel is now listened to: whatever is published from here on arrives."""
        channel, since = effect.listening.channel, effect.listening.since
        held = self.held[channel]
        held.is_answered = True
        result = result_of(held, caught, since, was_recovering=effect.was_recovering)
        result |= lasting(held.expires_at, self.clock())
        reply = Reply(protocol.reply(effect.command_id, "subscribe", result))
        return [reply, *self._lasts(channel), *self.announce(channel)]

    def _lasts(self, channel: str) -> list[Effect]:
        until = self.held[channel].expires_at
        return [] if until is None else [Lasts(until, channel)]

    def announce(self, channel: str) -> list[Effect]:
        """Whoever joins is told so as well, after the answer."""
        return [Announce(channel, self.info(channel))] if self.held[channel].options.join_leave else []

    def subscribe_failed(self, effect: Subscribe | SubscribeAsTold, failure: Failure) -> list[Effect]:
        """A channel cannot be listened to."""
        left = self.left(effect.listening.channel)
        return [left] if isinstance(effect, SubscribeAsTold) else [left, *failed(effect.command_id, failure)]

    def left(self, channel: str) -> Unsubscribe:
        """The client is to listen on a channel no longer."""
        held = self.held[channel]
        is_told = held.is_answered and held.options.join_leave
        info = self.info(channel) if is_told else None
        del self.held[channel]
        return Unsubscribe(channel, info)

    def ended(self) -> list[Effect]:
        """The connection is gone: what is to be left."""
        return [self.left(channel) for channel in list(self.held)]

    def interrupted(self, channel: str) -> list[Effect]:
        """Publications of a channel may be missing: the client is told, and subscribes again.

        What it did not subscribe to itself it cannot: it connects again.
        """
        if (held := self.held.get(channel)) is None:
            return []
        if held.by_server:
            return [Close(protocol.INSUFFICIENT_STATE)]
        return self.push_out(channel, *protocol.SUBSCRIBE_AGAIN)

    def push_out(self, channel: str, code: int, reason: str) -> list[Effect]:
        """The client is told that it listens on a channel no longer, even if it did not."""
        left = [self.left(channel)] if channel in self.held else []
        return [*left, Reply(protocol.unsubscribe_push(channel, code, reason))]

    def expired(self, channel: str) -> list[Effect]:
        """The time of a subscription is over, or with an empty `channel` that of the connection."""
        if not channel:
            return [Close(protocol.EXPIRED)]
        if (held := self.held.get(channel)) is None:
            return []
        return [Close(protocol.SUBSCRIPTION_EXPIRED)] if held.by_server else self.push_out(channel, *protocol.LAPSED)

    # What the server says

    def told(self, order: control.Order) -> list[Effect]:
        """What follows from an order, which is about this client."""
        match order:
            case control.Subscribe():
                return self._told_to_subscribe(order)
            case control.Unsubscribe():
                channels = [order.channel] if order.channel else list(self.held)
                return [each for channel in channels for each in self.push_out(channel, order.code, order.reason)]
            case control.Disconnect():
                return [] if self.client in order.spared else [Close(protocol.Disconnect(order.code, order.reason))]
            case control.Refresh():
                if order.is_expired:
                    return [Close(protocol.EXPIRED)]
                refresh = lasting(order.expires_at, self.clock())
                return [Reply(protocol.push("refresh", refresh)), Lasts(order.expires_at)]

    def _told_to_subscribe(self, order: control.Subscribe) -> list[Effect]:
        channel = order.channel
        held = self.held.get(channel)
        if held is None:
            options = overridden(self.rules.options(channel), order.override)
            held = self.held[channel] = Held(options, by_server=True)
        held.info, held.expires_at = order.info, order.expires_at
        is_new = not held.is_answered
        since = Position(*order.recover_since) if order.recover_since else None
        return [SubscribeAsTold(self.listening(channel, since), order.data, is_new)]

    def subscribed_as_told(self, effect: SubscribeAsTold, caught: Caught) -> list[Effect]:
        """A channel is now listened to: the client hears of that, and then what it missed."""
        channel, since = effect.listening.channel, effect.listening.since
        held = self.held[channel]
        held.is_answered = True
        result = result_of(held, caught, since)
        missed = result.pop("publications", [])
        result |= {} if effect.data is None else {"data": effect.data}
        told = [
            Reply(protocol.push("subscribe", result, channel)),
            *(Reply(protocol.publication_push(channel, bytes(each))) for each in missed),
        ]
        return [*told, *self._lasts(channel), *self.announce(channel)]


def failed(command_id: int, failure: Failure) -> list[Effect]:
    """A command cannot be done."""
    return [Reply(protocol.error_reply(command_id, failure))]
