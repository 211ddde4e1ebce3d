"""Publications between processes: Redis pub/sub, subscribed only to channels that somebody here listens to.

What is published is the protocol's `pub` object, encoded; it is handed to the hub as it came. Every process that may
write to this Redis is trusted with that.
"""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable
from itertools import groupby
from operator import itemgetter
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from hookcast_app.realtime.hub import Hub
from hookcast_app.redis import channel as channel_key
from hookcast_core.errors import Unavailable

WATCH_SECONDS = 10.0
"""A connection on which nothing came for this long is pinged; if nothing comes for as long again it is given up."""
_PREFIX = len(channel_key(""))
_FAILURES = (RedisError, OSError, TimeoutError)

_log = logging.getLogger(__name__)


class _Feed:
    """A channel that comes from Redis, or is about to."""

    __slots__ = ("channel", "confirmed", "is_interrupted", "users")

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.users = 0
        self.confirmed = asyncio.Event()
        self.is_interrupted = False
        """Whether publications may have been missed since its users were last told so."""


_Command = tuple[str, _Feed]
"""SUBSCRIBE or UNSUBSCRIBE, and what for."""


class Broker:
    """Lives as long as the server. `connect` opens it, `run` keeps it alive until cancelled, `close` ends it.

    `backoff(failures)` is the pause in seconds after so many failures in a row.
    """

    def __init__(
        self, redis: Redis, hub: Hub, *, backoff: Callable[[int], float], watch_seconds: float = WATCH_SECONDS
    ) -> None:
        self._redis = redis
        self._hub = hub
        self._backoff = backoff
        self._watch_seconds = watch_seconds
        self._connection: AbstractConnection | None = None
        self._feeds: dict[str, _Feed] = {}
        self._commands: list[_Command] = []
        """To be sent, in order."""
        self._has_commands = asyncio.Event()
        self._unconfirmed: deque[_Feed] = deque()
        """Feeds whose SUBSCRIBE was sent: Redis confirms in the order of the commands."""
        self._heard = True

    @property
    def is_connected(self) -> bool:
        """Whether publications come in now."""
        return self._connection is not None

    # What connections call

    async def subscribe(self, channel: str) -> None:
        """See connection.Broker."""
        feed = self._feeds.get(channel)
        if feed is None:
            feed = self._feeds[channel] = _Feed(channel)
            self._command("SUBSCRIBE", feed)
        feed.users += 1
        try:
            await feed.confirmed.wait()
        except asyncio.CancelledError:
            self.unsubscribe(channel)
            raise

    def unsubscribe(self, channel: str) -> None:
        """See connection.Broker."""
        feed = self._feeds[channel]
        feed.users -= 1
        if feed.users == 0:
            del self._feeds[channel]
            self._command("UNSUBSCRIBE", feed)

    async def publish(self, channel: str, publication: bytes) -> None:
        """See connection.Broker."""
        try:
            await self._redis.publish(channel_key(channel), publication)
        except _FAILURES as error:
            raise Unavailable("Redis cannot be reached") from error

    def _command(self, name: str, feed: _Feed) -> None:
        # Without a connection there is nothing to say: the next one begins with all feeds.
        if self._connection is not None:
            self._commands.append((name, feed))
            self._has_commands.set()

    # The connection

    async def connect(self) -> None:
        """Opens the connection. Raises Unavailable."""
        connection = self._new_connection()
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
        except _FAILURES as error:
            raise Unavailable("Redis cannot be reached") from error
        # From here on `_watch` keeps the time. With a time-out redis-py uses `asyncio.wait_for`, which on Python 3.11
        # may swallow a cancellation.
        connection.socket_timeout = None
        self._begin(connection)

    def _new_connection(self) -> AbstractConnection:
        """A connection of its own with the pool's address and credentials.

        It never reconnects by itself: a gap must be noticed. RESP2, because its messages need no dispatch.
        """
        pool = self._redis.connection_pool
        settings: dict[str, Any] = {**pool.connection_kwargs, "protocol": 2, "decode_responses": False}
        settings |= {"retry": Retry(NoBackoff(), 0), "health_check_interval": 0}
        connection: AbstractConnection = pool.connection_class(**settings)
        return connection

    def _begin(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self._heard = True
        self._unconfirmed.clear()
        self._commands = [("SUBSCRIBE", feed) for feed in self._feeds.values()]
        self._has_commands.set()

    async def run(self) -> None:
        """Reads until cancelled; connects again after a failure, and then says which channels were interrupted."""
        failures = 0
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                if self._connection is None:
                    await self.connect()
                await self._serve()
            except (*_FAILURES, Unavailable) as error:
                # One that connects and then fails at once is as good as none.
                failures = 1 if loop.time() - began > self._watch_seconds else failures + 1
                _log.warning("realtime: lost Redis, trying again: %s", error)
            finally:
                await self._end()
            await asyncio.sleep(self._backoff(failures))

    async def close(self) -> None:
        """Closes the connection; what waits for Redis waits on until its own time is up."""
        await self._end()

    async def _end(self) -> None:
        connection, self._connection = self._connection, None
        for feed in self._feeds.values():
            feed.is_interrupted |= feed.confirmed.is_set()
            feed.confirmed.clear()
        if connection is not None:
            await connection.disconnect(nowait=True)

    async def _serve(self) -> None:
        """Reads, writes and watches until one of them fails; the failure of the first is raised."""
        connection = self._connection
        assert connection is not None  # noqa: S101  run() has just connected
        tasks = [
            asyncio.create_task(self._read(connection), name="realtime-redis-read"),
            asyncio.create_task(self._write(connection), name="realtime-redis-write"),
            asyncio.create_task(self._watch(connection), name="realtime-redis-watch"),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            done.pop().result()
        finally:
            await _cancelled(tasks)

    async def _read(self, connection: AbstractConnection) -> None:
        while True:
            message = await connection.read_response(timeout=math.inf)
            self._heard = True
            if not isinstance(message, list):
                continue
            if message[0] == b"message":
                self._hub.publish(message[1][_PREFIX:].decode(), message[2])
            elif message[0] == b"subscribe":
                self._confirm(self._unconfirmed.popleft())

    def _confirm(self, feed: _Feed) -> None:
        feed.confirmed.set()
        if feed.is_interrupted:
            feed.is_interrupted = False
            self._hub.interrupted(feed.channel)

    async def _write(self, connection: AbstractConnection) -> None:
        while True:
            await self._has_commands.wait()
            self._has_commands.clear()
            commands, self._commands = self._commands, []
            for name, batch in groupby(commands, key=itemgetter(0)):
                feeds = [feed for _, feed in batch]
                if name == "SUBSCRIBE":
                    self._unconfirmed.extend(feeds)
                await connection.send_command(name, *(channel_key(feed.channel) for feed in feeds), check_health=False)

    async def _watch(self, connection: AbstractConnection) -> None:
        while True:
            self._heard = False
            await asyncio.sleep(self._watch_seconds)
            if not self._heard:
                await connection.send_command("PING", check_health=False)
                await asyncio.sleep(self._watch_seconds)
                if not self._heard:
                    raise TimeoutError("nothing heard")


async def _cancelled(tasks: list[asyncio.Task[None]]) -> None:
    """Cancels until all have ended: one that swallows its cancellation does not keep the process alive."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=1)
