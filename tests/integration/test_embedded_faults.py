"""The embedded Redis with programs that misbehave: hang, stay silent, refuse to end, cannot be started."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from hookcast_app.redis import EmbeddedRedis
from hookcast_app.redis.binary import Binary
from hookcast_app.redis.child import Child
from hookcast_app.redis.locks import lock
from hookcast_app.redis.places import prepare_places
from hookcast_core.errors import InvalidInput
from tests.integration.standin_process import group_members

MODULE = "hookcast_app.redis.embedded"

STUBBORN = """#!/bin/sh
trap '' TERM
while :; do sleep 0.2; done
"""

# Closes the first connection unanswered, says LOADING to the second, and answers every later one.
SLOW = """#!/usr/bin/env python3
import socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[sys.argv.index("--unixsocket") + 1])
listener.listen()
for answer in (b"", b"-LOADING dataset\\r\\n", b"+PONG\\r\\n"):
    connection, _ = listener.accept()
    if answer:
        connection.recv(100)
        connection.sendall(answer)
    connection.close()

while True:
    listener.accept()
"""


def program(directory: Path, text: str) -> Binary:
    """A made-up server."""
    path = directory / "server"
    path.write_text(text)
    path.chmod(0o755)
    return Binary(path, (9, 0, 0))


async def test_a_redis_that_is_loading_is_waited_for(tmp_path: Path) -> None:
    """And told: a large data set takes its time."""
    embedded = EmbeddedRedis(tmp_path / "data", find=lambda: program(tmp_path, SLOW))

    with capture_logs() as logs:
        await embedded.start()

    assert "embedded redis is loading its data" in [line["event"] for line in logs]
    await embedded.stop()


async def test_a_redis_that_opens_no_socket_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended, by force where needed, and the directory is free again."""
    monkeypatch.setattr(f"{MODULE}.ACCEPT_SECONDS", 0.3)
    monkeypatch.setattr(f"{MODULE}.STOP_SECONDS", 0.1)
    embedded = EmbeddedRedis(tmp_path / "data", find=lambda: program(tmp_path, STUBBORN))

    with pytest.raises(InvalidInput, match="opened no socket"):
        await embedded.start()

    held = await lock(tmp_path / "data" / "redis" / "redis.lock", wait_s=5)
    assert held is not None
    os.close(held)


async def test_a_redis_that_does_not_end_is_killed(tmp_path: Path) -> None:
    """An end is bounded in time; nothing of its group is left."""
    places = prepare_places(tmp_path / "data")
    held = await lock(places.child_lock, wait_s=0)
    assert held is not None
    child = await Child.spawn(program(tmp_path, STUBBORN).path, places, held)
    os.close(held)
    async with asyncio.timeout(5):
        while b"sleep" not in b"".join(_commands(child.pid)):
            await asyncio.sleep(0.01)

    status = await child.stop(0.1)

    assert status == -signal.SIGKILL
    again = await lock(places.child_lock, wait_s=5)
    assert again is not None
    os.close(again)
    assert group_members(child.pid) == []


async def test_an_old_redis_that_does_not_end_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two servers on the same files would destroy them."""
    monkeypatch.setattr(f"{MODULE}.OLD_REDIS_SECONDS", 0.1)
    places = prepare_places(tmp_path)
    held = await lock(places.child_lock, wait_s=0)
    assert held is not None

    with pytest.raises(InvalidInput, match="of an earlier run still uses"):
        await EmbeddedRedis(tmp_path).start()

    os.close(held)


async def test_a_system_without_room_for_a_process_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And leaves no descriptor open."""

    async def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", refuse)
    before = len(list(Path("/proc/self/fd").iterdir()))

    with pytest.raises(InvalidInput, match="cannot be started: Resource temporarily unavailable"):
        await EmbeddedRedis(tmp_path).start()

    assert len(list(Path("/proc/self/fd").iterdir())) <= before


async def test_a_stop_during_the_pause_before_a_restart_is_final(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No Redis is started any more."""
    monkeypatch.setattr(f"{MODULE}.FIRST_PAUSE_SECONDS", 0.3)
    embedded = EmbeddedRedis(tmp_path)
    await embedded.start()
    ended = asyncio.Event()

    def last_words(_log: Path) -> str:
        ended.set()
        return ""

    monkeypatch.setattr(f"{MODULE}.last_words", last_words)
    supervisor = asyncio.create_task(embedded.run())
    assert embedded.pid is not None
    os.kill(embedded.pid, signal.SIGKILL)
    async with asyncio.timeout(5):
        await ended.wait()

    await embedded.stop()
    await supervisor

    assert embedded.pid is None


async def test_stopping_what_was_refused_leaves_the_other_server_alone(tmp_path: Path) -> None:
    """Its lock and its socket are not ours."""
    data = tmp_path / ("x" * 120)
    first, second = EmbeddedRedis(data), EmbeddedRedis(data)
    url = await first.start()
    with pytest.raises(InvalidInput, match="another Hookcast server"):
        await second.start()

    await second.stop()
    await second.run()

    assert Path(url.removeprefix("unix://")).is_socket()
    await first.stop()


def _commands(group: int) -> list[bytes]:
    found = []
    for pid in group_members(group):
        try:
            found.append(Path(f"/proc/{pid}/cmdline").read_bytes())
        except OSError:
            continue
    return found
