"""Plain server-sent events over HTTP, for an `EventSource` without any library."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from hookcast_app.auth import ANONYMOUS, Identity, TokenInvalid
from hookcast_app.realtime.context import Context
from hookcast_app.realtime.door import Door
from hookcast_app.realtime.framing import Encoding
from hookcast_app.realtime.handshake import header, is_listed_origin, is_named_origin
from hookcast_app.realtime.session import MAX_SUBSCRIPTIONS
from hookcast_app.realtime.sse import EventStream
from hookcast_app.settings import Settings
from hookcast_core.channels import is_channel_name
from hookcast_core.errors import InvalidInput, Reason, Refused

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


class _Stream(Response):
    """A response that an EventStream writes."""

    def __init__(self, stream: EventStream, headers: dict[str, str]) -> None:
        self.stream = stream
        self.raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  as ASGI has it
        await self.stream.run(receive, send, self.raw)


def sse_router(context: Context, door: Door, settings: Settings) -> APIRouter:
    """The routes, which raise InvalidInput, Refused and Unavailable for the app's error handlers."""
    router = APIRouter(tags=["realtime"])

    async def stream(request: Request, channels: list[str], encoding: Encoding) -> Response:
        waiting = door.enter(request.scope)
        try:
            identity = await _identity(request, context, door, settings)
        finally:
            waiting.end()
        channels = list(dict.fromkeys(channels))
        _check(channels, identity, context)
        return _Stream(EventStream(channels, encoding, identity, context), _headers(request, settings))

    @router.get("/sse/{channel}", response_class=Response, responses=_STREAM)
    async def one(request: Request, channel: Annotated[str, Path()], _token: _Token = None) -> Response:
        """Events of one channel: `data` is what was published."""
        return await stream(request, [channel], Encoding.EVENTS)

    @router.get("/sse", response_class=Response, responses=_STREAM)
    async def several(request: Request, channel: Annotated[list[str], Query()], _token: _Token = None) -> Response:
        """Events of one or more channels: `data` is `{"channel": …, "data": what was published}`."""
        return await stream(request, channel, Encoding.NAMED_EVENTS)

    return router


async def _identity(request: Request, context: Context, door: Door, settings: Settings) -> Identity:
    """Who asks. Raises Refused, Unavailable."""
    scheme, _, credentials = (request.headers.get("authorization") or "").partition(" ")
    presented = credentials.strip() if scheme.lower() == "bearer" else ""
    presented = presented or door.token(request.scope)
    if not presented:
        if settings.realtime_anonymous:
            return ANONYMOUS
        raise Refused(Reason.UNAUTHENTICATED, "send a connection token as `Authorization: Bearer …` or `?token=…`")
    try:
        return await context.verify(presented)
    except TokenInvalid as error:
        context.stats.refused += 1
        raise Refused(Reason.UNAUTHENTICATED, str(error)) from error


def _check(channels: list[str], identity: Identity, context: Context) -> None:
    """Raises InvalidInput, Refused."""
    if len(channels) > MAX_SUBSCRIPTIONS:
        raise InvalidInput(
            Reason.INVALID_REQUEST, "channel", f"at most {MAX_SUBSCRIPTIONS} channels can be listened to"
        )
    for channel in channels:
        if not is_channel_name(channel):
            raise InvalidInput(
                Reason.INVALID_REQUEST, "channel", "a channel's name is 1 to 255 letters, digits and _-.:@#"
            )
        if not context.rules.may_subscribe(identity, channel):
            raise Refused(Reason.FORBIDDEN, f"you may not listen on {channel}")
        if context.is_full(channel):
            raise Refused(Reason.FORBIDDEN, f"{channel} has as many subscribers as it may")


def _headers(request: Request, settings: Settings) -> dict[str, str]:
    """With CORS for the origins that the settings allow; with cookies for those that they name (Fetch, 3.3)."""
    origin = header(request.scope["headers"], b"origin")
    if origin is None or not is_listed_origin(origin, settings.allowed_origins):
        return _HEADERS
    headers = {**_HEADERS, "Access-Control-Allow-Origin": origin, "Vary": "Origin"}
    if settings.jwt_cookie and is_named_origin(origin, settings.allowed_origins):
        headers["Access-Control-Allow-Credentials"] = "true"
    return headers
