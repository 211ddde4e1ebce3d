"""The embedded Redis: started with the app on a private unix socket, kept alive, stopped with it."""

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import structlog

from hookcast_app.data_dir import unusable
from hookcast_app.redis.binary import Binary, find_binary
from hookcast_app.redis.child import Child, last_words
from hookcast_app.redis.locks import lock
from hookcast_app.redis.places import Places, prepare_places
from hookcast_core.errors import HookcastError, InvalidInput, Reason

OLD_REDIS_SECONDS = 10.0
"""How long a new start waits for the Redis of a killed process to be gone."""
ACCEPT_SECONDS = 10.0
"""How long Redis may take to open its socket; loading its data afterwards may take as long as it takes."""
STOP_SECONDS = 10.0
MAX_FAILURES = 5
FAILURE_WINDOW_SECONDS = 60.0
"""More than so many ends within so many seconds: starting it again does not help."""
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
_POLL_SECONDS = 0.02

_log = structlog.get_logger("hookcast.redis")


class RedisDied(HookcastError):  # noqa: N818  it says what happened
    """The embedded Redis ended and cannot be kept running; the message has its last words."""


class EmbeddedRedis:
    """Owns the data directory and a Redis in it, from `start` to `stop`; `run` is the task that keeps it alive."""

    def __init__(
        self,
        data_dir: Path,
        *,
        find: Callable[[], Binary] = find_binary,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._data_dir = data_dir
        self._find = find
        self._clock = clock
        self._places: Places | None = None
        self._program: Binary | None = None
        self._app_lock: int | None = None
        self._child: Child | None = None
        self._is_stopping = False

    @property
    def pid(self) -> int | None:
        """The process id of Redis, while there is one."""
        return self._child.pid if self._child else None

    async def start(self) -> str:
        """Starts Redis, waits until it has loaded its data, and returns its `unix://` URL.

        Raises InvalidInput: no fit program (RedisNotFound), a directory that cannot be used (DataDirUnusable) or that
        another server uses (DataDirInUse), data that Redis cannot load (RedisUnfit, with its last words).
        """
        self._program = await asyncio.to_thread(self._find)
        self._places = await asyncio.to_thread(prepare_places, self._data_dir)
        self._app_lock = await self._own(self._places)
        try:
            await self._launch()
        except RedisDied as error:
            await self.stop()
            raise InvalidInput(Reason.REDIS_UNFIT, "data_dir", str(error)) from error
        except BaseException:
            await self.stop()
            raise
        _log.info("embedded redis started", program=str(self._program.path), directory=str(self._places.directory))
        return f"unix://{self._places.socket}"

    async def run(self) -> None:
        """Starts Redis again whenever it ends, until `stop`. Raises RedisDied when that does not help."""
        ends: deque[float] = deque(maxlen=MAX_FAILURES + 1)
        while self._child is not None:
            status = await self._child.wait()
            if self._is_stopping:
                return
            ends.append(self._clock())
            _log.warning("embedded redis ended and is started again", status=status, last_words=self._last_words())
            await self._relaunch(ends)

    async def stop(self) -> None:
        """Ends Redis after what it accepted is on disk, and gives the data directory free. Bounded in time."""
        self._is_stopping = True
        if self._child is not None:
            await self._child.stop(STOP_SECONDS)
            self._child = None
        if self._app_lock is None or self._places is None:
            return  # nothing here is ours: perhaps another server's
        if self._places.socket.parent != self._places.directory:
            await asyncio.to_thread(_remove_socket, self._places.socket)
        os.close(self._app_lock)
        self._app_lock = None

    async def _relaunch(self, ends: deque[float]) -> None:
        while True:
            if len(ends) > MAX_FAILURES and ends[-1] - ends[0] < FAILURE_WINDOW_SECONDS:
                raise RedisDied(f"the embedded Redis ended {len(ends)} times within a minute: {self._last_words()}")
            await asyncio.sleep(min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (len(ends) - 1)))
            if self._is_stopping:
                return
            try:
                await self._launch()
            except RedisDied as error:
                ends.append(self._clock())
                _log.warning("embedded redis could not be started again", reason=str(error))
            else:
                return

    async def _own(self, places: Places) -> int:
        try:
            held = await lock(places.app_lock, wait_s=0)
        except OSError as error:
            raise unusable(places.app_lock, error) from error
        if held is None:
            raise InvalidInput(
                Reason.DATA_DIR_IN_USE,
                "data_dir",
                f"another Hookcast server runs on {places.app_lock.parent}; stop it, or name another directory",
            )
        return held

    async def _launch(self) -> None:
        """Starts one child and waits until it answers. Raises RedisDied; then nothing of it is left running."""
        assert self._places is not None  # noqa: S101  set by start
        assert self._program is not None  # noqa: S101  set by start
        held = await lock(self._places.child_lock, wait_s=OLD_REDIS_SECONDS)
        if held is None:
            raise RedisDied(f"a Redis of an earlier run still uses {self._places.directory} and does not end")
        try:
            self._child = await Child.spawn(self._program.path, self._places, held)
        except OSError as error:
            raise RedisDied(f"{self._program.path} cannot be started: {error.strerror}") from error
        finally:
            os.close(held)  # from here on the child alone holds the lock
        await self._ready(self._child, self._places)

    async def _ready(self, child: Child, places: Places) -> None:
        """Tells "loading" from "dead": a Redis that answers anything may load for as long as it likes."""
        deadline = self._clock() + ACCEPT_SECONDS
        has_answered = False
        while True:
            if child.status is not None:
                await child.wait()
                raise RedisDied(f"the embedded Redis ended at once (status {child.status}): {self._last_words()}")
            answer = await _ping(places.socket)
            if answer == b"+PONG":
                return
            if answer is not None and not has_answered:
                has_answered = True
                _log.info("embedded redis is loading its data")
            if not has_answered and self._clock() > deadline:
                await child.stop(STOP_SECONDS)
                raise RedisDied(f"the embedded Redis opened no socket within {ACCEPT_SECONDS:.0f} s")
            await asyncio.sleep(_POLL_SECONDS)

    def _last_words(self) -> str:
        return last_words(self._places.log) if self._places else ""


async def _ping(socket: Path) -> bytes | None:
    """The line that Redis answers a PING with (an inline command), or None if nobody answers."""
    try:
        reader, writer = await asyncio.open_unix_connection(socket)
    except OSError:
        return None
    try:
        writer.write(b"PING\r\n")
        return (await asyncio.wait_for(reader.readline(), ACCEPT_SECONDS)).strip() or None
    except (OSError, TimeoutError):
        return None
    finally:
        writer.close()


def _remove_socket(socket: Path) -> None:
    """Removes the short directory that a long data directory needed."""
    socket.unlink(missing_ok=True)
    socket.parent.rmdir()
