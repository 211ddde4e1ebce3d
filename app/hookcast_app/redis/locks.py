"""Locks on files of the data directory (flock): the kernel gives them back whatever becomes of their holder."""

import asyncio
import fcntl
import os
import time
from pathlib import Path

_PAUSE_SECONDS = 0.02
_ABOVE_SHELL = 10
"""Descriptors below are what a shell script may redirect; an inherited lock must not be one of them."""


async def lock(path: Path, *, wait_s: float) -> int | None:
    """Takes the lock within `wait_s` and returns the file descriptor that holds it, or None if another has it.

    The lock is free when every copy of the descriptor is closed, those of child processes too. The descriptor is not
    inherited unless it is passed on explicitly. Raises OSError for a file that cannot be opened.
    """
    descriptor = _open(path)
    deadline = time.monotonic() + wait_s
    try:
        while not _taken(descriptor):
            if time.monotonic() >= deadline:
                os.close(descriptor)
                return None
            await asyncio.sleep(_PAUSE_SECONDS)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _open(path: Path) -> int:
    low = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        return fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, _ABOVE_SHELL)
    finally:
        os.close(low)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
