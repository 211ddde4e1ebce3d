"""The state of one client's connection, and what follows from each command. Pure: it returns what is to be done."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import msgspec

from hookcast_app.auth import ANONYMOUS, Grant, Identity
from hookcast_app.realtime import protocol
from hookcast_app.realtime.channels import ChannelRules
from hookcast_app.realtime.handshake import token_of
from hookcast_app.realtime.positions import Caught, Position, Read
from hookcast_app.realtime.protocol import (
    ChannelRequest,
    Command,
    ConnectRequest,
    Disconnect,
    Failure,
    HistoryRequest,
    PublishRequest,
    SubscribeRequest,
)
from hookcast_core.channels import is_channel_name

MAX_SUBSCRIPTIONS = 128


@dataclass(frozen=True, slots=True)
class Reply:
    """Send this line."""

    line: bytes


@dataclass(frozen=True, slots=True)
class Authenticate:
    """Verify the token, then call `authenticated` or `refused`."""

    command_id: int
    token: str


@dataclass(frozen=True, slots=True)
class AuthenticateSubscription:
    """Verify the subscription token for its channel and this user, then call `granted`, or `subscribe_failed`."""

    command_id: int
    user: str
    request: SubscribeRequest


@dataclass(frozen=True, slots=True)
class Connected:
    """The client is in: ping it from now on, and mind when its identity expires."""


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Listen on the channel, then call `subscribed`, or `subscribe_failed`.

    `since` is where the client was there last. `hears_comings`: it is told who comes and goes. `info` is who it is, if
    others may ask who is there; `announces`: they are told that it has come, once this is answered.
    """

    command_id: int
    channel: str
    since: Position | None
    hears_comings: bool
    info: bytes | None
    announces: bool


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Stop listening on the channel. `info` is who leaves, if others are told."""

    channel: str
    info: bytes | None = None


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell others on the channel who has come."""

    channel: str
    info: bytes


@dataclass(frozen=True, slots=True)
class Present:
    """Ask who is on the channel, then call `present`, or `failed`."""

    command_id: int
    channel: str
    is_counted: bool


@dataclass(frozen=True, slots=True)
class History:
    """Read the channel's history, then call `history`, or `failed`."""

    command_id: int
    request: HistoryRequest


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish, then answer the command."""

    command_id: int
    channel: str
    publication: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection; nothing that comes after it counts."""

    disconnect: Disconnect


Effect = (
    Reply
    | Authenticate
    | AuthenticateSubscription
    | Connected
    | Subscribe
    | Unsubscribe
    | Announce
    | Publish
    | Present
    | History
    | Close
)


class _Phase(Enum):
    NEW = auto()
    CONNECTED = auto()
    UNUSABLE = auto()
    """The connect command failed: its client reads the answer and goes."""


