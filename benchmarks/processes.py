"""Processes of a benchmark: each pinned to one processor, its time read from the kernel, ended by its pid."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

from hookcast_app.redis.binary import find_binary

ROOT = Path(__file__).parent.parent
API_KEY = "key-of-the-benchmark-0123456789"
SERVER_CPU, LOAD_CPU = 0, 1
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Running:
    """A process of ours and, where it serves HTTP, its port."""

    pid: int
    port: int = 0

    def cpu_seconds(self) -> float:
        """Processor time that it used so far, in all its threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident_bytes(self) -> int:
        """Memory that it holds now."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def process(
    command: list[str], cpu: int, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a command on one processor; its standard output is readable."""
    child = subprocess.Popen(
        ["taskset", "-c", str(cpu), *command],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
    )
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(15)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@contextlib.contextmanager
def valkey(cpu: int) -> Iterator[tuple[Running, str]]:
    """A Valkey as durable as the embedded one (`appendfsync always`), and its URL."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        socket = Path(directory) / "redis.sock"
        options = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", directory]
        options += ["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"]
        with process([str(find_binary().path), *options], cpu) as child:
            wait_for(socket.exists)
            yield Running(child.pid), f"unix://{socket}"


@contextlib.contextmanager
def sink(cpu: int, module: str = "benchmarks.sink") -> Iterator[Running]:
    """The receiver of a module: benchmarks.sink or benchmarks.timing_sink."""
    with process([sys.executable, "-m", module, "--cpu", str(cpu)], cpu) as child:
        assert child.stdout is not None
        yield Running(child.pid, int(child.stdout.readline()))


@contextlib.contextmanager
def hookcast(cpu: int, port: int, patience: float = 30.0, /, **settings: str) -> Iterator[Running]:
    """A server of ours that became ready within `patience` seconds; `settings` by name without the prefix."""
    values = {
        "API_KEYS": f'[{{"name": "bench", "key": "{API_KEY}", "scopes": ["admin"]}}]',
        "ENCRYPTION_KEYS": "x" * 43 + "=",
        "JWT_SECRET": "y" * 40,
        "PORT": str(port),
        "ADMIN_PORT": str(port + 1),
        "LOG_LEVEL": "warning",
        "DRAIN_DELAY": "0",
        "DRAIN": "1",
        # All load comes from one address.
        "CONNECTS_PER_SECOND": "0",
        "UNAUTHENTICATED_CONNECTIONS": "0",
        **settings,
    }
    environment = {f"HOOKCAST_{name}": value for name, value in values.items()}
    with process([str(Path(sys.executable).parent / "hookcast"), "serve"], cpu, environment) as child:
        wait_for(lambda: child.poll() is not None or is_ready(port + 1), patience)
        if child.poll() is not None:
            raise RuntimeError(f"hookcast ended with {child.returncode}")
        yield Running(child.pid, port)


def is_ready(admin_port: int) -> bool:
    """Whether a server answers 200 on its readiness."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{admin_port}/health/ready", timeout=1) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def wait_for(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Polls a condition; raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("a process of the benchmark did not become ready")
        time.sleep(0.02)


def is_open(port: int) -> bool:
    """Whether somebody listens on a port of the loopback interface."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
