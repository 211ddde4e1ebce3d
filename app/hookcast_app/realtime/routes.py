"""Plain server-sent events over HTTP, for an `EventSource` without any library."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from hookcast_app.realtime.context import Context
from hookcast_app.realtime.event_ids import read_id
from hookcast_app.realtime.framing import Encoding
from hookcast_app.realtime.readers import Readers
from hookcast_app.realtime.sse import EventStream

_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    # nginx would otherwise hold events back until its buffer is full.
    "X-Accel-Buffering": "no",
}
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "Events until the client goes.", "content": {"text/event-stream": {}}}
}
_Token = Annotated[
    str | None, Query(alias="token", description="A connection token, if it is not sent as `Authorization: Bearer …`.")
]
_SubscriptionToken = Annotated[str, Query(description="A subscription token, for a channel that is opened by one.")]
_LastSeen = Annotated[
    str,
    Header(alias="Last-Event-ID", description="The id of the last event that was read; what was missed comes first."),
]
_LastSeenToo = Annotated[
    str, Query(alias="last_event_id", description="The same, for those who cannot send headers; the header wins.")
]


class _Stream(Response):
    """A response that an EventStream writes."""

    def __init__(self, stream: EventStream, headers: dict[str, str]) -> None:
        self.stream = stream
        self.raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  as ASGI has it
        await self.stream.run(receive, send, self.raw)


def sse_router(context: Context, readers: Readers) -> APIRouter:
    """The routes, which raise InvalidInput, Refused and Unavailable for the app's error handlers."""
    router = APIRouter(tags=["realtime"])

    async def stream(
        request: Request, channels: list[str], encoding: Encoding, last_id: str, subscription_token: str = ""
    ) -> Response:
        channels = list(dict.fromkeys(channels))
        expires_at = await readers.admit(request, channels, subscription_token)
        kept = [channel for channel in channels if context.streams.has_history(channel)]
        since = read_id(last_id, kept) if last_id else {}
        events = EventStream(channels, encoding, context, since=since, expires_at=expires_at)
        return _Stream(events, {**_HEADERS, **readers.cross_origin(request)})

    @router.get("/sse/{channel}", response_class=Response, responses=_STREAM)
    async def one(
        request: Request,
        channel: Annotated[str, Path()],
        subscription_token: _SubscriptionToken = "",
        last_seen: _LastSeen = "",
        last_seen_too: _LastSeenToo = "",
        _token: _Token = None,
    ) -> Response:
        """Events of one channel: `data` is what was published, the id is `<epoch>:<offset>` if there is a history."""
        return await stream(request, [channel], Encoding.EVENTS, last_seen or last_seen_too, subscription_token)

    @router.get("/sse", response_class=Response, responses=_STREAM)
    async def several(
        request: Request,
        channel: Annotated[list[str], Query()],
        last_seen: _LastSeen = "",
        last_seen_too: _LastSeenToo = "",
        _token: _Token = None,
    ) -> Response:
        """Events of one or more channels: `data` is `{"channel": …, "data": what was published}`.

        The id holds the positions of all of them that have a history.
        """
        return await stream(request, channel, Encoding.NAMED_EVENTS, last_seen or last_seen_too)

    return router