class Session:
    """One connection, from its first command to its last; knows no clock and no transport.

    `client` is the connection's id. `ping` is announced in seconds; it is the caller who sends it. `presented` is the
    token of the handshake, which counts if the connect command has none.
    """

    def __init__(
        self, client: str, *, rules: ChannelRules, anonymous: bool, version: str, ping: int, presented: str = ""
    ) -> None:
        self.client = client
        self.identity = ANONYMOUS
        self.channels: set[str] = set()
        """Channels that are subscribed to, or about to be."""
        self._answered: set[str] = set()
        """Those whose subscription was answered."""
        self._rules = rules
        self._anonymous = anonymous
        self._presented = presented
        self._grants: dict[str, Grant] = {}
        """Of channels that are subscribed to with a token of their own."""
        self._hello = {"client": client, "version": version, "ping": ping, "pong": True}
        self._phase = _Phase.NEW
        self._awaits_pong = False
        self._handlers: dict[str, Callable[[int, Any], list[Effect]]] = {
            "connect": self._connect,
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
            "publish": self._publish,
            "presence": self._presence,
            "presence_stats": self._presence_stats,
            "history": self._history,
        }

    def handle(self, command: Command) -> list[Effect]:
        """What follows from a command. Never raises."""
        if self._phase is _Phase.UNUSABLE or (self._phase is _Phase.NEW) is (command.connect is None):
            return [Close(protocol.BAD_REQUEST)]
        if command.is_pong:
            return self._pong()
        if command.send is not None:
            return [Close(protocol.NOT_OFFERED)]
        if command.id == 0:
            return [Close(protocol.BAD_REQUEST)]
        return self._request(command)

    def _request(self, command: Command) -> list[Effect]:
        for name, handle in self._handlers.items():
            request = getattr(command, name)
            if request is not None:
                return handle(command.id, request)
        return _failed(command.id, protocol.NOT_AVAILABLE if command.is_not_available else protocol.METHOD_NOT_FOUND)

    def _connect(self, command_id: int, request: ConnectRequest) -> list[Effect]:
        token, self._presented = token_of(request.token, self._presented), ""
        if token:
            return [Authenticate(command_id, token)]
        if self._anonymous:
            return self.authenticated(command_id, ANONYMOUS)
        return self.refused(command_id, protocol.UNAUTHORIZED)

    def authenticated(self, command_id: int, identity: Identity) -> list[Effect]:
        """The client is who it says.

        `expires` is not announced: a client would then send `refresh`, which is not offered. It is closed with 3005
        instead, comes back, and gets a new token because its old one is answered with 109.
        """
        self.identity = identity
        self._phase = _Phase.CONNECTED
        return [Reply(protocol.reply(command_id, "connect", self._hello)), Connected()]

    def refused(self, command_id: int, failure: Failure) -> list[Effect]:
        """The client is nobody that we know."""
        self._phase = _Phase.UNUSABLE
        return _failed(command_id, failure)

    def _subscribe(self, command_id: int, request: SubscribeRequest) -> list[Effect]:
        channel = request.channel
        if not channel:
            return [Close(protocol.BAD_REQUEST)]
        failure = self._subscribe_failure(channel)
        if failure is not None:
            return _failed(command_id, failure)
        if request.token:
            return [AuthenticateSubscription(command_id, self.identity.user, request)]
        return self.granted(command_id, request, None)

    def granted(self, command_id: int, request: SubscribeRequest, grant: Grant | None) -> list[Effect]:
        """The client's subscription token holds, or it sent none."""
        channel = request.channel
        if not self._rules.may_subscribe(self.identity, channel, grant):
            return _failed(command_id, protocol.PERMISSION_DENIED)
        if grant is not None:
            self._grants[channel] = grant
        self.channels.add(channel)
        options = self._rules.options(channel)
        return [
            Subscribe(
                command_id,
                channel,
                since=Position(request.offset, request.epoch) if request.recover and options.recover else None,
                hears_comings=request.join_leave and options.join_leave,
                info=self._info() if options.presence else None,
                announces=options.join_leave,
            )
        ]

    def _subscribe_failure(self, channel: str) -> Failure | None:
        if not is_channel_name(channel):
            return protocol.INVALID_REQUEST
        if channel in self.channels:
            return protocol.ALREADY_SUBSCRIBED
        if len(self.channels) >= MAX_SUBSCRIPTIONS:
            return protocol.LIMIT_EXCEEDED
        return None

    def subscribed(self, effect: Subscribe, caught: Caught) -> list[Effect]:
        """A channel is now listened to: whatever is published from here on arrives."""
        channel, options = effect.channel, self._rules.options(effect.channel)
        self._answered.add(channel)
        result: dict[str, Any] = {}
        if options.recover:
            result = {"recoverable": True, "positioned": True, "epoch": caught.position.epoch}
            if caught.position.offset:
                result["offset"] = caught.position.offset
        if caught.missed:
            result["publications"] = [msgspec.Raw(publication) for publication in caught.missed]
        if effect.since is not None:
            result["was_recovering"] = True
            if caught.is_all:
                result["recovered"] = True
        effects: list[Effect] = [Reply(protocol.reply(effect.command_id, "subscribe", result))]
        return [*effects, Announce(channel, self._info())] if effect.announces else effects

    def subscribe_failed(self, command_id: int, channel: str, failure: Failure) -> list[Effect]:
        """A channel cannot be listened to."""
        self._left(channel)
        return _failed(command_id, failure)

    def _left(self, channel: str) -> Unsubscribe:
        self.channels.discard(channel)
        self._grants.pop(channel, None)
        is_told = channel in self._answered and self._rules.options(channel).join_leave
        self._answered.discard(channel)
        return Unsubscribe(channel, self._info() if is_told else None)

    def ended(self) -> list[Unsubscribe]:
        """The connection is gone: what is to be left."""
        return [self._left(channel) for channel in list(self.channels)]

    def interrupted(self, channel: str) -> list[Effect]:
        """Publications of a channel may be missing: the client is told, and subscribes again."""
        if channel not in self.channels:
            return []
        return [self._left(channel), Reply(protocol.unsubscribe_push(channel, *protocol.INSUFFICIENT_STATE))]

    def _unsubscribe(self, command_id: int, request: ChannelRequest) -> list[Effect]:
        channel = request.channel
        if not channel:
            return [Close(protocol.BAD_REQUEST)]
        answer = Reply(protocol.reply(command_id, "unsubscribe", {}))
        if channel not in self.channels:
            return [answer]
        return [self._left(channel), answer]

    def _presence(self, command_id: int, request: ChannelRequest) -> list[Effect]:
        return self._present(command_id, request.channel, is_counted=False)

    def _presence_stats(self, command_id: int, request: ChannelRequest) -> list[Effect]:
        return self._present(command_id, request.channel, is_counted=True)

    def _present(self, command_id: int, channel: str, *, is_counted: bool) -> list[Effect]:
        if not channel:
            return [Close(protocol.BAD_REQUEST)]
        failure = self._reading_failure(channel, self._rules.options(channel).presence, self._rules.may_read_presence)
        return [Present(command_id, channel, is_counted)] if failure is None else _failed(command_id, failure)

    def present(self, command_id: int, clients: Mapping[str, bytes], *, is_counted: bool) -> list[Effect]:
        """Who is on a channel: by client its encoded `ClientInfo`."""
        if not is_counted:
            presence = {client: msgspec.Raw(info) for client, info in clients.items()}
            return [Reply(protocol.reply(command_id, "presence", {"presence": presence}))]
        users = {protocol.user_of(info) for info in clients.values()}
        result = {"num_clients": len(clients), "num_users": len(users)}
        return [Reply(protocol.reply(command_id, "presence_stats", result))]

    def _history(self, command_id: int, request: HistoryRequest) -> list[Effect]:
        if not request.channel:
            return [Close(protocol.BAD_REQUEST)]
        is_offered = self._rules.options(request.channel).history_size > 0
        failure = self._reading_failure(request.channel, is_offered, self._rules.may_read_history)
        return [History(command_id, request)] if failure is None else _failed(command_id, failure)

    def history(self, command_id: int, read: Read) -> list[Effect]:
        """A part of a channel's history, and where it stands."""
        result: dict[str, Any] = {"epoch": read.position.epoch, "offset": read.position.offset}
        if read.publications:
            result["publications"] = [msgspec.Raw(each.publication) for each in read.publications]
        return [Reply(protocol.reply(command_id, "history", result))]

    def failed(self, command_id: int, failure: Failure) -> list[Effect]:
        """What was asked could not be done."""
        return _failed(command_id, failure)

    def _reading_failure(self, channel: str, is_offered: bool, may: Callable[..., bool]) -> Failure | None:  # noqa: FBT001
        """Why a client may not read what is known of a channel."""
        if not is_channel_name(channel):
            return protocol.INVALID_REQUEST
        if not is_offered:
            return protocol.NOT_AVAILABLE
        grant = self._grants.get(channel)
        allowed = may(self.identity, channel, subscribed=channel in self.channels, grant=grant)
        return None if allowed else protocol.PERMISSION_DENIED

    def _publish(self, command_id: int, request: PublishRequest) -> list[Effect]:
        channel, data = request.channel, bytes(request.data)
        if not channel or not data:
            return [Close(protocol.BAD_REQUEST)]
        if not is_channel_name(channel):
            return _failed(command_id, protocol.INVALID_REQUEST)
        is_subscribed, grant = channel in self.channels, self._grants.get(channel)
        if not self._rules.may_publish(self.identity, channel, subscribed=is_subscribed, grant=grant):
            return _failed(command_id, protocol.PERMISSION_DENIED)
        return [Publish(command_id, channel, protocol.encode_publication(data, self._info()))]

    def published(self, command_id: int) -> list[Effect]:
        """A publication is on its way to every subscriber."""
        return [Reply(protocol.reply(command_id, "publish", {}))]

    def _info(self) -> bytes:
        """Who this is (`ClientInfo` of the protocol)."""
        info: dict[str, Any] = {"user": self.identity.user, "client": self.client}
        if self.identity.info is not None:
            info["conn_info"] = self.identity.info
        return msgspec.json.encode(info)

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


def _failed(command_id: int, failure: Failure) -> list[Effect]:
    return [Reply(protocol.error_reply(command_id, failure))]
