"""Where the embedded Redis keeps its files, and where its socket is."""

import hashlib
import os
import stat
import tempfile
from pathlib import Path
from typing import NamedTuple

from hookcast_app.data_dir import prepare, unusable
from hookcast_core.errors import InvalidInput, Reason

MAX_SOCKET_PATH = 100
"""Bytes. The system's limit for a unix socket's path is 104 to 108."""
LOG_BYTES = 1_048_576
"""A log file larger than this is set aside at the next start."""


class Places(NamedTuple):
    """Absolute paths; `app_lock` is held by us, `child_lock` by Redis and whatever it started."""

    directory: Path
    socket: Path
    log: Path
    app_lock: Path
    child_lock: Path


def prepare_places(data_dir: Path) -> Places:
    """Makes what is missing, private to this user. Raises InvalidInput (DataDirUnusable, field `data_dir`)."""
    root = prepare(data_dir)
    directory = root / "redis"
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        log = directory / "redis.log"
        if log.exists() and log.stat().st_size > LOG_BYTES:
            log.replace(directory / "redis.log.1")
        log.touch(mode=0o600)
        socket = _socket_directory(directory) / "redis.sock"
    except OSError as error:
        raise unusable(directory, error) from error
    return Places(directory, socket, log, root / "hookcast.lock", directory / "redis.lock")


def _socket_directory(directory: Path) -> Path:
    """The directory itself or, where its path is too long for a socket, a short one derived from it."""
    if len(os.fsencode(directory / "redis.sock")) <= MAX_SOCKET_PATH:
        return directory
    name = f"hookcast-{os.getuid()}-{hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]}"
    place = Path(tempfile.gettempdir()) / name
    if len(os.fsencode(place / "redis.sock")) > MAX_SOCKET_PATH:
        place = Path("/tmp") / name  # noqa: S108  made private and checked to be ours below
    place.mkdir(mode=0o700, exist_ok=True)
    _check_private(place)
    return place


def _check_private(place: Path) -> None:
    """Anybody can make this name first in a shared directory; then it is not ours to use."""
    found = place.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise InvalidInput(
            Reason.DATA_DIR_UNUSABLE, "data_dir", f"is too long for a socket, and {place} belongs to somebody else"
        )
