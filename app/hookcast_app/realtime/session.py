"""The state of one client's connection, and what follows from each command. Pure: it returns what is to be done."""

from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from types import MappingProxyType
from typing import Any, ClassVar

import msgspec

from hookcast_app.auth import ANONYMOUS, Grant, Identity, SubscribeOptions
from hookcast_app.realtime import protocol
from hookcast_app.realtime.channels import ChannelRules
from hookcast_app.realtime.effects import (
    Authenticate,
    AuthenticateAgain,
    AuthenticateSubscription,
    AuthenticateSubscriptionAgain,
    Call,
    Close,
    Connect,
    Connected,
    Effect,
    Greet,
    History,
    Lasts,
    Listening,
    Message,
    Present,
    Publish,
    Reply,
    Subscribe,
)
from hookcast_app.realtime.handshake import token_of
from hookcast_app.realtime.held import Held, lasting, overridden, result_of
from hookcast_app.realtime.membership import Membership, failed
from hookcast_app.realtime.positions import Caught, Position, Read
from hookcast_app.realtime.protocol import (
    ChannelRequest,
    Command,
    ConnectRequest,
    Failure,
    HistoryRequest,
    PublishRequest,
    RefreshRequest,
    RpcRequest,
    SendRequest,
    SubRefreshRequest,
    SubscribeRequest,
)
from hookcast_app.rpc import Methods
from hookcast_app.settings import ChannelOptions
from hookcast_core.channels import is_channel_name

MAX_SUBSCRIPTIONS = 128
_NOTHING: Mapping[str, str] = MappingProxyType({})


class _Phase(Enum):
    NEW = auto()
    CONNECTED = auto()
    UNUSABLE = auto()
    """The connect command failed: its client reads the answer and goes."""


