"""The stand-in does what the operator relies on of an API server."""

from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest

from hookcast_operator.api import Api, log_in, path_of
from hookcast_operator.errors import ApiRefused, ApiUnavailable
from tests.support.kinds import secret
from tests.support.kubernetes import ApiServer, Call, Fault, running_api_server
from tests.support.kubernetes_contract import CASES, Case, take, watching


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with running_api_server() as running:
        yield running


@pytest.fixture
async def api(server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path / "kubeconfig")))
    async with Api(log_in(), lambda _verb, _code: None) as running:
        yield running


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__.removeprefix("case_"))
async def test_the_contract(api: Api, case: Case) -> None:
    """As a real one: see tests/e2e/test_api_server.py."""
    await case(api, "contract")


def _always(fault: Fault, _: Call) -> Fault:
    return fault


async def test_faults_are_what_the_client_calls_them(api: Api, server: ApiServer) -> None:
    """Refused, unavailable, cut, away."""
    secrets = path_of("v1", "secrets", "shop")
    for fault in (Fault(code=429), Fault(code=500), Fault(cut="before"), Fault(cut="after")):
        server.rules = [partial(_always, fault)]
        with pytest.raises(ApiUnavailable):
            await api.list(secrets)
    server.rules = [lambda _: Fault(code=403)]
    with pytest.raises(ApiRefused):
        await api.list(secrets)
    server.rules = []
    server.down()
    with pytest.raises(ApiUnavailable):
        await api.list(secrets)
    with pytest.raises(ApiUnavailable):
        async for _ in api.hints(secrets, 5):
            pass
    server.up()
    assert await api.list(secrets) == []


async def test_what_is_forgotten_is_gone(api: Api, server: ApiServer) -> None:
    """A watch from there is told so; a list that was begun before begins anew."""
    secrets = path_of("v1", "secrets", "shop")
    for number in range(3):
        server.apply(secret(f"s{number}"))
    page = await api.get(secrets, limit="1")
    server.forget()

    with pytest.raises(ApiRefused) as refused:
        await api.get(secrets, **{"continue": page["metadata"]["continue"]})
    assert refused.value.code == 410
    async with watching(api, secrets, resourceVersion="1") as events:
        event = await anext(events)
    assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


async def test_a_blind_watch_tells_the_rest(api: Api, server: ApiServer) -> None:
    """Everything but what it does not see."""
    secrets = path_of("v1", "secrets", "shop")
    server.blind_to = lambda _, kind: kind == "DELETED"
    async with watching(api, secrets) as events:
        server.apply(secret("a"))
        server.delete(secret("a"))
        server.apply(secret("b"))

        assert await take(events, 2) == [("ADDED", "a"), ("ADDED", "b")]
