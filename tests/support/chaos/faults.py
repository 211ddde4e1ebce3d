"""What goes wrong with dispatchers and with Redis, at random, one after the other."""

import asyncio
import random
import signal
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from hookcast_app.redis import create_redis
from tests.support.chaos.deployment import lease_lost
from tests.support.durable import DurableRedis
from tests.support.failover import ReplicatedRedis
from tests.support.serving import Serving

BEYOND_A_LEASE_SECONDS = 35.0
"""Leases last 30 s."""
NOTICED_SECONDS = 20.0
"""So long it is waited for a dispatcher that was frozen so to drop something."""
BEYOND_TIME_OUTS_SECONDS = 7.0
"""Clients of Redis wait for 5 s."""
LONG_SECONDS = 120.0
"""In runs of this length a dispatcher is frozen for longer than its lease."""

Fault = Callable[[], Awaitable[None]]


async def make(
    faults: Sequence[Fault],
    seconds: float,
    made: Counter[str],
    *,
    first: Sequence[Fault] = (),
    beside: Fault | None = None,
    chance: random.Random | None = None,
) -> None:
    """The `first` ones and then any of `faults`, one after the other for so long, each counted in `made` by its name.

    `beside` is made beside them, again and again with pauses.
    """
    chance = chance or random.Random()  # noqa: S311  any moment will do
    pending = deque(first)
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds

    async def make_beside() -> None:
        while beside is not None and loop.time() < end:
            await asyncio.sleep(chance.uniform(5, 30))
            await _counted(beside, made)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(make_beside(), name="faults beside the others")
        while loop.time() < end or pending:
            await asyncio.sleep(chance.uniform(0.5, 2))
            await _counted(pending.popleft() if pending else chance.choice(faults), made)


async def _counted(fault: Fault, made: Counter[str]) -> None:
    await fault()
    made[fault.__name__] += 1


class DispatcherFaults:
    """Kills and freezes; of all dispatchers at least one is left to others while one is frozen for long."""

    def __init__(self, dispatchers: Sequence[Serving]) -> None:
        self._free = list(dispatchers)
        self.lease_lost = 0
        """Results that dispatchers dropped after they had been frozen for longer than their leases."""

    async def kill_a_dispatcher(self) -> None:
        async with self._taken() as dispatcher:
            dispatcher.kill()
            dispatcher.start()

    async def freeze_a_dispatcher(self) -> None:
        async with self._taken() as dispatcher:
            await frozen(dispatcher.process.send_signal, 1)

    async def freeze_beyond_the_lease(self) -> None:
        """What it had under way then ends too late: it must drop the results, and say so."""
        async with self._taken() as dispatcher:
            await dispatcher.ready(within=120)
            before = await lease_lost(dispatcher)
            await frozen(dispatcher.process.send_signal, BEYOND_A_LEASE_SECONDS)
            end = time.monotonic() + NOTICED_SECONDS
            while (lost := await lease_lost(dispatcher) - before) == 0 and time.monotonic() < end:
                await asyncio.sleep(0.2)  # there is nothing to drop where it had nothing under way
            self.lease_lost += lost

    @asynccontextmanager
    async def _taken(self) -> AsyncIterator[Serving]:
        dispatcher = random.choice(self._free)  # noqa: S311  any will do
        self._free.remove(dispatcher)
        try:
            yield dispatcher
        finally:
            self._free.append(dispatcher)


async def frozen(send: Callable[[signal.Signals], None], seconds: float) -> None:
    """A process, by what sends signals to it, stopped for so long."""
    send(signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        send(signal.SIGCONT)


class RedisFaults:
    """Of a Redis that keeps on disk what it acknowledged."""

    def __init__(self, redis: DurableRedis) -> None:
        self._redis = redis

    async def kill_redis(self) -> None:
        self._redis.signal(signal.SIGKILL)
        await asyncio.sleep(random.uniform(0, 1))  # noqa: S311  any moment will do
        await self._redis.start()

    async def freeze_redis(self) -> None:
        await frozen(self._redis.signal, 1)

    async def freeze_redis_beyond_time_outs(self) -> None:
        """For longer than its clients wait: they do not know then what became of what they wrote."""
        await frozen(self._redis.signal, BEYOND_TIME_OUTS_SECONDS)

    async def pause_redis(self) -> None:
        await _pause(self._redis.url)


class FailOverFaults:
    """Of a master with a replica."""

    def __init__(self, redis: ReplicatedRedis) -> None:
        self._redis = redis
        self.at: list[float] = []
        """The loop's time at which each new master was there."""

    async def fail_over(self) -> None:
        """To a replica that is in step, or nearly."""
        await self._redis.promote()
        self.at.append(asyncio.get_running_loop().time())
        await asyncio.sleep(random.uniform(0, 1))  # noqa: S311  any moment will do
        await self._redis.attach()

    async def fail_over_to_one_that_lags(self) -> None:
        """Half a second's writes never reach the replica, and clients come back on new connections meanwhile."""
        await self._redis.detach()
        await asyncio.sleep(0.25)
        await self.cut_connections()
        await asyncio.sleep(0.25)
        await self.fail_over()

    async def cut_connections(self) -> None:
        client = create_redis(self._redis.url)
        await client.client_kill_filter(_type="normal", skipme=True)
        await client.aclose()

    async def freeze_the_replica(self) -> None:
        await frozen(self._redis.replica.signal, 1)

    async def freeze_the_master(self) -> None:
        await frozen(self._redis.master.signal, 1)

    async def pause_the_master(self) -> None:
        await _pause(self._redis.url)


async def _pause(url: str) -> None:
    client = create_redis(url)
    await client.client_pause(500)
    await client.aclose()
