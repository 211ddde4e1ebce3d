"""What services ask of channels and their clients, carried out over the processes that share a Redis."""

import asyncio
from collections.abc import Mapping, Sequence

from hookcast_app.realtime import (
    Backend,
    Channels,
    EpochGone,
    HistoryRequest,
    Node,
    Outgoing,
    Position,
    Read,
    Since,
    read_history,
)
from hookcast_app.redis import time_limit
from hookcast_app.server_api import models, publications
from hookcast_app.server_api.models import BroadcastRequest, PublishRequest, invalid
from hookcast_app.server_api.orders import OrderRequest, order
from hookcast_app.server_api.publications import check_channel
from hookcast_core.errors import HookcastError, InvalidInput, Reason, Unavailable

REDIS_SECONDS = 5.0
"""How long Redis, or another process, may take; callers wait for 10 s and the like."""
MAX_PATTERN = 255
_OPTIONS = "(HOOKCAST_CHANNEL_NAMESPACES)"


Published = Position | HookcastError
"""Where a publication is (nowhere, without a history), or why it was not published."""


class ServerApi:
    """Lives as long as the app. Every method raises InvalidInput for what does not hold, and Unavailable.

    `max_bytes` is what one publication's data and tags may have together.
    """

    def __init__(self, backend: Backend, *, max_bytes: int) -> None:
        self._backend = backend
        self._max_bytes = max_bytes

    async def publish(self, request: PublishRequest) -> Position:
        """Publishes to every subscriber, wherever."""
        (answers,) = await self.publish_all([request])
        if isinstance(answers, HookcastError):
            raise answers
        (answer,) = answers
        if isinstance(answer, HookcastError):
            raise answer
        return answer

    async def publish_all(
        self, requests: Sequence[PublishRequest | BroadcastRequest]
    ) -> list[list[Published] | HookcastError]:
        """Publishes in order within each channel; raises nothing.

        For each request what became of it on each of its channels, or why it was not published on any.
        """
        prepared = [self._prepared(request) for request in requests]
        batch = [
            each for entries in prepared if isinstance(entries, list) for each in entries if isinstance(each, Outgoing)
        ]
        sent = iter(await self._sent(batch))
        return [
            [next(sent) if isinstance(each, Outgoing) else each for each in entries]
            if isinstance(entries, list)
            else entries
            for entries in prepared
        ]

    def _prepared(self, request: PublishRequest | BroadcastRequest) -> list[Outgoing | HookcastError] | HookcastError:
        try:
            if isinstance(request, PublishRequest):
                return [publications.outgoing(request, self._max_bytes)]
            return [*publications.broadcast(request, self._max_bytes)]
        except InvalidInput as error:
            return error

    async def _sent(self, batch: Sequence[Outgoing]) -> list[Published]:
        if not batch:
            return []
        futures = self._backend.streams.send(batch)
        await asyncio.wait(futures, timeout=REDIS_SECONDS)
        return [_settled(future) for future in futures]

    async def order(self, request: OrderRequest) -> None:
        """Has every process do something with a user's connections."""
        what = order(request, self._max_bytes)
        async with time_limit(REDIS_SECONDS):
            await self._backend.nodes.tell_all(what)

    async def presence(self, channel: str) -> Mapping[str, bytes]:
        """Who is on a channel: by client its encoded `ClientInfo`."""
        check_channel(channel)
        if not self._backend.rules.options(channel).presence:
            raise InvalidInput(Reason.NOT_FOUND, "channel", f"its namespace does not set presence {_OPTIONS}")
        async with time_limit(REDIS_SECONDS):
            return await self._backend.presence.present(channel)

    async def history(self, request: models.HistoryRequest) -> Read:
        """Where a channel stands, and a part of its history."""
        self._check_history(request.channel)
        since = request.since
        wanted = HistoryRequest(
            channel=request.channel,
            limit=request.limit or 0,
            since=None if since is None else Since(since.offset, since.epoch),
            reverse=request.reverse or False,
        )
        if wanted.is_before_all:
            raise invalid(
                "since.offset", "nothing was published before 0; leave `since` out to go back from the newest"
            )
        try:
            async with time_limit(REDIS_SECONDS):
                return await read_history(self._backend.streams, wanted)
        except EpochGone:
            detail = "is of an earlier history; nothing is known of what came after it"
            raise InvalidInput(Reason.CONFLICT, "since.epoch", detail) from None

    async def remove_history(self, channel: str) -> None:
        """Removes what is kept of a channel; the next publication is numbered as it would have been."""
        self._check_history(channel)
        async with time_limit(REDIS_SECONDS):
            await self._backend.streams.forget(channel)

    def _check_history(self, channel: str) -> None:
        check_channel(channel)
        if not self._backend.streams.has_history(channel):
            raise InvalidInput(Reason.NOT_FOUND, "channel", f"its namespace does not set history_size {_OPTIONS}")

    async def channels(self, pattern: str) -> Channels:
        """Channels that somebody is subscribed to, in any process; those that match a pattern that is not empty."""
        if len(pattern) > MAX_PATTERN or not pattern.isascii() or "{" in pattern:
            raise invalid(
                "pattern",
                f"has at most {MAX_PATTERN} ASCII characters: `*` for any characters, `?` for one, `[…]` for one of a "
                "set, and no `{…}`",
            )
        async with time_limit(REDIS_SECONDS):
            return await self._backend.census.channels(pattern)

    async def nodes(self) -> list[Node]:
        """The processes that share this Redis, and what they have."""
        async with time_limit(REDIS_SECONDS):
            return await self._backend.census.nodes()


def _settled(future: "asyncio.Future[Position]") -> Published:
    if not future.done():
        future.cancel()
        return Unavailable("Redis does not answer; it may have been published")
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, Unavailable):
        return error
    raise error
