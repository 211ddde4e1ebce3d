"""`GET /api/v1/channels/{channel}/messages`: long polls, for clients that can do nothing but ask."""

import asyncio
from collections.abc import Mapping
from typing import Annotated

import msgspec
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from hookcast_app.realtime.context import Context
from hookcast_app.realtime.event_ids import read_position
from hookcast_app.realtime.polling import Messages, Poll
from hookcast_app.realtime.positions import Position
from hookcast_app.realtime.readers import Readers
from hookcast_app.realtime.sse import gone
from hookcast_core.errors import InvalidInput, Reason

LONGEST_WAIT = 60
MOST_MESSAGES = 1_000


class _Answer(Response):
    """A response that is awaited from a Poll, for as long as its client is there."""

    def __init__(self, poll: Poll, headers: Mapping[str, str]) -> None:
        self.poll = poll
        self.told = headers
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asking = asyncio.create_task(self.poll.answer(), name="poll")
        going = asyncio.create_task(gone(receive), name="poll-receive")
        try:
            await asyncio.wait({asking, going}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            is_answered = asking.done()
            asking.cancel()
            going.cancel()
            await asyncio.wait({asking, going})
        if is_answered:
            await self._send(asking.result(), scope, receive, send)

    async def _send(self, messages: Messages, scope: Scope, receive: Receive, send: Send) -> None:
        content = msgspec.json.encode(messages)
        await Response(content, media_type="application/json", headers=dict(self.told))(scope, receive, send)


class MessageRoutes:
    """Lives as long as the server. Its route raises InvalidInput, Refused and Unavailable for the app's handlers."""

    def __init__(self, context: Context, readers: Readers) -> None:
        self._context = context
        self._readers = readers

    def router(self) -> APIRouter:
        """The route."""
        router = APIRouter(prefix="/api/v1", tags=["realtime"])
        router.add_api_route("/channels/{channel}/messages", self.messages, summary="What is new on a channel")
        return router

    async def messages(
        self,
        request: Request,
        channel: Annotated[str, Path()],
        after: Annotated[
            str | None, Query(max_length=64, description="`position` of the last answer. Without it nothing is given.")
        ] = None,
        wait: Annotated[int, Query(ge=0, le=LONGEST_WAIT, description="Seconds to wait for something new.")] = 20,
        limit: Annotated[int, Query(ge=1, le=MOST_MESSAGES, description="Messages in one answer.")] = 100,
        subscription_token: Annotated[
            str, Query(description="A subscription token, for a channel that is opened by one.")
        ] = "",
        _token: Annotated[
            str | None,
            Query(alias="token", description="A connection token, if neither it nor an API key is a header."),
        ] = None,
    ) -> Response:
        """Messages after a position: those that are there, else those that come within `wait` seconds, or none.

        The first request, without `after`, gives the position from which the next one goes on. `recovered: false` says
        that messages after the given position are no longer known; there are none in that answer, and its position is
        the newest. Takes a client's connection token, or an API key with the scope `read`.
        """
        expires_at = await self._readers.admit(request, [channel], subscription_token, takes_keys=True)
        if not self._context.streams.has_history(channel):
            detail = (
                "it has no history to go on from; set history_size for its namespace in HOOKCAST_CHANNEL_NAMESPACES"
            )
            raise InvalidInput(Reason.INVALID_REQUEST, "channel", detail)
        seconds = float(wait)
        if expires_at is not None:
            seconds = min(seconds, max(0.0, expires_at - self._context.clock()))
        poll = Poll(channel, _position(after), self._context, limit=limit, wait=seconds)
        return _Answer(poll, {"Cache-Control": "no-store", **self._readers.cross_origin(request)})


def _position(after: str | None) -> Position | None:
    """Raises InvalidInput."""
    if after is None:
        return None
    if (found := read_position(after)) is None:
        raise InvalidInput(Reason.INVALID_REQUEST, "after", "is no position; give `position` of the answer before")
    return found
