"""The requests and results of Centrifugo's HTTP API (version 6, `api.proto`), as JSON. Pure.

Fields that we do not know are ignored, and an option that is null is as good as none.
"""

from typing import Annotated, Any, TypeVar

import msgspec

from hookcast_app.auth import Override
from hookcast_core.errors import InvalidInput, Reason

Offset = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
"""The number of a publication, as JavaScript can count."""
Limit = Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)]
Seconds = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
"""Since 1970."""
NOTHING = msgspec.Raw(b"")


class Publishing(msgspec.Struct, frozen=True, kw_only=True):
    """What is published: `data` is any JSON value as it was sent, `b64data` one in base64, which wins."""

    data: msgspec.Raw = NOTHING
    b64data: str | None = None
    tags: dict[str, str] | None = None
    skip_history: bool | None = None
    idempotency_key: str | None = None


class PublishRequest(Publishing, frozen=True, kw_only=True):
    """Publishes on a channel."""

    channel: str = ""


class BroadcastRequest(Publishing, frozen=True, kw_only=True):
    """Publishes the same on some channels."""

    channels: list[str] = []


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """Is about connections of a user: all, or the one with this client id, or with this session."""

    user: str = ""
    client: str | None = None
    session: str | None = None


class StreamPosition(msgspec.Struct, frozen=True, kw_only=True):
    """Where somebody was in a channel's history."""

    offset: Offset = 0
    epoch: str = ""


class SubscribeRequest(Chosen, frozen=True, kw_only=True):
    """Subscribes them to a channel."""

    channel: str = ""
    info: msgspec.Raw = NOTHING
    b64info: str | None = None
    data: msgspec.Raw = NOTHING
    b64data: str | None = None
    expire_at: Seconds | None = None
    recover_since: StreamPosition | None = None
    override: Override | None = None


class UnsubscribeRequest(Chosen, frozen=True, kw_only=True):
    """Ends their subscription of a channel, or of all where it is empty."""

    channel: str = ""


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """What clients are told."""

    code: int = 0
    reason: str = ""


class DisconnectRequest(Chosen, frozen=True, kw_only=True):
    """Ends connections, but for those whose client id is in `whitelist`."""

    whitelist: list[str] | None = None
    disconnect: Ending | None = None


class RefreshRequest(Chosen, frozen=True, kw_only=True):
    """Changes when connections end: now where `expired`, else at `expire_at`, else not by time."""

    expired: bool | None = None
    expire_at: Seconds | None = None


class ChannelRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Is about a channel."""

    channel: str = ""


class PresenceRequest(ChannelRequest, frozen=True, kw_only=True):
    """Asks who is on a channel."""


class PresenceStatsRequest(ChannelRequest, frozen=True, kw_only=True):
    """Asks how many are on a channel."""


class HistoryRemoveRequest(ChannelRequest, frozen=True, kw_only=True):
    """Removes what was published on a channel."""


class HistoryRequest(ChannelRequest, frozen=True, kw_only=True):
    """Asks for `limit` publications (below 0: for all), from the oldest after `since` on, or back from the newest."""

    limit: Limit | None = None
    since: StreamPosition | None = None
    reverse: bool | None = None


class ChannelsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Asks which channels have subscribers."""

    pattern: str | None = None


class InfoRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Asks which processes there are."""


Request = (
    PublishRequest
    | BroadcastRequest
    | SubscribeRequest
    | UnsubscribeRequest
    | DisconnectRequest
    | RefreshRequest
    | PresenceRequest
    | PresenceStatsRequest
    | HistoryRequest
    | HistoryRemoveRequest
    | ChannelsRequest
    | InfoRequest
)
REQUESTS: dict[str, type[Request]] = {
    "publish": PublishRequest,
    "broadcast": BroadcastRequest,
    "subscribe": SubscribeRequest,
    "unsubscribe": UnsubscribeRequest,
    "disconnect": DisconnectRequest,
    "refresh": RefreshRequest,
    "presence": PresenceRequest,
    "presence_stats": PresenceStatsRequest,
    "history": HistoryRequest,
    "history_remove": HistoryRemoveRequest,
    "channels": ChannelsRequest,
    "info": InfoRequest,
}
"""By the name of the method."""


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """One of a batch: the first of these that is there."""

    publish: PublishRequest | None = None
    broadcast: BroadcastRequest | None = None
    subscribe: SubscribeRequest | None = None
    unsubscribe: UnsubscribeRequest | None = None
    disconnect: DisconnectRequest | None = None
    refresh: RefreshRequest | None = None
    presence: PresenceRequest | None = None
    presence_stats: PresenceStatsRequest | None = None
    history: HistoryRequest | None = None
    history_remove: HistoryRemoveRequest | None = None
    channels: ChannelsRequest | None = None
    info: InfoRequest | None = None

    @property
    def call(self) -> tuple[str, Request] | None:
        """The name of the method and its request; None for what we do not know."""
        if self.publish is not None:  # most are
            return "publish", self.publish
        for name in REQUESTS:
            request = getattr(self, name)
            if request is not None:
                return name, request
        return None


class BatchRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Many commands at once; `parallel` ones need not wait for those before."""

    commands: list[Command] = []
    parallel: bool | None = None


class NamedCommand(msgspec.Struct, frozen=True, kw_only=True):
    """One of `POST /api`, where the method is named in the body."""

    id: Annotated[int, msgspec.Meta(ge=0, lt=2**32)] | None = None
    method: str = ""
    params: msgspec.Raw = msgspec.Raw(b"{}")


class PublishResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a publication is; both are left out where a channel has no history."""

    offset: int = 0
    epoch: str = ""


class ApiError(msgspec.Struct, frozen=True):
    """Why something was not done."""

    code: int
    message: str


class PublishResponse(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one publication of a broadcast."""

    result: PublishResult | None = None
    error: ApiError | None = None


class BroadcastResult(msgspec.Struct, frozen=True):
    """What became of each, in order."""

    responses: list[PublishResponse]


Result = PublishResult | BroadcastResult | dict[str, Any]

T = TypeVar("T")


def decoded(decoder: "msgspec.json.Decoder[T]", text: bytes) -> T:
    """What JSON text says. Raises InvalidInput that names the field."""
    try:
        text.decode()  # values that stay as they are sent are not looked at by the decoder
        return decoder.decode(text)
    except UnicodeDecodeError as error:
        raise invalid("", f"the body is not UTF-8 (byte {error.start})") from error
    except RecursionError as error:
        raise invalid("", "the body is nested too deeply") from error
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        raise invalid(where.rstrip("`").removeprefix("."), what[:1].lower() + what[1:]) from error
    except msgspec.MsgspecError as error:
        raise invalid("", f"the body is not the JSON expected here: {error}") from error


def invalid(field: str, detail: str) -> InvalidInput:
    """The refusal of a request."""
    return InvalidInput(Reason.INVALID_REQUEST, field, detail)
