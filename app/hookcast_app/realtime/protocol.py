"""Centrifugal's JSON client protocol: what commands, replies and pushes look like. Pure.

The definitions are those of the Go module `github.com/centrifugal/protocol` (client.proto); codes and their texts are
those that its clients know. Fields that we do not know are ignored.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from hookcast_app.realtime.positions import Read

MAX_MESSAGE = 65_536
"""Bytes of one inbound WebSocket message."""
PING = b"{}"
"""What the server sends to see whether a client is there; the client answers with the same."""
_LINE_BREAKS = bytes.maketrans(b"\r\n", b"  ")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a command failed; a client tries a `temporary` one again."""

    code: int
    message: str
    temporary: bool = False


INTERNAL = Failure(100, "internal server error", temporary=True)
UNAUTHORIZED = Failure(101, "unauthorized")
PERMISSION_DENIED = Failure(103, "permission denied")
METHOD_NOT_FOUND = Failure(104, "method not found")
ALREADY_SUBSCRIBED = Failure(105, "already subscribed")
LIMIT_EXCEEDED = Failure(106, "limit exceeded")
INVALID_REQUEST = Failure(107, "bad request")
NOT_AVAILABLE = Failure(108, "not available")
EXPIRED_TOKEN = Failure(109, "token expired")
EXPIRED_REFRESH = Failure(110, "expired")
UNRECOVERABLE = Failure(112, "unrecoverable position")


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Why a connection is closed: a WebSocket close code and a text.

    Clients come back after 3000 to 3499 and 4000 to 4499, and stay away after 3500 to 3999 and 4500 to 4999.
    """

    code: int
    reason: str


SHUTDOWN = Disconnect(3001, "shutdown")
SERVER_ERROR = Disconnect(3004, "internal server error")
EXPIRED = Disconnect(3005, "connection expired")
SUBSCRIPTION_EXPIRED = Disconnect(3006, "subscription expired")
SLOW = Disconnect(3008, "slow")
INSUFFICIENT_STATE = Disconnect(3010, "insufficient state")
NO_PONG = Disconnect(3012, "no pong")
TOO_MANY_REQUESTS = Disconnect(3013, "too many requests")
INVALID_TOKEN = Disconnect(3500, "invalid token")
BAD_REQUEST = Disconnect(3501, "bad request")
STALE = Disconnect(3502, "stale")
NOT_OFFERED = Disconnect(3508, "not available")
TOO_BIG = Disconnect(1009, "message too big")

OWN_CODES = frozenset(
    each.code
    for each in (
        SHUTDOWN,
        SERVER_ERROR,
        EXPIRED,
        SUBSCRIPTION_EXPIRED,
        SLOW,
        INSUFFICIENT_STATE,
        NO_PONG,
        TOO_MANY_REQUESTS,
        INVALID_TOKEN,
        BAD_REQUEST,
        STALE,
        NOT_OFFERED,
        TOO_BIG,
    )
)
"""Close codes that the server chooses itself."""

SUBSCRIBE_AGAIN = (2500, "insufficient state")
"""Sent with an unsubscribe push: publications may be missing, subscribe again."""
LAPSED = (2501, "subscription expired")
"""Sent with an unsubscribe push: subscribe again, with another token."""


class BadMessage(ValueError):  # noqa: N818  it is what came in
    """A message that holds no commands, or something else."""


class ChannelRequest(msgspec.Struct, frozen=True):
    """Asks something of a channel."""

    channel: str = ""


Offset = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
"""The number of a publication, as JavaScript can count."""


class SubscribeRequest(msgspec.Struct, frozen=True):
    """Asks to listen on a channel, with a subscription token where one is needed.

    With `recover`, also for what was published there since `offset` of `epoch`.
    """

    channel: str = ""
    token: str = ""
    recover: bool = False
    epoch: str = ""
    offset: Offset = 0


class ConnectRequest(msgspec.Struct, frozen=True):
    """Asks to be somebody; `subs` says where it was on channels that its token may subscribe it to."""

    token: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")
    subs: dict[str, SubscribeRequest] = {}


class Since(msgspec.Struct, frozen=True):
    """A position in a channel's history."""

    offset: Offset = 0
    epoch: str = ""


class HistoryRequest(msgspec.Struct, frozen=True):
    """Asks for publications of a channel's history: at most `limit` (below 0: any number; 0: none)."""

    channel: str = ""
    limit: Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)] = 0
    since: Since | None = None
    reverse: bool = False

    @property
    def is_before_all(self) -> bool:
        """Whether this asks for what was before the first publication."""
        return self.reverse and self.since is not None and self.since.offset == 0


class PublishRequest(msgspec.Struct, frozen=True):
    """Asks to publish `data`, any JSON value as it was sent."""

    channel: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")


