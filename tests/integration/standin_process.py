"""Runs the stand-in server as a real process and reads its log."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

SCRIPT = Path(__file__).with_name("standin_server.py")
PATIENCE = 20.0

Found = TypeVar("Found")


def until(condition: Callable[[], Found | None], seconds: float = PATIENCE) -> Found:
    """What `condition` returns as soon as it is true; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)
    return found


def is_gone(pid: int) -> bool:
    """Whether no process, not even a zombie, has this id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def group_members(group: int) -> list[int]:
    """The live processes of a process group; zombies that wait for init are not counted."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _parent, owner = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            except OSError:
                continue
            if int(owner) == group and state != "Z":
                found.append(int(entry.name))
    return found


class Served:
    """A running process; `ports` once it listens."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self.log = log

    def lines(self) -> list[dict[str, Any]]:
        """The log so far; lines that are not JSON as `{"text": …}`."""
        return [
            json.loads(line) if line.startswith("{") else {"text": line} for line in self.log.read_text().splitlines()
        ]

    def event(self, name: str, seconds: float = PATIENCE) -> dict[str, Any]:
        """The first log line of that event, when it comes."""

        def look() -> dict[str, Any] | None:
            found = next((line for line in self.lines() if line.get("event") == name), None)
            assert found or self.process.poll() is None, self.log.read_text()
            return found

        return until(look, seconds)

    @property
    def main(self) -> str:
        """URL of the main port."""
        return str(self.event("listening")["main"])

    @property
    def admin(self) -> str:
        """URL of the admin port."""
        return str(self.event("listening")["admin"])

    def connect(self) -> socket.socket:
        """A connection to the main port."""
        host, port = self.main.removeprefix("http://").split(":")
        return socket.create_connection((host, int(port)), timeout=PATIENCE)

    def ends(self, signal_number: int | None = None, seconds: float = PATIENCE) -> int:
        """Sends a signal, if given, and returns the exit status."""
        if signal_number is not None:
            self.process.send_signal(signal_number)
        return self.process.wait(seconds)


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """This process's, without settings of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HOOKCAST_", "KUBERNETES_"))}
    return kept | dict(settings)


@contextmanager
def served(directory: Path, *arguments: str, name: str = "log", **settings: str) -> Iterator[Served]:
    """`hookcast serve` on free ports; settings are environment variables. Killed at the end if it still runs."""
    log = directory / name
    defaults = {"HOOKCAST_PORT": "0", "HOOKCAST_ADMIN_PORT": "0", "HOOKCAST_DATA_DIR": str(directory / "data")}
    command = [sys.executable, str(SCRIPT), "serve", *arguments]
    with log.open("w") as stream:
        process = subprocess.Popen(
            command, stderr=stream, env=environment(defaults | settings), text=True, cwd=directory
        )
    try:
        yield Served(process, log)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def refused(*arguments: str, cwd: Path, **settings: str) -> tuple[int, str]:
    """Exit status and stderr of a `hookcast` that does not get to serve."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        env=environment(settings), capture_output=True, text=True, timeout=PATIENCE, cwd=cwd, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr
