"""The state of one client's connection, and what follows from each command. Pure: it returns what is to be done."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from hookcast_app.auth import ANONYMOUS, Grant, Identity
from hookcast_app.realtime import protocol
from hookcast_app.realtime.channels import ChannelRules
from hookcast_app.realtime.handshake import token_of
from hookcast_app.realtime.protocol import Command, Disconnect, Failure
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
    """Verify the subscription token for this channel and user, then call `granted`, or `subscribe_failed`."""

    command_id: int
    channel: str
    user: str
    token: str


@dataclass(frozen=True, slots=True)
class Connected:
    """The client is in: ping it from now on, and mind when its identity expires."""


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Listen on the channel, then call `subscribed`, or `subscribe_failed`."""

    command_id: int
    channel: str


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Stop listening on the channel."""

    channel: str


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


Effect = Reply | Authenticate | AuthenticateSubscription | Connected | Subscribe | Unsubscribe | Publish | Close


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
        self._rules = rules
        self._anonymous = anonymous
        self._presented = presented
        self._grants: dict[str, Grant] = {}
        """Of channels that are subscribed to with a token of their own."""
        self._hello = {"client": client, "version": version, "ping": ping, "pong": True}
        self._phase = _Phase.NEW
        self._awaits_pong = False

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
        if command.connect is not None:
            return self._connect(command.id, command.connect.token)
        if command.subscribe is not None:
            return self._subscribe(command.id, command.subscribe.channel, command.subscribe.token)
        if command.unsubscribe is not None:
            return self._unsubscribe(command.id, command.unsubscribe.channel)
        if command.publish is not None:
            return self._publish(command.id, command.publish.channel, bytes(command.publish.data))
        return _failed(command.id, protocol.NOT_AVAILABLE if command.is_not_available else protocol.METHOD_NOT_FOUND)

    def _connect(self, command_id: int, token: str) -> list[Effect]:
        token, self._presented = token_of(token, self._presented), ""
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

    def _subscribe(self, command_id: int, channel: str, token: str) -> list[Effect]:
        if not channel:
            return [Close(protocol.BAD_REQUEST)]
        failure = self._subscribe_failure(channel)
        if failure is not None:
            return _failed(command_id, failure)
        if token:
            return [AuthenticateSubscription(command_id, channel, self.identity.user, token)]
        return self.granted(command_id, channel, None)

    def granted(self, command_id: int, channel: str, grant: Grant | None) -> list[Effect]:
        """The client's subscription token holds, or it sent none."""
        if not self._rules.may_subscribe(self.identity, channel, grant):
            return _failed(command_id, protocol.PERMISSION_DENIED)
        if grant is not None:
            self._grants[channel] = grant
        self.channels.add(channel)
        return [Subscribe(command_id, channel)]

    def _subscribe_failure(self, channel: str) -> Failure | None:
        if not is_channel_name(channel):
            return protocol.INVALID_REQUEST
        if channel in self.channels:
            return protocol.ALREADY_SUBSCRIBED
        if len(self.channels) >= MAX_SUBSCRIPTIONS:
            return protocol.LIMIT_EXCEEDED
        return None

    def subscribed(self, command_id: int) -> list[Effect]:
        """A channel is now listened to: whatever is published from here on arrives."""
        return [Reply(protocol.reply(command_id, "subscribe", {}))]

    def subscribe_failed(self, command_id: int, channel: str, failure: Failure) -> list[Effect]:
        """A channel cannot be listened to."""
        self._forget(channel)
        return _failed(command_id, failure)

    def interrupted(self, channel: str) -> list[Effect]:
        """Publications of a channel may be missing: the client is told, and subscribes again."""
        if channel not in self.channels:
            return []
        self._forget(channel)
        return [Unsubscribe(channel), Reply(protocol.unsubscribe_push(channel, *protocol.INSUFFICIENT_STATE))]

    def _unsubscribe(self, command_id: int, channel: str) -> list[Effect]:
        if not channel:
            return [Close(protocol.BAD_REQUEST)]
        answer = Reply(protocol.reply(command_id, "unsubscribe", {}))
        if channel not in self.channels:
            return [answer]
        self._forget(channel)
        return [Unsubscribe(channel), answer]

    def _forget(self, channel: str) -> None:
        self.channels.discard(channel)
        self._grants.pop(channel, None)

    def _publish(self, command_id: int, channel: str, data: bytes) -> list[Effect]:
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

    def publish_failed(self, command_id: int) -> list[Effect]:
        """A publication may have reached nobody."""
        return _failed(command_id, protocol.INTERNAL)

    def _info(self) -> dict[str, Any]:
        """Who publishes (`ClientInfo` of the protocol)."""
        info: dict[str, Any] = {"user": self.identity.user, "client": self.client}
        if self.identity.info is not None:
            info["conn_info"] = self.identity.info
        return info

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
