"""One connection to Redis on which channels are subscribed to: it says what was confirmed, and that it was lost."""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable
from itertools import groupby
from operator import itemgetter
from typing import Any, Protocol

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from hookcast_app.redis import heed_cancellation
from hookcast_core.errors import Unavailable

WATCH_SECONDS = 10.0
"""A connection on which nothing came for this long is pinged; if nothing comes for as long again it is given up."""
FAILURES = (RedisError, OSError, TimeoutError)
"""What redis-py raises when Redis cannot be reached, or answers with an error."""

_log = logging.getLogger(__name__)


class Subscription(Protocol):
    """A Redis channel that is subscribed to, as one connection sees it. No call may await, raise or take long."""

    name: str

    def confirmed(self) -> None:
        """Whatever is published from now on comes."""
        ...

    def arrived(self, data: bytes) -> None:
        """This was published."""
        ...

    def lost(self) -> None:
        """From now on something may be missed, until it is confirmed again."""
        ...


class PubSub:
    """Lives as long as the server. `connect` opens it, `run` keeps it alive until cancelled, `close` ends it.

    `sharded`: with the commands of Redis 7 that stay within a cluster's shard. `backoff(failures)` is the pause in
    seconds after so many failures in a row.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        sharded: bool,
        backoff: Callable[[int], float],
        watch_seconds: float = WATCH_SECONDS,
    ) -> None:
        self._redis = redis
        self._prefix = "S" if sharded else ""
        self._backoff = backoff
        self._watch_seconds = watch_seconds
        self._connection: AbstractConnection | None = None
        self._subscriptions: dict[str, Subscription] = {}
        self._commands: list[tuple[str, Subscription]] = []
        """SUBSCRIBE or UNSUBSCRIBE, and what for: to be sent, in order."""
        self._has_commands = asyncio.Event()
        self._unconfirmed: deque[Subscription] = deque()
        """Whose SUBSCRIBE was sent: Redis confirms in the order of the commands."""
        self._ending: deque[str] = deque()
        """What was unsubscribed from, and is not confirmed yet."""
        self._heard = True

    @property
    def is_connected(self) -> bool:
        """Whether publications come in now."""
        return self._connection is not None

    def subscribe(self, subscription: Subscription) -> None:
        """Makes it be confirmed, at once or once Redis is there."""
        self._subscriptions[subscription.name] = subscription
        self._command("SUBSCRIBE", subscription)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Ends it."""
        del self._subscriptions[subscription.name]
        self._command("UNSUBSCRIBE", subscription)

    def _command(self, name: str, subscription: Subscription) -> None:
        # Without a connection there is nothing to say: the next one begins with all subscriptions.
        if self._connection is not None:
            self._commands.append((name, subscription))
            self._has_commands.set()

    # The connection

    async def connect(self) -> None:
        """Opens the connection. Raises Unavailable."""
        connection = self._new_connection()
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
        except FAILURES as error:
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
        self._ending.clear()
        self._commands = [("SUBSCRIBE", each) for each in self._subscriptions.values()]
        self._has_commands.set()

    async def run(self) -> None:
        """Reads until cancelled; connects again after a failure."""
        failures = 0
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                if self._connection is None:
                    await self.connect()
                    heed_cancellation()
                await self._serve()
            except (*FAILURES, Unavailable) as error:
                # One that connects and then fails at once is as good as none.
                failures = 1 if loop.time() - began > self._watch_seconds else failures + 1
                _log.warning("realtime: lost Redis, trying again: %s", error)
            finally:
                await self.close()
            await asyncio.sleep(self._backoff(failures))

    async def close(self) -> None:
        """Closes the connection; what waits for Redis waits on until its own time is up."""
        connection, self._connection = self._connection, None
        for subscription in self._subscriptions.values():
            subscription.lost()
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
            kind = message[0]
            if kind in {b"message", b"smessage"}:
                if subscription := self._subscriptions.get(message[1].decode()):
                    subscription.arrived(message[2])
            elif kind in {b"subscribe", b"ssubscribe"}:
                self._confirm(self._unconfirmed.popleft())
            elif kind in {b"unsubscribe", b"sunsubscribe"} and not self._was_asked_to_end(message[1].decode()):
                # A slot went to another master, which ends the subscriptions to its channels.
                raise ConnectionError("Redis ended a subscription")

    def _was_asked_to_end(self, name: str) -> bool:
        return bool(self._ending) and self._ending.popleft() == name

    def _confirm(self, subscription: Subscription) -> None:
        if self._subscriptions.get(subscription.name) is subscription:
            subscription.confirmed()

    async def _write(self, connection: AbstractConnection) -> None:
        while True:
            await self._has_commands.wait()
            self._has_commands.clear()
            commands, self._commands = self._commands, []
            for name, batch in groupby(commands, key=itemgetter(0)):
                some = [subscription for _, subscription in batch]
                if name == "SUBSCRIBE":
                    self._unconfirmed.extend(some)
                else:
                    self._ending.extend(each.name for each in some)
                await connection.send_command(self._prefix + name, *(each.name for each in some), check_health=False)

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
