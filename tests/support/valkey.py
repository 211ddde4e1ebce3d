"""A real Valkey on a private unix socket, for tests that need one."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from hookcast_app.redis.binary import find_binary


@asynccontextmanager
async def running_valkey(*options: str) -> AsyncIterator[str]:
    """The URL of a server without persistence; gone with everything in it at the end."""
    with tempfile.TemporaryDirectory(prefix="hookcast-") as directory:
        socket = Path(directory) / "redis.sock"
        arguments = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no", "--dir", directory]
        process = await asyncio.create_subprocess_exec(
            find_binary().path, *arguments, *options, stdout=asyncio.subprocess.DEVNULL
        )
        try:
            await _answering(f"unix://{socket}", process)
            yield f"unix://{socket}"
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _answering(url: str, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(10), Redis.from_url(url) as redis:
        while process.returncode is None:
            try:
                await redis.ping()
            except (RedisError, OSError):
                await asyncio.sleep(0.01)  # it is starting
            else:
                return
    raise AssertionError(f"Valkey ended with {process.returncode}")
