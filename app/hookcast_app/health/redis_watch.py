"""Watches Redis: reachable and writable, fit for us, and still the one that we knew."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog
from redis.asyncio import Redis

from hookcast_app.redis import Keys, Mark, Seen, ServerState, claim_instance, probe, unfit_policy
from hookcast_core.errors import Unavailable

BEAT_SECONDS = 1.0
PATIENCE_SECONDS = 15.0
"""A blip must not empty a Service of its pods; requests meanwhile get 503 with Retry-After."""

_HOME = Keys()
_log = structlog.get_logger("hookcast.redis")


async def _nobody(_instance: str) -> None:
    """Hears nothing."""


class RedisWatch:
    """Lives as long as the app; `run()` is its one task, `check` its readiness.

    `on_empty` writes again what must not be missing. It is called when the instance key is gone or another: Redis came
    back empty or was flushed. Until it has returned, the process is unready; if it raises Unavailable
    it is called again, and at last `on_emptied` with the new instance's id, which is the same in every process.
    `emptied` counts how often that happened. `on_mark` is told at each look whether Redis is marked as being moved
    (redis/moving.py). `on_restart` hears that another process answers than before: Redis was started again, or a
    replica was promoted, and may lack the latest writes.
    `used_memory` and `max_memory` are Redis' as it last said, in bytes; 0 before, and where there is no limit.
    """

    def __init__(
        self,
        redis: Redis,
        state: ServerState,
        *,
        on_empty: Callable[[], Awaitable[None]],
        on_emptied: Callable[[str], Awaitable[None]] = _nobody,
        on_latency: Callable[[float], None] = lambda _seconds: None,
        on_mark: Callable[[bool], None] = lambda _is_marked: None,
        on_restart: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        keys: Keys = _HOME,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._instance = state.instance
        self._policy = state.policy
        self._on_empty = on_empty
        self._on_emptied = on_emptied
        self.emptied = 0
        self._on_latency = on_latency
        self._on_mark = on_mark
        self._on_restart = on_restart
        self._run_id: str | None = None
        self._mark: Mark | None = None
        self._note_mark(state.mark)
        self._clock = clock
        self.used_memory = self.max_memory = 0
        self._answered = clock()
        self._trouble: str | None = None
        self._is_empty = False

    def check(self) -> str | None:
        """Why Redis keeps this process unready, or None."""
        if self._is_empty:
            return "Redis came back empty; writing again what must not be missing"
        if self._mark is not None:
            return self._mark.reason()
        if self._trouble and self._clock() - self._answered > PATIENCE_SECONDS:
            return self._trouble
        return unfit_policy(self._policy)

    async def run(self, beat: float = BEAT_SECONDS) -> None:
        """Looks every `beat` seconds until it is cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(beat)

    async def look(self) -> None:
        """One look; never raises for a Redis that cannot answer."""
        started = self._clock()
        try:
            seen = await probe(self._redis, self._keys)
            self._answered = self._clock()
            self._on_latency(self._answered - started)
            self._policy = seen.policy
            self.used_memory, self.max_memory = seen.used_memory, seen.max_memory
            self._follow(seen)
            if seen.mark is None and seen.instance != self._instance:
                await self._restore()
        except Unavailable as error:
            self._note(error.detail)
        else:
            self._note(None)

    def _follow(self, seen: Seen) -> None:
        if self._mark is not None and seen.mark is None:
            self._instance = seen.instance or self._instance  # if it was filled, it holds the data of another now
        self._note_mark(seen.mark)
        self._on_mark(seen.mark is not None)
        if self._run_id not in {None, seen.run_id}:
            self._on_restart()
        self._run_id = seen.run_id

    def _note_mark(self, mark: Mark | None) -> None:
        if mark is not None and mark != self._mark:
            _log.warning("redis is being moved, or was", reason=mark.reason())
        if mark is None and self._mark is not None:
            _log.info("redis is no longer being moved")
        self._mark = mark

    async def _restore(self) -> None:
        if not self._is_empty:
            _log.error("redis came back empty: accepted events that were not yet delivered are lost")
        self._is_empty = True
        await self._on_empty()
        instance = await claim_instance(self._redis, self._keys)
        await self._on_emptied(instance)
        self._instance = instance
        self.emptied += 1
        self._is_empty = False

    def _note(self, trouble: str | None) -> None:
        if trouble and not self._trouble:
            _log.warning("redis does not answer", reason=trouble)
        if self._trouble and not trouble:
            _log.info("redis answers again")
        self._trouble = trouble


class RedisWatches:
    """One for each server behind our URL, as far as we know: of a cluster one for each partition."""

    def __init__(self) -> None:
        self.each: dict[int, RedisWatch] = {}
        """By the hash tag of the partition that is looked at."""

    def check(self) -> str | None:
        """Why Redis keeps this process unready, or None."""
        return next((why for watch in self.each.values() if (why := watch.check()) is not None), None)

    @property
    def emptied(self) -> int:
        """How often one came back empty."""
        return sum(watch.emptied for watch in self.each.values())

    @property
    def fullest(self) -> tuple[int, int]:
        """(used, most) memory in bytes of the one that is the fullest; the most is 0 where there is no limit."""
        each = [(watch.used_memory, watch.max_memory) for watch in self.each.values()]
        return max(each, key=lambda one: (one[0] / one[1] if one[1] else 0, one[0]), default=(0, 0))
