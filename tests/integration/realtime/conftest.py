"""Everything here runs on uvloop, which the app runs on, and on asyncio's own loop."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import pytest_asyncio
import uvloop

from tests.integration.realtime.server import Server, serving
from tests.support.valkey import running_valkey


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every test on each."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest_asyncio.fixture
async def redis_url() -> AsyncIterator[str]:
    """A Redis of the test's own."""
    async with running_valkey() as url:
        yield url


@pytest.fixture(params=[True, False], ids=["raw", "asgi"])
def raw(request: pytest.FixtureRequest) -> bool:
    """Whether the server offers the raw write."""
    return bool(request.param)


@pytest_asyncio.fixture
async def server(redis_url: str, raw: bool) -> AsyncIterator[Server]:  # noqa: FBT001  a fixture
    """A server with the settings of the tests, by either way of writing."""
    async with serving(redis_url, raw=raw) as running:
        yield running
