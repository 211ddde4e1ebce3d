"""Ports for servers that tests start, which nothing else on the machine gets meanwhile."""

import fcntl
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

_LOCKS = Path(tempfile.gettempdir()) / "hookcast-test-ports"
_BLOCK = 100
_BLOCKS = range(10_000, 30_000, _BLOCK)
"""Below the ports that systems choose for whoever asks for any."""
_held: list[TextIO] = []


def free_port() -> int:
    """A port of the loopback interface that is free, and that no other test is given, in this process or another."""
    return next(_ports)


def _each() -> Iterator[int]:
    """Blocks of ports are locked for as long as this process lives, and each port is given once."""
    for first in _BLOCKS:
        if _lock(first):
            yield from filter(_is_free, range(first, first + _BLOCK))
    raise RuntimeError(f"the ports {_BLOCKS.start} to {_BLOCKS.stop} are all taken by other tests")


def _lock(first: int) -> bool:
    _LOCKS.mkdir(exist_ok=True)
    file = (_LOCKS / str(first)).open("w", encoding="ascii")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return False
    _held.append(file)
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


_ports = _each()
