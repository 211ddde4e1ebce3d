"""The realtime part's ways without a library, over a Redis Cluster and through the whole app."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import jwt
import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.support.app import eventually, running_app, settings_for
from tests.support.redis_cluster import RedisCluster, running_redis_cluster

SECRET = "a-secret-of-the-tests-of-32-bytes!"
PATIENCE = 15.0
NAMESPACES: dict[str, Any] = {
    "ws": {"subscribe": "anyone", "publish": "subscribers", "presence": True},
    "kept": {"subscribe": "anyone", "history_size": 10},
}


@pytest.fixture
async def cluster() -> AsyncIterator[RedisCluster]:
    """Three masters and their replicas."""
    async with running_redis_cluster() as running:
        yield running


async def told(client: ClientConnection, kind: str) -> Any:
    """The next message of a kind."""
    async with asyncio.timeout(PATIENCE):
        while (message := json.loads(await client.recv()))["type"] != kind:
            pass
    return message


@pytest.mark.timeout(120)
async def test_client_ids_and_histories_are_spread_over_masters(cluster: RedisCluster, tmp_path: Path) -> None:
    """Direct messages find whoever holds an id, whichever master knows of it, from either process; polls go on."""
    settings = settings_for(cluster.url, tmp_path, channel_namespaces=NAMESPACES)
    async with running_app(settings) as one, running_app(settings) as two, AsyncExitStack() as stack:
        clients = []
        for number in range(24):
            url = (one, two)[number % 2].url.replace("http", "ws")
            token = jwt.encode({"sub": f"user-{number}"}, SECRET, "HS256")
            client = await stack.enter_async_context(connect(f"{url}/ws/c{number}?token={token}", ping_interval=None))
            await told(client, "welcome")
            clients.append(client)
        assert all(await claims(cluster))
        for number, client in enumerate(clients):
            await client.send(json.dumps({"type": "direct", "to": f"c{(number + 1) % 24}", "data": number}))
        for number, client in enumerate(clients):
            direct = await told(client, "direct")
            sender = (number - 1) % 24
            assert direct == {"type": "direct", "from": f"c{sender}", "user": f"user-{sender}", "data": sender}

        for name in "abcdef":
            path = f"/api/v1/channels/kept:{name}/messages"
            position = (await one.client.get(path)).json()["position"]
            waiting = asyncio.create_task(one.client.get(path, params={"after": position, "wait": 10}))
            await two.publish(channel=f"kept:{name}", data=name)
            (message,) = (await waiting).json()["messages"]
            assert message["data"]["data"] == name
    await eventually(lambda: nothing_is_claimed(cluster))


async def claims(cluster: RedisCluster) -> list[int]:
    """How many client ids each master knows to be held."""
    counts = []
    for node in range(3):
        async with cluster.client(node) as client:
            counts.append(len([key async for key in client.scan_iter(match="*:claim:*")]))
    return counts


async def nothing_is_claimed(cluster: RedisCluster) -> bool:
    """Whether no client id is held any more."""
    return await claims(cluster) == [0, 0, 0]
