"""`hookcast migrate`: the order of its steps, so that it may be killed after any of them and run again.

At every moment at most one of the two Redis is served. The target is closed (its mark) before the first key is written
and opened as the last step of all; the source is closed (its own mark) before the first key is read and left for good
before the target is opened. An interrupted run is begun again: what it has copied was never served.
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

from hookcast_app.migration.copying import TakenOver, clear, compare, copy
from hookcast_app.migration.plan import SOURCE, TARGET, Found, Plan, may_abandon, plan, refused
from hookcast_app.migration.sides import Side, opened
from hookcast_app.redis import Keys, Mark, Phase, read_mark, swap_mark, translated, unfit_policy
from hookcast_core.errors import HookcastError, Unavailable

NOTICE_SECONDS = 2.0
"""Servers look at their Redis once a second; after so long they know that it is marked."""
DRAIN_SECONDS = 75.0
"""Longer than an attempt may take (60 s), and than the lease of a dispatcher that is gone (30 s)."""
_POLL_SECONDS = 0.2
_TOLD_SECONDS = 2.0

Say = Callable[[str], None]


async def migrate(source: str, target: str, data_dir: Path, say: Say, *, force: bool) -> None:
    """Moves everything of `source` (a URL, or `embedded` in `data_dir`) to `target` (a URL).

    `say` gets a line for each step. Raises InvalidInput (field `from`, `to` or `data_dir`) for what does not hold,
    other HookcastErrors for what went wrong; then the source is served again, or a line has said that it is closed.
    """
    async with opened(SOURCE, source, data_dir) as from_, opened(TARGET, target) as to:
        await _Migration(from_, to, say).run(force=force)


async def abandon(source: str, data_dir: Path, say: Say) -> None:
    """Gives an interrupted move up: the source is served again. Raises as `migrate`."""
    async with opened(SOURCE, source, data_dir) as side:
        found = await side.look()
        if not may_abandon(found):
            say(f"{side.shown} is not being moved")
        elif await swap_mark(side.redis, found.mark, None):
            say(f"{side.shown} is served again; servers go on refusing what was copied of it")
        else:
            raise TakenOver


class _Migration:
    """One run."""

    def __init__(self, source: Side, target: Side, say: Say) -> None:
        self._source = source
        self._target = target
        self._say = say
        self._run = secrets.token_hex(8)
        self._began_ms = time.time_ns() // 1_000_000
        self._keys = 0
        self._began = time.monotonic()
        self._said = self._began

    async def run(self, *, force: bool) -> None:
        """All of it."""
        source, target = await self._source.look(), await self._target.look()
        if plan(source, target, force=force) is Plan.NOTHING:
            self._say(f"all of {self._source.shown} was moved to {self._target.shown} already")
            return
        unfit = unfit_policy((await self._target.state()).policy)
        if unfit is not None:
            raise refused(TARGET, unfit)
        self._keys = source.keys
        filling = self._mark(Phase.FILLING, source, self._source)
        await self._claim(source, target.mark, filling, force=force)
        count = await self._leave(source, filling)
        if not await swap_mark(self._target.redis, filling, None):
            raise TakenOver
        self._say(f"moved {count:,} keys from {self._source.shown} to {self._target.shown}")
        self._say("now start the servers with HOOKCAST_REDIS_URL set to the latter; the former serves no more")

    def _mark(self, phase: Phase, found: Found, peer: Side) -> Mark:
        assert found.instance is not None, "the plan refuses a source without one"  # noqa: S101
        return Mark(phase, self._run, found.instance, self._began_ms, peer.shown)

    async def _claim(self, source: Found, before: Mark | None, filling: Mark, *, force: bool) -> None:
        """Closes the target, and looks again: a server may have used it. An earlier run cannot open it any more."""
        if not await swap_mark(self._target.redis, before, filling):
            raise TakenOver
        try:
            if await read_mark(self._source.redis) == filling:
                raise refused(TARGET, "is the very Redis that --from names")
            plan(source, (await self._target.look())._replace(mark=before), force=force)
        except HookcastError:
            await swap_mark(self._target.redis, filling, before)
            raise

    async def _leave(self, source: Found, filling: Mark) -> int:
        """Closes the source, copies it, leaves it for good; the number of keys. If that fails it is opened again."""
        draining, copying, moved = (
            self._mark(phase, source, self._target) for phase in (Phase.DRAINING, Phase.COPYING, Phase.MOVED)
        )
        try:
            await self._step(source.mark, draining)
            await self._drain()
            await self._step(draining, copying)
            await clear(self._target.redis, filling, self._progress)
            count = await copy(self._source.redis, self._target.redis, filling, self._progress)
            await compare(self._source.redis, self._target.redis, self._progress)
            await self._step(copying, moved)
        except BaseException:
            await self._reopen(source.mark)
            raise
        return count

    async def _step(self, before: Mark | None, after: Mark) -> None:
        if not await swap_mark(self._source.redis, before, after):
            raise TakenOver

    async def _drain(self) -> None:
        """Nothing is accepted any more; waits until what is in flight has ended and every lane was given back."""
        self._say(f"{self._source.shown} takes no more events; waiting for the attempts that are under way")
        await asyncio.sleep(NOTICE_SECONDS)
        deadline = time.monotonic() + DRAIN_SECONDS
        while leased := await self._leased():
            if time.monotonic() > deadline:
                self._say(f"{leased:,} subscriptions still have attempts under way; those will be made again")
                return
            await asyncio.sleep(_POLL_SECONDS)

    async def _leased(self) -> int:
        keys = Keys()
        with translated("be asked for its leases"):
            lanes = cast("list[bytes]", await self._source.redis.zrange(keys.ring, 0, -1))
            leases = [keys.lane(uid.decode(), "lease") for uid in lanes]
            return int(await self._source.redis.exists(*leases)) if leases else 0

    async def _reopen(self, before: Mark | None) -> None:
        """After a failure: servers go on with the source, unless it was left, or is another run's by now."""
        try:
            mark = await read_mark(self._source.redis)
            if mark is None or mark.run != self._run:
                return
            earlier = before if before is not None and before.phase is Phase.MOVED else None
            if mark.phase is not Phase.MOVED and await swap_mark(self._source.redis, mark, earlier):
                self._say(f"{self._source.shown} is as it was; what was copied is refused by servers")
                return
        except Unavailable:
            pass
        self._say(f"{self._source.shown} is still closed: run the same command again, or with --abandon")

    def _progress(self, what: str, keys: int) -> None:
        now = time.monotonic()
        if now - self._said >= _TOLD_SECONDS:
            self._said = now
            self._say(f"{keys:,} of some {self._keys:,} keys {what} ({now - self._began:.0f} s)")
