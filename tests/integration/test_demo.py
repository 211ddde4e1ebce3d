"""What `make run` starts, as a real process: what a newcomer sees, what they copy, and that nothing is left of it."""

import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.integration.standin_process import PATIENCE, environment, until

COMMAND = [sys.executable, "-m", "hookcast_app.demo"]
READY = "Ctrl-C ends it."
ENDS_WITHIN = 15.0
"""Seconds: it takes well under one, but nothing here says how busy the machine is; what hangs takes for ever."""


class Demo:
    """A running demo; its process leads a group, as a shell's foreground job does."""

    def __init__(self, process: subprocess.Popen[bytes], directory: Path) -> None:
        self.process = process
        self.directory = directory

    @property
    def text(self) -> str:
        """What it has written to the terminal so far."""
        return (self.directory / "out").read_text(encoding="utf-8").replace("\r\n", "\n")

    def says(self, pattern: str) -> re.Match[str]:
        """The first match in what it writes, when it comes."""

        def look() -> re.Match[str] | None:
            found = re.search(pattern, self.text, re.MULTILINE)
            assert found or self.process.poll() is None, self.text + (self.directory / "err").read_text()
            return found

        return until(look)

    @property
    def url(self) -> str:
        """The server's."""
        return self.says(r"running at (\S+)")[1]

    @property
    def watched(self) -> Path:
        """The directory of subscriptions that the first line names."""
        return self.directory / self.says(r"with the subscriptions of (\S+)\.$")[1]

    def ends(self, signal_number: int) -> float:
        """Signals the whole group, as a terminal does; seconds until the process has ended, with status 0."""
        began = time.monotonic()
        os.killpg(self.process.pid, signal_number)
        assert self.process.wait(PATIENCE) == 0, (self.directory / "err").read_text()
        return time.monotonic() - began


def settings(directory: Path) -> dict[str, str]:
    """Free ports and a data directory of its own."""
    ports = dict.fromkeys(("HOOKCAST_PORT", "HOOKCAST_ADMIN_PORT", "HOOKCAST_RECEIVER_PORT"), "0")
    return environment({**ports, "HOOKCAST_DATA_DIR": str(directory / "data")})


@contextmanager
def running(directory: Path) -> Iterator[Demo]:
    """The demo with its output in files. Killed at the end if it still runs."""
    with (directory / "out").open("wb") as out, (directory / "err").open("wb") as err:
        process = subprocess.Popen(
            COMMAND, stdout=out, stderr=err, env=settings(directory), cwd=directory, start_new_session=True
        )
    try:
        yield Demo(process, directory)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """One demo for the tests that only look at it and publish."""
    with running(tmp_path_factory.mktemp("demo")) as demo:
        yield demo


