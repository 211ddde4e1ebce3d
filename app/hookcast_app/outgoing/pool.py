"""The kept-alive connections of one endpoint, at most so many, and who waits for one."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from hookcast_app.outgoing.answer import AttemptFailed
from hookcast_app.outgoing.connection import Connection
from hookcast_core.errors import Reason

Dial = Callable[[float, Callable[[Connection], None]], Awaitable[Connection]]
"""Opens a connection before a deadline in loop time; the callback hears of its end while idle."""


class Pool:
    """Lives as long as its endpoint is used; its client closes what has been idle for too long.

    `size` counts the connections that are idle, in use or being opened: a place. It never exceeds `limit`, and a
    place that becomes free while others wait goes to the first of them, so that none waits beside a free one.
    """

    def __init__(self, dial: Dial, *, limit: int, max_age_seconds: float, request_head: bytes) -> None:
        self._dial = dial
        self._limit = limit
        self._max_age = max_age_seconds
        self._idle: deque[Connection] = deque()
        self._in_use: set[Connection] = set()
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._closed = False
        self.size = 0
        self.request_head = request_head
        """Request line and Host, the same for all requests."""

    def take(self) -> Connection | None:
        """Take the connection that was used last, if one is idle."""
        if not self._idle:
            return None
        connection = self._idle.pop()
        self._in_use.add(connection)
        return connection

    async def open(self, deadline: float) -> Connection:
        """Open a connection, or wait until one is given back. Raises AttemptFailed."""
        if self.size >= self._limit:
            connection = await self._wait(deadline)
            if connection is not None:
                return connection
        else:
            self.size += 1
        return await self._open_in_place(deadline)

    async def reopen(self, connection: Connection, deadline: float) -> Connection:
        """Open a new connection in the place of one that has ended. Raises AttemptFailed."""
        self._in_use.discard(connection)
        return await self._open_in_place(deadline)

    def give_back(self, connection: Connection, now: float) -> None:
        """Keep a connection for the next request, or give its place to the next in line."""
        kept = connection.is_open and connection.reader.keep_alive and now - connection.opened_at < self._max_age
        if not kept:
            self.drop(connection)
            return
        waiter = self._next_waiter()
        if waiter is not None:
            waiter.set_result(connection)
            return
        self._in_use.discard(connection)
        connection.idle_since = now
        self._idle.append(connection)

    def drop(self, connection: Connection) -> None:
        """Close a connection and free its place."""
        self._in_use.discard(connection)
        connection.abort()
        self._free_place()

    def close_idle(self, before: float) -> None:
        """Close what has been idle since before that time."""
        while self._idle and self._idle[0].idle_since < before:
            self._idle.popleft().abort()
            self._free_place()

    def close(self) -> None:
        """Close everything; requests on the way fail, and connections being opened are not used."""
        self._closed = True
        for connection in (*self._idle, *self._in_use):
            connection.abort()
        self.size -= len(self._idle)
        self._idle.clear()
        while (waiter := self._next_waiter()) is not None:
            waiter.set_exception(_closed_by_us())

    async def _open_in_place(self, deadline: float) -> Connection:
        try:
            connection = await self._dial(deadline, self._lost)
        except BaseException:
            self._free_place()
            raise
        self._in_use.add(connection)
        if self._closed:
            self.drop(connection)
            raise _closed_by_us()
        return connection

    async def _wait(self, deadline: float) -> Connection | None:
        """Wait for a connection in use to be given back, or (None) for a place to open one in."""
        waiter: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout_at(deadline):
                return await waiter
        except TimeoutError:
            self._refuse(waiter)
            raise AttemptFailed(Reason.CONNECT_TIMEOUT, "no connection of the endpoint became free in time") from None
        except asyncio.CancelledError:
            self._refuse(waiter)
            raise

    def _refuse(self, waiter: asyncio.Future[Connection | None]) -> None:
        """Pass on what was given to one who no longer waits."""
        if waiter.cancelled() or not waiter.done() or waiter.exception() is not None:
            return
        connection = waiter.result()
        if connection is None:
            self._free_place()
        else:
            self.give_back(connection, asyncio.get_running_loop().time())

    def _lost(self, connection: Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)
            self._free_place()

    def _free_place(self) -> None:
        waiter = self._next_waiter()
        if waiter is None:
            self.size -= 1
        else:
            waiter.set_result(None)

    def _next_waiter(self) -> asyncio.Future[Connection | None] | None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                return waiter
        return None


def _closed_by_us() -> AttemptFailed:
    return AttemptFailed(Reason.CONNECTION_LOST, "closed by us")
