"""What many integration tests share: a real Valkey and a real receiver."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from hookcast_app.delivery.store import LaneStore
from hookcast_app.redis import create_redis
from tests.support.lanes import Publish, lane_store, publisher
from tests.support.receiver import Receiver, running_receiver
from tests.support.valkey import running_valkey


@pytest.fixture
async def redis_url() -> AsyncIterator[str]:
    """An empty Valkey."""
    async with running_valkey() as url:
        yield url


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """The app's own client to it."""
    client = create_redis(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
def store(redis: Redis) -> LaneStore:
    """One dispatcher's lanes."""
    return lane_store(redis)


@pytest.fixture
def publish(redis: Redis) -> Publish:
    """Publishes to its lanes."""
    return publisher(redis)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """An HTTP server that remembers what it gets."""
    async with running_receiver() as running:
        yield running