def left_over(directory: Path) -> list[str]:
    """Command lines of live processes that name the directory: the embedded Redis is one while it runs."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue  # it ended while we looked
            if str(directory) in command:
                found.append(command)
    return found


def test_the_first_event_is_seen_as_webhooks_and_over_a_websocket(tmp_path: Path) -> None:
    """Without anybody doing anything, and what is printed is short, in order and without a warning."""
    with running(tmp_path) as demo:
        demo.says(READY)

        data = re.escape('{"id":1,"amount":120}')
        demo.says(rf"^webhook verified: POST /webhooks/orders order\.created {data}$")
        demo.says(rf"^webhook verified: POST /webhooks/big-orders order\.created {data}$")
        demo.says(rf"^websocket: +orders ← order\.created {data}$")
        assert len(demo.text.splitlines()) < 20
        assert (tmp_path / "err").read_text() == ""


def test_the_printed_lines_work(shared: Demo) -> None:
    """The printed curl publishes, the printed URL shows the event live, and so does the terminal."""
    shared.says(READY)
    _, url, *words = shlex.split(shared.says(r"^  (curl .*)$")[1])
    stream_url = shared.says(r"^  (http://\S+/sse/orders)$")[1]
    options = list(zip(words[::2], words[1::2], strict=True))
    headers = dict(value.split(": ", 1) for name, value in options if name == "-H")

    with httpx.stream("GET", stream_url, timeout=PATIENCE) as stream:
        lines = stream.iter_lines()
        next(lines)
        answer = httpx.post(url, headers=headers, content=dict(options)["-d"])
        event = next(line for line in lines if line.startswith("data:"))

    assert answer.status_code == 202
    assert '"amount": 250' in event
    shared.says(r'^webhook verified: POST /webhooks/orders order\.created \{"id":2,"amount":250\}$')
    shared.says(r'^websocket: +orders ← order\.created \{"id":2,"amount":250\}$')


def test_a_webhook_that_nobody_signed_is_told_apart(shared: Demo) -> None:
    """What anybody posts to the receiver is refused and shown as not verified."""
    shared.says(READY)
    manifest = (shared.watched / "orders.yaml").read_text()
    receiver = re.search(r"url: (http://\S+)/webhooks/orders", manifest)
    assert receiver is not None

    answer = httpx.post(f"{receiver[1]}/webhooks/orders", json={"type": "order.created"})

    assert answer.status_code == 401
    shared.says(r"^webhook NOT verified: POST /webhooks/orders: .*webhook-")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_quickly_and_leaves_nothing_running(tmp_path: Path, number: int) -> None:
    """A signal to the whole process group: status 0 in under 5 s, no process left, nothing complained about."""
    with running(tmp_path) as demo:
        demo.says(READY)
        assert left_over(tmp_path)

        assert demo.ends(number) < ENDS_WITHIN

        assert left_over(tmp_path) == []
        assert (tmp_path / "err").read_text() == ""


@pytest.mark.parametrize("made", ["data", "data/redis", "data/redis/redis.sock"])
def test_ctrl_c_while_it_is_starting(tmp_path: Path, made: str) -> None:
    """At whatever moment of the start: no traceback, nothing left; 130 where there was nothing yet to end in order."""
    with running(tmp_path) as demo:
        until(lambda: (tmp_path / made).exists() or None)
        began = time.monotonic()

        os.killpg(demo.process.pid, signal.SIGINT)

        assert demo.process.wait(PATIENCE) in {0, 130}
        assert time.monotonic() - began < ENDS_WITHIN
        until(lambda: not left_over(tmp_path))
        assert (tmp_path / "err").read_text() == ""


def test_it_starts_after_an_earlier_one_was_killed(tmp_path: Path) -> None:
    """SIGKILL in full flight: the next start finds everything free and delivers."""
    with running(tmp_path) as first:
        first.says(READY)
        first.process.kill()
        first.process.wait()

    with running(tmp_path) as second:
        second.says(READY)

        assert second.ends(signal.SIGINT) < ENDS_WITHIN
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("name", ["HOOKCAST_PORT", "HOOKCAST_ADMIN_PORT", "HOOKCAST_RECEIVER_PORT"])
def test_a_port_in_use_is_told_in_one_line(tmp_path: Path, name: str) -> None:
    """It names the port and what to type instead, with status 2."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])

        done = subprocess.run(
            COMMAND, env=settings(tmp_path) | {name: port}, cwd=tmp_path, capture_output=True, text=True,
            timeout=PATIENCE, check=False,
        )  # fmt: skip

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        f"hookcast: 127.0.0.1:{port} is in use: stop what listens there, or choose another port: {name}=0 make run\n"
    )


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"HOOKCAST_PORT": "many"}, "hookcast: HOOKCAST_PORT: "),
        ({"HOOKCAST_RECEIVER_PORT": "65536"}, "hookcast: HOOKCAST_RECEIVER_PORT: write a port from 0"),
        (
            {"HOOKCAST_API_KEYS": '[{"name": "r", "key": "0123456789abcdef", "scopes": ["read"]}]'},
            "hookcast: HOOKCAST_API_KEYS: no key has the scope events:write",
        ),
        ({"HOOKCAST_DATA_DIR": "/dev/null/data"}, "hookcast: HOOKCAST_DATA_DIR: cannot write to /dev/null/data"),
    ],
)
def test_a_setting_that_does_not_hold_is_told_in_one_line(tmp_path: Path, wrong: dict[str, str], told: str) -> None:
    """What the environment sets is checked as for `hookcast serve`, with status 2."""
    done = subprocess.run(
        COMMAND, env=settings(tmp_path) | wrong, cwd=tmp_path, capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip

    assert done.returncode == 2
    assert done.stderr.startswith(told)
    assert done.stderr.count("\n") == 1


def test_a_data_directory_in_use_is_told_in_one_line(tmp_path: Path) -> None:
    """Two demos in one checkout: the second one says so, and leaves alone what the first one watches."""
    with running(tmp_path) as demo:
        demo.says(READY)
        before = {file.name: file.read_text() for file in demo.watched.iterdir()}

        done = subprocess.run(
            COMMAND, env=settings(tmp_path), cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        after = {file.name: file.read_text() for file in demo.watched.iterdir()}

    assert done.returncode == 2
    assert after == before
    assert done.stdout == ""
    assert done.stderr.startswith("hookcast: HOOKCAST_DATA_DIR: another Hookcast server runs on ")
    assert done.stderr.count("\n") == 1


def test_an_edit_of_the_watched_directory_takes_effect(tmp_path: Path) -> None:
    """The directory that the first line names is the one that counts, and the copy ends with the run."""
    with running(tmp_path) as demo:
        demo.says(READY)
        watched = demo.watched / "orders.yaml"
        watched.write_text(watched.read_text().replace("/webhooks/orders", "/webhooks/edited"))
        _, url, *words = shlex.split(demo.says(r"^  (curl .*)$")[1])
        options = list(zip(words[::2], words[1::2], strict=True))
        headers = dict(value.split(": ", 1) for name, value in options if name == "-H")

        def edited() -> bool:
            httpx.post(url, headers=headers, content=dict(options)["-d"]).raise_for_status()
            return "webhook verified: POST /webhooks/edited" in demo.text

        until(edited)
        demo.ends(signal.SIGINT)
        assert list((tmp_path / "data").glob("samples*")) == []


def test_it_ends_when_nobody_reads_any_more(tmp_path: Path) -> None:
    """`make run | head -1`: an orderly end without a traceback."""
    with subprocess.Popen(
        COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=settings(tmp_path), cwd=tmp_path
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()

        assert process.wait(PATIENCE) == 0
        assert process.stderr.read() == b""
    assert left_over(tmp_path) == []


def test_ctrl_c_on_a_terminal(tmp_path: Path) -> None:
    """With a terminal of its own and the key itself: it ends, and the terminal shows no traceback."""
    terminal, inside = pty.openpty()
    # A session's leader gets the first terminal that it opens as its own, so that the key becomes a signal.
    script = 'exec "$@" <"$0" >"$0" 2>&1'
    process = subprocess.Popen(
        ["/bin/sh", "-c", script, os.ttyname(inside), *COMMAND],
        env=settings(tmp_path), cwd=tmp_path, start_new_session=True,
    )  # fmt: skip
    shown = b""
    while READY.encode() not in shown:
        shown += os.read(terminal, 4096)
    began = time.monotonic()

    os.write(terminal, b"\x03")

    assert process.wait(PATIENCE) == 0
    assert time.monotonic() - began < ENDS_WITHIN
    os.close(inside)
    shown += _rest(terminal)
    os.close(terminal)
    assert b"Traceback" not in shown
    assert left_over(tmp_path) == []


def _rest(terminal: int) -> bytes:
    """What is written until the other side closes (the kernel then says EIO)."""
    shown = b""
    try:
        while some := os.read(terminal, 4096):
            shown += some
    except OSError:
        pass
    return shown
