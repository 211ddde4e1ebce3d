"""The outgoing client is tested on both event loops: uvloop, which the app runs on, and asyncio's own."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
import uvloop

from hookcast_app.outgoing import HttpClient
from hookcast_core.egress import EgressPolicy
from tests.integration.outgoing.endpoint import Endpoint, Respond


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every test on each."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest_asyncio.fixture
async def serve() -> AsyncIterator[Callable[..., object]]:
    """Start endpoints on loopback that end with the test."""
    async with AsyncExitStack() as stack:

        async def start(respond: Respond, **options: object) -> Endpoint:
            return await stack.enter_async_context(Endpoint(respond, **options))  # type: ignore[arg-type]

        yield start


@pytest_asyncio.fixture
async def make_client() -> AsyncIterator[Callable[..., HttpClient]]:
    """Make clients that may reach loopback, and end with the test."""
    clients: list[HttpClient] = []

    def make(*, allow: tuple[str, ...] = ("127.0.0.0/8",), **options: object) -> HttpClient:
        clients.append(HttpClient(EgressPolicy(allow), **options))  # type: ignore[arg-type]
        return clients[-1]

    yield make
    for client in clients:
        await client.close()


@pytest.fixture
def client(make_client: Callable[..., HttpClient]) -> HttpClient:
    """Make a client with the defaults."""
    return make_client()