class RefreshRequest(msgspec.Struct, frozen=True):
    """Shows a newer connection token."""

    token: str = ""


class SubRefreshRequest(msgspec.Struct, frozen=True):
    """Shows a newer subscription token."""

    channel: str = ""
    token: str = ""


class RpcRequest(msgspec.Struct, frozen=True):
    """Calls a function of the application's own with `data`, any JSON value as it was sent, or none."""

    method: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")


class SendRequest(msgspec.Struct, frozen=True):
    """Tells the application something, which is not answered."""

    data: msgspec.Raw = msgspec.Raw(b"")


class Command(msgspec.Struct, frozen=True):
    """What a client asks: one request. Without any it is a pong."""

    id: Annotated[int, msgspec.Meta(ge=0, lt=2**32)] = 0
    connect: ConnectRequest | None = None
    subscribe: SubscribeRequest | None = None
    unsubscribe: ChannelRequest | None = None
    publish: PublishRequest | None = None
    presence: ChannelRequest | None = None
    presence_stats: ChannelRequest | None = None
    history: HistoryRequest | None = None
    rpc: RpcRequest | None = None
    send: SendRequest | None = None
    refresh: RefreshRequest | None = None
    sub_refresh: SubRefreshRequest | None = None

    @property
    def is_pong(self) -> bool:
        """Whether this answers our ping."""
        return self == _PONG


_PONG = Command()
_commands = msgspec.json.Decoder(Command)


def parse_commands(message: str) -> Iterator[Command]:
    """The commands of one message, one on each line. Raises BadMessage when it comes to what is none.

    Commands before a bad one are given first, so that they take effect in order.
    """
    lines = [line for line in message.split("\n") if line.strip()]
    if not lines:
        raise BadMessage("no command")
    for line in lines:
        try:
            yield _commands.decode(line)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise BadMessage("no command of the protocol") from error


def reply(command_id: int, method: str, result: Mapping[str, Any]) -> bytes:
    """The answer to a command, on one line."""
    return msgspec.json.encode({"id": command_id, method: result})


def error_reply(command_id: int, failure: Failure) -> bytes:
    """The answer to a command that failed, on one line."""
    error: dict[str, Any] = {"code": failure.code, "message": failure.message}
    if failure.temporary:
        error["temporary"] = True
    return msgspec.json.encode({"id": command_id, "error": error})


class _User(msgspec.Struct):
    user: str


_users = msgspec.json.Decoder(_User)


def presence_result(clients: Mapping[str, bytes]) -> dict[str, Any]:
    """The result of `presence`; `clients` has an encoded `ClientInfo` by client."""
    return {"presence": {client: msgspec.Raw(info) for client, info in clients.items()}}


def presence_stats_result(clients: Mapping[str, bytes]) -> dict[str, int]:
    """The result of `presence_stats` for the same clients."""
    return {"num_clients": len(clients), "num_users": len({_users.decode(info).user for info in clients.values()})}


def history_result(read: Read) -> dict[str, Any]:
    """The result of `history`, where zeros and empty lists are written out."""
    publications = [msgspec.Raw(each.publication) for each in read.publications]
    return {"publications": publications, "epoch": read.position.epoch, "offset": read.position.offset}


def encode_publication(data: bytes, info: bytes | None = None) -> bytes:
    """A publication (`pub` of the protocol) of `data`, valid JSON text in UTF-8, on one line.

    Line breaks within JSON can only be white space, so they are made blanks: they would split a message in two.
    """
    data = data.translate(_LINE_BREAKS)
    if info is None:
        return b'{"data":%b}' % data
    return b'{"data":%b,"info":%b}' % (data, info)


def publication_push(channel: str, publication: bytes) -> bytes:
    """The push of an encoded publication, which is not looked into; `channel` is a valid name."""
    return b'{"push":{"channel":"%b","pub":%b}}' % (channel.encode("ascii"), publication)


def join_push(channel: str, info: bytes) -> bytes:
    """Tells who came; `info` is an encoded `ClientInfo`."""
    return b'{"push":{"channel":"%b","join":{"info":%b}}}' % (channel.encode("ascii"), info)


def leave_push(channel: str, info: bytes) -> bytes:
    """Tells who went; `info` is an encoded `ClientInfo`."""
    return b'{"push":{"channel":"%b","leave":{"info":%b}}}' % (channel.encode("ascii"), info)


def push(kind: str, content: Mapping[str, Any], channel: str = "") -> bytes:
    """Any other push, about a channel or about none, on one line."""
    about = {"channel": channel} if channel else {}
    return msgspec.json.encode({"push": {**about, kind: content}})


def unsubscribe_push(channel: str, code: int, reason: str) -> bytes:
    """Tells a client that it no longer listens on a channel; from code 2500 on it subscribes again."""
    return push("unsubscribe", {"code": code, "reason": reason}, channel)
