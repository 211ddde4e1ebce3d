"""The one way to get a Redis client, so that time-outs and retries are decided once."""

import asyncio
from collections.abc import Iterable

import hiredis
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.maint_notifications import MaintNotificationsConfig

from hookcast_core.errors import InvalidInput, Reason

MAX_CONNECTIONS = 256
"""Per process; one more command at the same time is refused (Unavailable) instead of piling up."""


def create_redis(
    url: str, *, timeout_s: float = 5.0, connect_timeout_s: float = 3.0, max_connections: int = MAX_CONNECTIONS
) -> Redis:
    """A client for `redis://`, `rediss://` or `unix://`; connects at its first command. Close it with `aclose()`.

    Nothing is retried: redis-py's default sends a command whose answer was lost again, up to ten times, and a script
    that publishes would then publish twice. A pooled connection that Redis closed (a restart) is noticed before it is
    used, so that no retry is needed for it. Answers are bytes.
    Raises InvalidInput (field `redis_url`) for a URL that cannot be read; it may hold a password and is not repeated.
    """
    try:
        client = Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=connect_timeout_s,
            max_connections=max_connections,
            retry=Retry(NoBackoff(), 0),
            client_name="hookcast",
            # With them redis-py skips the check for connections that the server has closed.
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
        )
        # Makes no connection yet, but complains about what is in the URL's query now instead of at the first command.
        client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            Reason.INVALID_SETTING, "redis_url", "cannot be read as redis://[user:password@]host:port[/database]"
        ) from error
    pool = client.connection_pool
    pool.connection_class = type("HookcastConnection", (_Connection, pool.connection_class), {})
    return client


class _Connection(AbstractConnection):
    """Sends under a time-out that lets a cancellation through, and packs in C.

    redis-py uses `asyncio.wait_for`, which before Python 3.12 swallows a cancellation that comes as the send ends: the
    task would go on, and whoever waits for its end would wait for ever. Its own packing, in Python, costs a microsecond
    for each argument, and a script that settles a hundred deliveries has a thousand.
    """

    def pack_command(self, *args: bytes | bytearray | memoryview | str | float) -> list[bytes]:
        """As the base class does: a command's name may be several words."""
        name = args[0].encode() if isinstance(args[0], str) else args[0]
        words = name.split() if isinstance(name, bytes) else [name]
        return [hiredis.pack_command((*words, *args[1:]))]

    async def send_packed_command(
        self,
        command: bytes | str | Iterable[bytes],
        check_health: bool = True,  # noqa: FBT001, FBT002  the base class's signature
    ) -> None:
        """As the base class does. Raises redis-py's TimeoutError."""
        limit, self.socket_timeout = self.socket_timeout, None
        try:
            async with asyncio.timeout(limit):
                await super().send_packed_command(command, check_health)
        except TimeoutError:
            await self.disconnect(nowait=True)
            raise RedisTimeoutError("Timeout writing to socket") from None
        finally:
            self.socket_timeout = limit
