"""A long poll: what is new on a channel since a position, or as soon as something is."""

import asyncio
from collections.abc import Iterable

import msgspec

from hookcast_app.realtime.context import Context
from hookcast_app.realtime.event_ids import shown
from hookcast_app.realtime.framing import Encoding
from hookcast_app.realtime.positions import Position, offset_of

MAX_ANSWER = 1_048_576
"""Bytes of messages in one answer; one that is larger comes alone."""


class Messages(msgspec.Struct, frozen=True):
    """An answer: encoded publications, where the client stands behind them, and whether none is missing before."""

    messages: list[msgspec.Raw]
    position: str
    recovered: bool = True


class Poll:
    """One request, as the hub sees it; lives as long as `answer`, which is called once.

    `since` is None for who does not know a position yet. `limit` is of messages, `wait` in seconds.
    """

    encoding = Encoding.PUBLICATIONS

    def __init__(self, channel: str, since: Position | None, context: Context, *, limit: int, wait: float) -> None:
        self._channel = channel
        self._since = since
        self._context = context
        self._limit = limit
        self._wait = wait
        self._lines: list[bytes] = []
        self._is_lost = False
        self._has_news = asyncio.Event()

    def write(self, frames: bytes) -> None:
        """See hub.Connection."""
        self._lines += frames.splitlines()
        self._has_news.set()

    def interrupted(self, channel: str) -> None:  # noqa: ARG002  there is one
        """See hub.Connection."""
        self._is_lost = True
        self._has_news.set()

    def disconnect(self) -> None:
        """See hub.Connection. It is answered at once."""
        self._has_news.set()

    async def answer(self) -> Messages:
        """Raises Unavailable, or Refused if the channel is full."""
        with self._context.clients.staying(self, "poll"):
            if self._since is None:
                return await self._here()
            return await self._kept(self._since) or await self._coming(self._since)

    async def _here(self) -> Messages:
        async with self._context.time_limit():
            read = await self._context.streams.history(self._channel, "-", "+", 0)
        return Messages([], shown(read.position))

    async def _kept(self, since: Position) -> Messages | None:
        """What the history has, which may be much, or None if nothing is new."""
        async with self._context.time_limit():
            read = await self._context.streams.history(self._channel, f"({since.offset}", "+", self._limit)
        if since == read.position:
            return None
        found = read.publications
        if since.epoch != read.position.epoch or not found or found[0].offset != since.offset + 1:
            return _lost(read.position)
        return self._given(since, [each.publication for each in found])

    async def _coming(self, since: Position) -> Messages:
        caught = await self._context.listen(self._channel, self, since, wants_all=True)
        try:
            if not caught.is_all:
                return _lost(caught.position)
            if caught.missed:
                return self._given(since, caught.missed)
            await self._news()
            if self._is_lost:
                return _lost(self._context.broker.position(self._channel))
            return self._given(since, self._lines)
        finally:
            self._context.leave(self._channel, self)

    async def _news(self) -> None:
        if self._context.is_draining():
            return
        try:
            async with asyncio.timeout(self._wait):
                await self._has_news.wait()
        except TimeoutError:
            pass

    def _given(self, since: Position, publications: Iterable[bytes]) -> Messages:
        """As many as one answer may have; the next one goes on behind them."""
        messages: list[msgspec.Raw] = []
        offset, size = since.offset, 0
        for each in publications:
            size += len(each)
            if messages and (len(messages) >= self._limit or size > MAX_ANSWER):
                break
            messages.append(msgspec.Raw(each))
            # What was published past the history has no number.
            offset = offset_of(each) or offset
        return Messages(messages, shown(Position(offset, since.epoch)))


def _lost(position: Position) -> Messages:
    return Messages([], shown(position), recovered=False)
