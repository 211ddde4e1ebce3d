"""What a session wants to have done: values only. Whoever carries one out calls the session with what came of it."""

from dataclasses import dataclass
from typing import Any

from hookcast_app.realtime.positions import Position
from hookcast_app.realtime.protocol import Disconnect, HistoryRequest, SubscribeRequest


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
class AuthenticateAgain:
    """Verify the token that is to replace the first one, then call `refreshed`, or `failed`."""

    command_id: int
    token: str


@dataclass(frozen=True, slots=True)
class AuthenticateSubscription:
    """Verify the subscription token for its channel and this user, then call `granted`, or `failed`."""

    command_id: int
    user: str
    request: SubscribeRequest


@dataclass(frozen=True, slots=True)
class AuthenticateSubscriptionAgain:
    """Verify the token that is to replace a subscription's, then call `regranted`, or `failed`."""

    command_id: int
    user: str
    channel: str
    token: str


@dataclass(frozen=True, slots=True)
class Greet:
    """Ask the application what the client is told at first, then call `greeted`, or `refused`.

    `data` is what the client connects with.
    """

    command_id: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Listening:
    """How a client is to listen on a channel.

    `since` is where it was there last. `info` is who it is, if others may ask who is there.
    """

    channel: str
    since: Position | None = None
    info: bytes | None = None


@dataclass(frozen=True, slots=True)
class Connect:
    """Listen on all of these channels, then call `connected` with what each missed, or `refused`."""

    command_id: int
    listenings: tuple[Listening, ...]


@dataclass(frozen=True, slots=True)
class Connected:
    """The client is in: ping it from now on."""


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Listen on the channel, then call `subscribed`, or `subscribe_failed`."""

    command_id: int
    listening: Listening
    was_recovering: bool = False


@dataclass(frozen=True, slots=True)
class SubscribeAsTold:
    """Listen on the channel because the server says so, then call `subscribed_as_told`, or `subscribe_failed`.

    `is_new`: it is not listened to yet.
    """

    listening: Listening
    data: Any
    is_new: bool


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Stop listening on the channel. `info` is who leaves, if others are told."""

    channel: str
    info: bytes | None = None


@dataclass(frozen=True, slots=True)
class Lasts:
    """Call `expired` once it is that late (epoch seconds; None: never), unless told otherwise meanwhile.

    It is about a subscription, or with an empty `channel` about the connection.
    """

    until: float | None
    channel: str = ""


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
    """Publish, then call `published`, or `failed`."""

    command_id: int
    channel: str
    publication: bytes


@dataclass(frozen=True, slots=True)
class Call:
    """Call a function of the application's own with JSON `data`, then call `called`, or `failed`."""

    command_id: int
    method: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Message:
    """Give JSON `data` to the application, which answers nothing."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection; nothing that comes after it counts."""

    disconnect: Disconnect


Effect = (
    Reply
    | Authenticate
    | AuthenticateAgain
    | AuthenticateSubscription
    | AuthenticateSubscriptionAgain
    | Greet
    | Connect
    | Connected
    | Subscribe
    | SubscribeAsTold
    | Unsubscribe
    | Lasts
    | Announce
    | Present
    | History
    | Publish
    | Call
    | Message
    | Close
)
