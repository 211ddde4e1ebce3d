"""`hookcast serve` as a process of its own, as a user starts it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.support.ports import free_port

COMMAND = Path(sys.executable).parent / "hookcast"


async def is_taken(client: httpx.AsyncClient, event: Mapping[str, object]) -> bool:
    """Whether an event that is published is acknowledged: not so if Redis or the server is away."""
    try:
        answer = await client.post("/api/v1/events", json=event)
    except httpx.HTTPError:
        return False
    assert answer.status_code in {202, 503}, answer.text
    return answer.status_code == 202


class Serving:
    """One data directory and the server on it, started and killed as often as a test likes."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self.data_dir = directory / "data"
        self.log = directory / "server.log"
        self.said = directory / "server.out"
        self.port, self.admin_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._settings = {
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "ADMIN_PORT": str(self.admin_port),
            "DATA_DIR": str(self.data_dir),
            "EGRESS_ALLOW": "127.0.0.0/8",
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The server that runs."""
        assert self._process is not None
        return self._process

    @property
    def api_key(self) -> str:
        """The key that the first start made."""
        key: str = json.loads((self.data_dir / "keys.json").read_text())["api_key"]
        return key

    def start(self) -> None:
        """Starts the server; does not wait for it."""
        environment = {f"HOOKCAST_{name}": value for name, value in self._settings.items()}
        with self.log.open("ab") as log, self.said.open("ab") as said:
            given = {**os.environ, **environment}
            self._process = subprocess.Popen([COMMAND, "serve"], env=given, stdout=said, stderr=log)

    async def ready(self, within: float = 30.0) -> None:
        """Waits until the server is ready."""
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.admin_port}") as client:
            deadline = time.monotonic() + within
            while time.monotonic() < deadline:
                assert self.process.poll() is None, self.log.read_text()
                try:
                    if (await client.get("/health/ready")).is_success:
                        return
                except httpx.HTTPError:
                    pass  # it does not listen yet
                await asyncio.sleep(0.05)
        raise AssertionError(f"not ready: {self.log.read_text()}")

    def redis_pid(self) -> int:
        """The embedded Redis: the process that works in its directory."""
        for process in Path("/proc").glob("[0-9]*"):
            try:
                name, directory = (process / "comm").read_text().strip(), (process / "cwd").readlink()
            except OSError:
                continue  # it has just ended
            if name in {"valkey-server", "redis-server"} and directory == self.data_dir / "redis":
                return int(process.name)
        raise AssertionError("no embedded Redis runs")

    def kill(self) -> None:
        """SIGKILL: no word of goodbye."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@contextmanager
def serving(directory: Path, **settings: str) -> Iterator[Serving]:
    """A server that is stopped at the end, whatever happened."""
    server = Serving(directory, **settings)
    try:
        yield server
    finally:
        if server._process is not None and server._process.poll() is None:
            server.kill()