class Session(Membership):
    """One connection, from its first command to its last; knows no transport.

    `client` is the connection's id. `ping` is announced in seconds; it is the caller who sends it. `presented` is the
    token of the handshake, which counts if the connect command has none. `clock` gives epoch seconds. `extra` is told
    to the client with its id. `methods` are functions of the application's own.
    """

    def __init__(
        self,
        client: str,
        *,
        rules: ChannelRules,
        anonymous: bool,
        version: str,
        ping: int,
        clock: Callable[[], float],
        presented: str = "",
        extra: Mapping[str, str] = _NOTHING,
        methods: Methods | None = None,
    ) -> None:
        super().__init__(client, rules, clock)
        self._anonymous = anonymous
        self._presented = presented
        self._hello = {"client": client, "version": version, "ping": ping, "pong": True, **extra}
        self._methods = methods or Methods()
        self._phase = _Phase.NEW
        self._has_token = False
        self._awaits_pong = False
        self._asked = ConnectRequest()
        """The connect command, until it is answered."""

    def handle(self, command: Command) -> list[Effect]:
        """What follows from a command. Never raises."""
        if self._phase is _Phase.UNUSABLE or (self._phase is _Phase.NEW) is (command.connect is None):
            return [Close(protocol.BAD_REQUEST)]
        if command.is_pong:
            return self._pong()
        if command.send is not None:
            return self._send(command.send)
        if command.id == 0:
            return [Close(protocol.BAD_REQUEST)]
        return self._request(command)

    def _request(self, command: Command) -> list[Effect]:
        for name, handle in self._HANDLERS.items():
            if (request := getattr(command, name)) is not None:
                return handle(self, command.id, request)
        return [Close(protocol.BAD_REQUEST)]

    # Connecting

    def _connect(self, command_id: int, request: ConnectRequest) -> list[Effect]:
        token, self._presented = token_of(request.token, self._presented), ""
        self._asked = request
        if token:
            self._has_token = True
            return [Authenticate(command_id, token)]
        if self._anonymous:
            return self.authenticated(command_id, ANONYMOUS)
        return self.refused(command_id, protocol.UNAUTHORIZED)

    def authenticated(self, command_id: int, identity: Identity) -> list[Effect]:
        """The client is who it says."""
        self.identity = identity
        if self._methods.connecting is not None:
            return [Greet(command_id, bytes(self._asked.data))]
        return self.greeted(command_id, b"")

    def greeted(self, command_id: int, greeting: bytes) -> list[Effect]:
        """The application has nothing against the client, which may be subscribed to channels by its token.

        `greeting` is JSON for the client; empty for nothing.
        """
        if greeting:
            self._hello["data"] = msgspec.Raw(greeting)
        since, self._asked = self._asked.subs, ConnectRequest()
        listenings = []
        for channel, options in self.identity.subs.items():
            self.held[channel] = self._held_by_token(channel, options)
            listenings.append(self.listening(channel, position_of(since.get(channel))))
        return [Connect(command_id, tuple(listenings))] if listenings else self.connected(command_id, (), {})

    def _held_by_token(self, channel: str, options: SubscribeOptions) -> Held:
        rules = overridden(self.rules.options(channel), options.override)
        return Held(rules, by_server=True, info=options.info)

    def connected(self, command_id: int, listenings: Sequence[Listening], caught: Mapping[str, Caught]) -> list[Effect]:
        """The client is in, and what its token subscribes it to is listened to."""
        self._phase = _Phase.CONNECTED
        subs = {}
        for each in listenings:
            held = self.held[each.channel]
            held.is_answered = True
            subs[each.channel] = result_of(
                held, caught[each.channel], each.since, was_recovering=each.since is not None
            )
            if (data := self.identity.subs[each.channel].data) is not None:
                subs[each.channel]["data"] = data
        result = {**self._hello, **lasting(self.identity.expires_at, self.clock())}
        if subs:
            result["subs"] = subs
        announced = [effect for each in listenings for effect in self.announce(each.channel)]
        return [
            Reply(protocol.reply(command_id, "connect", result)),
            Connected(),
            Lasts(self.identity.expires_at),
            *announced,
        ]

    def refused(self, command_id: int, failure: Failure) -> list[Effect]:
        """The client is nobody that we know."""
        self._phase = _Phase.UNUSABLE
        return [*self.ended(), *failed(command_id, failure)]

    def _refresh(self, command_id: int, request: RefreshRequest) -> list[Effect]:
        if not request.token or not self._has_token:
            return [Close(protocol.BAD_REQUEST)]
        return [AuthenticateAgain(command_id, request.token)]

    def refreshed(self, command_id: int, identity: Identity) -> list[Effect]:
        """The client has shown a newer token: it lasts longer, and may what that one says. It stays who it is."""
        if identity.user != self.identity.user:
            return [Close(protocol.INVALID_TOKEN)]
        self.identity = identity
        result = lasting(identity.expires_at, self.clock())
        return [Reply(protocol.reply(command_id, "refresh", result)), Lasts(identity.expires_at)]

    # Subscribing

    def _subscribe(self, command_id: int, request: SubscribeRequest) -> list[Effect]:
        channel = request.channel
        if not channel:
            return [Close(protocol.BAD_REQUEST)]
        failure = self._subscribe_failure(channel)
        if failure is not None:
            return failed(command_id, failure)
        if request.token:
            return [AuthenticateSubscription(command_id, self.identity.user, request)]
        return self.granted(command_id, request, None)

    def granted(self, command_id: int, request: SubscribeRequest, grant: Grant | None) -> list[Effect]:
        """The client's subscription token holds, or it sent none."""
        channel = request.channel
        if not self.rules.may_subscribe(self.identity, channel, grant):
            return failed(command_id, protocol.PERMISSION_DENIED)
        held = self.held[channel] = Held(self.rules.options(channel), grant=grant)
        if grant is not None:
            held.info, held.expires_at = grant.info, grant.expires_at
        return [Subscribe(command_id, self.listening(channel, position_of(request)), was_recovering=request.recover)]

    def _subscribe_failure(self, channel: str) -> Failure | None:
        if not is_channel_name(channel):
            return protocol.INVALID_REQUEST
        if channel in self.held:
            return protocol.ALREADY_SUBSCRIBED
        if len(self.held) >= MAX_SUBSCRIPTIONS:
            return protocol.LIMIT_EXCEEDED
        return None

    def _unsubscribe(self, command_id: int, request: ChannelRequest) -> list[Effect]:
        channel = request.channel
        if not channel:
            return [Close(protocol.BAD_REQUEST)]
        answer = Reply(protocol.reply(command_id, "unsubscribe", {}))
        return [self.left(channel), answer] if channel in self.held else [answer]

    def _sub_refresh(self, command_id: int, request: SubRefreshRequest) -> list[Effect]:
        channel, token = request.channel, request.token
        if not channel:
            return [Close(protocol.BAD_REQUEST)]
        if not token:
            return failed(command_id, protocol.INVALID_REQUEST)
        if (held := self.held.get(channel)) is None:
            return failed(command_id, protocol.PERMISSION_DENIED)
        if held.grant is None:
            return [Close(protocol.BAD_REQUEST)]
        return [AuthenticateSubscriptionAgain(command_id, self.identity.user, channel, token)]

    def regranted(self, command_id: int, channel: str, grant: Grant) -> list[Effect]:
        """The client has shown a newer subscription token."""
        held = self.held[channel]
        held.grant, held.expires_at = grant, grant.expires_at
        result = lasting(grant.expires_at, self.clock())
        return [Reply(protocol.reply(command_id, "sub_refresh", result)), Lasts(grant.expires_at, channel)]

    # Asking

    def _presence(self, command_id: int, request: ChannelRequest) -> list[Effect]:
        return self._present(command_id, request.channel, is_counted=False)

    def _presence_stats(self, command_id: int, request: ChannelRequest) -> list[Effect]:
        return self._present(command_id, request.channel, is_counted=True)

    def _present(self, command_id: int, channel: str, *, is_counted: bool) -> list[Effect]:
        if not channel:
            return [Close(protocol.BAD_REQUEST)]
        failure = self._reading_failure(channel, self._options(channel).presence, self.rules.may_read_presence)
        return [Present(command_id, channel, is_counted)] if failure is None else failed(command_id, failure)

    def present(self, effect: Present, clients: Mapping[str, bytes]) -> list[Effect]:
        """Who is on a channel: by client its encoded `ClientInfo`."""
        if effect.is_counted:
            return [Reply(protocol.reply(effect.command_id, "presence_stats", protocol.presence_stats_result(clients)))]
        return [Reply(protocol.reply(effect.command_id, "presence", protocol.presence_result(clients)))]

    def _history(self, command_id: int, request: HistoryRequest) -> list[Effect]:
        if not request.channel:
            return [Close(protocol.BAD_REQUEST)]
        is_offered = self.rules.options(request.channel).history_size > 0
        failure = self._reading_failure(request.channel, is_offered, self.rules.may_read_history)
        if failure is None and request.is_before_all:
            failure = protocol.INVALID_REQUEST
        return [History(command_id, request)] if failure is None else failed(command_id, failure)

    def history(self, command_id: int, read: Read) -> list[Effect]:
        """A part of a channel's history, and where it stands."""
        return [Reply(protocol.reply(command_id, "history", protocol.history_result(read)))]

    def _options(self, channel: str) -> ChannelOptions:
        held = self.held.get(channel)
        return self.rules.options(channel) if held is None else held.options

    def _grant(self, channel: str) -> Grant | None:
        held = self.held.get(channel)
        return None if held is None else held.grant

    def _reading_failure(self, channel: str, is_offered: bool, may: Callable[..., bool]) -> Failure | None:  # noqa: FBT001
        """Why a client may not read what is known of a channel."""
        if not is_channel_name(channel):
            return protocol.INVALID_REQUEST
        if not is_offered:
            return protocol.NOT_AVAILABLE
        allowed = may(self.identity, channel, subscribed=channel in self.held, grant=self._grant(channel))
        return None if allowed else protocol.PERMISSION_DENIED

    def _publish(self, command_id: int, request: PublishRequest) -> list[Effect]:
        channel, data = request.channel, bytes(request.data)
        if not channel or not data:
            return [Close(protocol.BAD_REQUEST)]
        if not is_channel_name(channel):
            return failed(command_id, protocol.INVALID_REQUEST)
        is_subscribed, grant = channel in self.held, self._grant(channel)
        if not self.rules.may_publish(self.identity, channel, subscribed=is_subscribed, grant=grant):
            return failed(command_id, protocol.PERMISSION_DENIED)
        return [Publish(command_id, channel, protocol.encode_publication(data, self.info(channel)))]

    def published(self, command_id: int) -> list[Effect]:
        """A publication is on its way to every subscriber."""
        return [Reply(protocol.reply(command_id, "publish", {}))]

    def _rpc(self, command_id: int, request: RpcRequest) -> list[Effect]:
        if not self._methods.methods:
            return failed(command_id, protocol.NOT_AVAILABLE)
        return [Call(command_id, request.method, bytes(request.data))]

    def called(self, command_id: int, data: bytes) -> list[Effect]:
        """What a function gave, as JSON; empty for nothing."""
        result = {"data": msgspec.Raw(data)} if data else {}
        return [Reply(protocol.reply(command_id, "rpc", result))]

    def _send(self, request: SendRequest) -> list[Effect]:
        """Nothing answers a message: where nobody takes it there is no other way to say so."""
        return [Message(bytes(request.data)) if self._methods.message else Close(protocol.NOT_OFFERED)]

    # Time

    def ping(self) -> list[Effect]:
        """It is time to see whether the client is there."""
        self._awaits_pong = True
        return [Reply(protocol.PING)]

    def pong_due(self) -> list[Effect]:
        """It is time for the answer to have come."""
        return [Close(protocol.NO_PONG)] if self._awaits_pong else []

    def _pong(self) -> list[Effect]:
        if not self._awaits_pong:
            return [Close(protocol.BAD_REQUEST)]
        self._awaits_pong = False
        return []

    _HANDLERS: ClassVar[Mapping[str, Callable[["Session", int, Any], list[Effect]]]] = {
        "publish": _publish,
        "subscribe": _subscribe,
        "unsubscribe": _unsubscribe,
        "presence": _presence,
        "presence_stats": _presence_stats,
        "history": _history,
        "rpc": _rpc,
        "refresh": _refresh,
        "sub_refresh": _sub_refresh,
        "connect": _connect,
    }


def position_of(request: SubscribeRequest | None) -> Position | None:
    """Where a client was on a channel, if it asks for what it missed since."""
    return Position(request.offset, request.epoch) if request is not None and request.recover else None
