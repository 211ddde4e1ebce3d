"""A Redis of its own process that keeps what it acknowledged, to be killed, paused and started again."""

import asyncio
import os
import signal
import subprocess
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from hookcast_app.redis.binary import find_binary


class DurableRedis:
    """Append-only file, synced before each answer; `url` stays the same over its lives, and has the password."""

    def __init__(self, directory: Path, *options: str, password: str = "") -> None:
        """Further `options` win over its own."""
        self.directory = directory
        directory.mkdir()
        self.url = f"unix://{f':{password}@' if password else ''}{directory / 'redis.sock'}"
        self._options = [*options, *(("--requirepass", password) if password else ())]
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Starts it and waits until it has read its file."""
        options = ["--port", "0", "--unixsocket", str(self.directory / "redis.sock"), "--dir", str(self.directory)]
        options += ["--save", "", "--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"]
        self._launch([*options, *self._options])
        async with asyncio.timeout(60), Redis.from_url(self.url) as redis:
            while True:
                try:
                    await redis.ping()
                except (RedisError, OSError):
                    await asyncio.sleep(0.02)  # it starts, or reads its file
                else:
                    return

    def _launch(self, options: list[str]) -> None:
        self._process = subprocess.Popen([find_binary().path, *options], stdout=subprocess.DEVNULL)

    def signal(self, number: signal.Signals) -> None:
        """SIGKILL, SIGSTOP, SIGCONT."""
        assert self._process is not None
        os.kill(self._process.pid, number)
        if number == signal.SIGKILL:
            self._process.wait()

    def stop(self) -> None:
        """Ends it for good."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
