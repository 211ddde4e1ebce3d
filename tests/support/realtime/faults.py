"""What goes wrong with clients, with the processes that they are connected to, and with Redis' pub/sub."""

import asyncio
import random
from collections.abc import Sequence

from hookcast_app.redis import create_redis
from tests.support.chaos.faults import frozen
from tests.support.realtime.deployment import Deployment
from tests.support.realtime.follower import Follower
from tests.support.realtime.publishing import Publisher

_LIMIT = "client-output-buffer-limit"
_USUAL = "pubsub 33554432 8388608 60"


class ClientFaults:
    """Networks that fail."""

    def __init__(self, followers: Sequence[Follower]) -> None:
        self._followers = followers

    async def cut_a_client(self) -> None:
        random.choice(self._followers).cut()  # noqa: S311

    async def cut_many_clients(self) -> None:
        for follower in random.sample(self._followers, len(self._followers) // 3):
            follower.cut()


class AppFaults:
    """Processes that die or stand still."""

    def __init__(self, deployment: Deployment) -> None:
        self._apps = deployment.apps

    async def kill_an_app(self) -> None:
        app = random.choice(self._apps)  # noqa: S311
        app.kill()
        app.start()

    async def freeze_an_app(self) -> None:
        app = random.choice(self._apps)  # noqa: S311
        await frozen(app.process.send_signal, random.uniform(0.5, 4))  # noqa: S311


class PubSubFaults:
    """Connections on which publications come to processes, and that Redis ends."""

    def __init__(self, redis_url: str, publisher: Publisher, channels: Sequence[str]) -> None:
        self._url = redis_url
        self._publisher = publisher
        self._channels = channels

    async def cut_pubsub(self) -> None:
        async with create_redis(self._url) as redis:
            await redis.client_kill_filter(_type="pubsub")

    async def burst(self) -> None:
        """More on one channel than is kept of some."""
        await self._publisher.burst(random.choice(self._channels))  # noqa: S311

    async def choke_pubsub(self) -> None:
        """Redis gives up on whoever has so little to come that a burst is too much."""
        async with create_redis(self._url) as redis:
            await redis.config_set(_LIMIT, "pubsub 2048 0 0")
            try:
                for _ in range(3):
                    await self.burst()
                    await asyncio.sleep(random.uniform(0, 0.2))  # noqa: S311
            finally:
                await redis.config_set(_LIMIT, _USUAL)

    async def cut_in_a_burst(self) -> None:
        """While publications come one after the other."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.burst())
            for _ in range(3):
                await asyncio.sleep(random.uniform(0, 0.05))  # noqa: S311
                await self.cut_pubsub()
