"""The embedded Redis as a child process: how it is started, how it ends, and that it never outlives us."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Self

from hookcast_app.redis.places import Places

# Our direct child becomes Redis itself (exec). Before that it leaves a watcher behind, in the same process group, that
# reads from a pipe whose other end only we hold: when we are gone, however we went, the pipe closes and the watcher
# ends its own group. No process id is remembered, so no stranger who got the id later can be hit.
_WRAPPER = """
umask 077
exec 3<&0
( trap '' INT HUP; read -r _ <&3; kill -TERM 0 ) &
exec "$@" </dev/null 3<&-
"""
_ENDS = ("Fatal", "FATAL", "Can't", "Could not", "Failed", "error", "Error", "Bad file format", "Unrecoverable")


def arguments(program: Path, places: Places) -> list[str]:
    """Redis's command line: durable before each answer, nothing evicted, no TCP port, only this user's socket."""
    options = {
        "port": "0",
        "unixsocket": str(places.socket),
        "unixsocketperm": "600",
        "dir": str(places.directory),
        "logfile": str(places.log),
        "databases": "1",
        "daemonize": "no",
        "always-show-logo": "no",
        "appendonly": "yes",
        "appendfsync": "always",
        "no-appendfsync-on-rewrite": "no",
        "aof-load-truncated": "yes",
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    return [str(program), *(part for name, value in options.items() for part in (f"--{name}", value))]


class Child:
    """One run of Redis; `lifeline` is the pipe's end whose closing ends it."""

    def __init__(self, process: asyncio.subprocess.Process, lifeline: int) -> None:
        self._process = process
        self._lifeline: int | None = lifeline

    @classmethod
    async def spawn(cls, program: Path, places: Places, lock: int) -> Self:
        """Starts Redis in a session of its own (a terminal's Ctrl-C must not reach it before we have drained).

        The child takes the open file `lock` with it and holds its lock for as long as anything of it lives.
        Raises OSError.
        """
        reading, writing = os.pipe()
        try:
            with places.log.open("ab") as log:
                process = await asyncio.create_subprocess_exec(
                    "/bin/sh", "-c", _WRAPPER, "hookcast-redis", *arguments(program, places),
                    stdin=reading, stdout=log, stderr=log, start_new_session=True, pass_fds=(lock,),
                )  # fmt: skip
        except BaseException:
            os.close(writing)
            raise
        finally:
            os.close(reading)
        return cls(process, writing)

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._process.returncode

    @property
    def pid(self) -> int:
        """Redis's process id, and its process group's."""
        return self._process.pid

    async def wait(self) -> int:
        """Waits for the end and lets go of whatever Redis left behind."""
        status = await self._process.wait()
        self.release()
        return status

    async def stop(self, within_s: float) -> int:
        """Asks Redis to end, and after `within_s` makes it."""
        if self.status is None:
            self._signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(self.wait(), within_s)
        except TimeoutError:
            self._signal(signal.SIGKILL)
            return await self.wait()

    def release(self) -> None:
        """Closes the lifeline: the watcher ends, and with it the rest of the group."""
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # it ended by itself just now
            self._process.send_signal(number)


def last_words(log: Path, lines: int = 2) -> str:
    """The end of Redis's log for an error in one line: lines that tell of a failure if there are any."""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 8192))
        text = stream.read().decode("utf-8", "replace")
    said = [line.split(" # ", 1)[-1].split(" * ", 1)[-1].strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in said[-20:] if any(word in line for word in _ENDS)] or said
    return "; ".join(telling[-lines:])
