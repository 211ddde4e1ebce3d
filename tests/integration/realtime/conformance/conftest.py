"""One list of tests for every server: Hookcast itself, or another one that the environment names."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio
import uvloop

from tests.integration.realtime.conformance.browser import COOKIE, Scene, named, pages
from tests.integration.realtime.conformance.target import OUTSIDE, Target, ours, outside
from tests.support.browser import find, running
from tests.support.npm import install

collect_ignore_glob = ["test_conformance_browser*"] if OUTSIDE or find() is None else []
"""What cannot be tried is not counted, and `make test` says so; another server's settings name no page of ours."""


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """What the app runs on is enough here: neighbouring tests run on both."""
    return {"uvloop": uvloop.new_event_loop}


if OUTSIDE:

    @pytest_asyncio.fixture(name="target")
    async def outside_target() -> AsyncIterator[Target]:
        """The server that the environment names."""
        async with outside() as server:
            yield server

else:

    @pytest_asyncio.fixture(name="target")
    async def own_target(redis_url: str) -> AsyncIterator[Target]:
        """A Hookcast of the test's own."""
        async with ours(redis_url) as server:
            yield server


@pytest.fixture(scope="session")
def node_tests() -> Path:
    """The directory of the npm client and its drivers, with the locked packages installed."""
    return install()


@pytest.fixture(scope="session")
def browser() -> Iterator[str]:
    """One for all tests: each page has cookies and connections of its own."""
    with running() as devtools:
        yield devtools


@pytest_asyncio.fixture
async def page_url(node_tests: Path) -> AsyncIterator[str]:
    """Where the page is, under any name."""
    async with pages(node_tests) as url:
        yield url


@pytest.fixture
def allowed(page_url: str) -> tuple[str, ...]:
    """The origins that the settings allow."""
    return (named("app", page_url),)


@pytest_asyncio.fixture
async def scene(redis_url: str, page_url: str, allowed: tuple[str, ...]) -> AsyncIterator[Scene]:
    """A Hookcast of the test's own that names one of the two pages."""
    async with ours(redis_url, allowed_origins=allowed, jwt_cookie=COOKIE) as server:
        yield Scene(server, named("api", server.http_url), named("app", page_url), named("other", page_url))
