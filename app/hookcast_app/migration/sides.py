"""The two Redis of a migration: how they are opened, named, and complained about."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from redis.asyncio import Redis

from hookcast_app.migration.copying import look
from hookcast_app.migration.plan import Found, refused
from hookcast_app.redis import EmbeddedRedis, Servers, ServerState, check_fit, create_redis
from hookcast_core.errors import InvalidInput, Reason, Unavailable

EMBEDDED = "embedded"
TIMEOUT_SECONDS = 60.0
"""For one script call; a large hash on a busy disk takes longer than what servers wait for."""


class Side(NamedTuple):
    """One of the two: the option that names it, its client, and how it is shown, without credentials."""

    option: str
    redis: Redis
    shown: str

    async def state(self) -> ServerState:
        """What kind of Redis it is. Raises InvalidInput that names the option."""
        with _named(self.option):
            return await check_fit(self.redis)

    async def look(self) -> Found:
        """What it holds. Raises InvalidInput that names the option."""
        with _named(self.option):
            return await look(self.redis)


@asynccontextmanager
async def opened(option: str, url: str, data_dir: Path | None = None) -> AsyncIterator[Side]:
    """A side by its URL, closed at the end; `embedded`, where `data_dir` allows it, is started and stopped.

    Raises InvalidInput.
    """
    if url == EMBEDDED and data_dir is not None:
        async with _embedded(option, data_dir) as side:
            yield side
        return
    with _named(option):
        servers = Servers(url, timeout_s=TIMEOUT_SECONDS)
    try:
        yield Side(option, servers.of(0), shown(option, url))
    finally:
        await servers.aclose()


def shown(option: str, url: str) -> str:
    """A Redis URL without user, password and options. Raises InvalidInput if these cannot be told from the rest."""
    parts = urlsplit(url)
    if "@" in parts.path + parts.query + parts.fragment:
        raise refused(option, "write the characters / ? # of a password as %2F %3F %23")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@asynccontextmanager
async def _embedded(option: str, data_dir: Path) -> AsyncIterator[Side]:
    if not await asyncio.to_thread((data_dir / "redis").is_dir):
        raise refused("data_dir", f"there is no embedded Redis in {data_dir}")
    embedded = EmbeddedRedis(data_dir)
    redis = create_redis(await embedded.start(), timeout_s=TIMEOUT_SECONDS)
    try:
        yield Side(option, redis, f"the embedded Redis in {data_dir}")
    finally:
        await redis.aclose()
        await embedded.stop()


@contextmanager
def _named(option: str) -> Iterator[None]:
    """What is wrong with a Redis is wrong with the option that names it."""
    try:
        yield
    except InvalidInput as error:
        raise InvalidInput(error.reason, option, error.detail) from error
    except Unavailable as error:
        raise InvalidInput(Reason.REDIS_UNREACHABLE, option, error.detail) from error
