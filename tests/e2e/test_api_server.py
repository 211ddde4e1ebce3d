"""A real API server does what the operator relies on, and what its stand-in in other tests does."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest

from hookcast_operator.api import Api, log_in
from tests.e2e.cluster import run
from tests.support.kubernetes_contract import CASES, Case

pytestmark = pytest.mark.usefixtures("release")  # which brings the definitions


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with Api(log_in(), lambda _verb, _code: None) as running:
        yield running
    await asyncio.sleep(0.25)  # aiohttp ends TLS connections that were cut short a moment after their session


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"contract-{uuid4().hex[:8]}"
    run("kubectl", "create", "namespace", name)
    yield name
    run("kubectl", "delete", "namespace", name, "--wait=false")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__.removeprefix("case_"))
async def test_the_contract(api: Api, namespace: str, case: Case) -> None:
    """As the stand-in: see tests/integration/operator/test_stand_in.py."""
    await case(api, namespace)
