"""Some processes of the app over one Redis, for clients that come to any of them."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt

from tests.support.realtime.ledger import Place
from tests.support.serving import Serving, serving

API_KEY = "key-of-the-chaos-0123456789"
_SECRET = "a-secret-of-the-tests-of-32-bytes!"
KEPT, KEPT_OF_SHORT = 1_000, 10
"""Publications that are kept of most channels, and of those whose name begins with `short:`."""
_CHANNEL: dict[str, Any] = {"subscribe": "anyone", "recover": True}
_SETTINGS = {
    "API_KEYS": json.dumps([{"name": "chaos", "key": API_KEY, "scopes": ["admin"]}]),
    "CHANNEL_NAMESPACES": json.dumps(
        {"": {**_CHANNEL, "history_size": KEPT}, "short": {**_CHANNEL, "history_size": KEPT_OF_SHORT}}
    ),
    "ENCRYPTION_KEYS": "MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA=",
    "JWT_SECRET": _SECRET,
    "REALTIME_ANONYMOUS": "true",
    "DRAIN_DELAY": "0",
    "DRAIN": "1",
    "CONNECTS_PER_SECOND": "0",
}


def kept(channel: str) -> int:
    """How many publications of a channel are kept."""
    return KEPT_OF_SHORT if channel.startswith("short:") else KEPT


def connection_token(user: str, channels: Sequence[str]) -> str:
    """A connection token that subscribes whoever has it to channels."""
    return jwt.encode({"sub": user, "subs": {channel: {} for channel in channels}}, _SECRET, "HS256")


class Deployment:
    """The processes, all alike."""

    def __init__(self, apps: Sequence[Serving]) -> None:
        self.apps = apps

    async def start(self) -> None:
        """Starts all and waits until they are ready."""
        for app in self.apps:
            app.start()
        await self.ready()

    async def ready(self) -> None:
        """Waits until all are ready."""
        for app in self.apps:
            await app.ready(within=90)

    def any_port(self) -> int:
        """Of one of them, as a load balancer would choose it; it may be down."""
        return random.choice(self.apps).port  # noqa: S311  any will do

    async def history(self, channel: str) -> tuple[Place, list[tuple[Place, Any]]]:
        """Where a channel stands, and what is kept of it."""
        async with httpx.AsyncClient(base_url=self.apps[0].url, headers={"X-API-Key": API_KEY}, timeout=60) as client:
            answer = (await client.post("/api/history", json={"channel": channel, "limit": -1})).json()["result"]
        epoch = answer["epoch"]
        kept_ = [(Place(epoch, each["offset"]), each["data"]) for each in answer["publications"]]
        return Place(epoch, answer["offset"]), kept_

    async def stop(self) -> None:
        """Stops all in an orderly way. None may have ended by itself."""
        for app in self.apps:
            assert app.process.poll() is None, app.log.read_text()[-5_000:]
            assert await asyncio.to_thread(app.stop) == 0, app.log.read_text()[-5_000:]


@asynccontextmanager
async def deployed(directory: Path, redis_url: str, count: int) -> AsyncIterator[Deployment]:
    """A deployment that is ready."""
    with ExitStack() as stack:
        apps = []
        for number in range(count):
            (directory / f"app{number}").mkdir()
            apps.append(stack.enter_context(serving(directory / f"app{number}", **_SETTINGS, REDIS_URL=redis_url)))
        deployment = Deployment(apps)
        await deployment.start()
        yield deployment
