"""Centrifugo's HTTP API over several processes that share a Redis, and without one."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hookcast_app.realtime import Disconnect, Order, Refresh, Subscribe, Unsubscribe, census
from tests.integration.realtime.server import client, until
from tests.support.server_api import ADMIN, CHANNEL, REQUESTS, Api, running
from tests.support.valkey import running_valkey


@pytest.fixture
async def api(redis_url: str) -> AsyncIterator[Api]:
    async with running(redis_url) as one:
        yield one


@pytest.fixture
async def other(redis_url: str) -> AsyncIterator[Api]:
    """Another process over the same Redis."""
    async with running(redis_url) as one:
        yield one


async def test_processes_answer_as_one(api: Api, other: Api) -> None:
    """Each tells of what all have."""
    async with client(api.server, "plain:a") as here, client(other.server) as there:
        for each in (here, there):
            assert "subscribe" in await each.ask({"id": 3, "subscribe": {"channel": CHANNEL}})
        for asked in (api, other):
            channels = (await asked("channels"))["result"]
            assert channels == {"channels": {CHANNEL: {"num_clients": 2}, "plain:a": {"num_clients": 1}}}
            assert (await asked("channels", pattern="chat:?obb[xy]"))["result"]["channels"].keys() == {CHANNEL}
            nodes = (await asked("info"))["result"]["nodes"]
            assert sorted(node["num_subs"] for node in nodes) == [1, 2]
            assert len({node["uid"] for node in nodes}) == 2
            assert len((await asked("presence", channel=CHANNEL))["result"]["presence"]) == 2
            stats = (await asked("presence_stats", channel=CHANNEL))["result"]
            assert stats == {"num_clients": 2, "num_users": 1}


async def test_a_process_with_too_many_channels_says_so(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """It tells of some."""
    monkeypatch.setattr(census, "MAX_CHANNELS", 1)
    async with client(api.server, "plain:a"):
        assert "truncated" not in (await api("channels"))["result"]
        async with client(api.server, "plain:b"):
            result = (await api("channels"))["result"]
    assert (len(result["channels"]), result["truncated"]) == (1, True)


async def test_a_key_is_known_to_all_processes(api: Api, other: Api) -> None:
    """What one has published another does not publish again, on the same channel."""
    first = await api("publish", channel=CHANNEL, data=1, idempotency_key="k")
    assert await other("publish", channel=CHANNEL, data=2, idempotency_key="k") == first
    broadcast = await other("broadcast", channels=[CHANNEL, "chat:b"], data=3, idempotency_key="k")
    assert [each["result"]["offset"] for each in broadcast["result"]["responses"]] == [1, 1]
    assert (await api("history", channel=CHANNEL))["result"]["offset"] == 1


class Somebody:
    """A connection that remembers what it is told to do."""

    user, client, session = "ann", "a client", "a session"

    def __init__(self) -> None:
        self.orders: list[Order] = []

    def carry_out(self, order: Order) -> None:
        self.orders.append(order)


ORDERS: list[tuple[str, dict[str, Any], Order]] = [
    (
        "unsubscribe",
        {"channel": CHANNEL},
        Unsubscribe(user="ann", channel=CHANNEL, code=2000, reason="server unsubscribe"),
    ),
    ("unsubscribe", {}, Unsubscribe(user="ann", channel="", code=2000, reason="server unsubscribe")),
    ("disconnect", {}, Disconnect(user="ann", code=3503, reason="force disconnect")),
    ("disconnect", {"disconnect": {}}, Disconnect(user="ann", code=3503, reason="force disconnect")),
    (
        "disconnect",
        {"disconnect": {"code": 4001, "reason": "mine"}, "client": "a client", "whitelist": ["x"]},
        Disconnect(user="ann", client="a client", code=4001, reason="mine", spared=("x",)),
    ),
    ("refresh", {"expired": True}, Refresh(user="ann", is_expired=True)),
    (
        "refresh",
        {"expire_at": 2_000_000_000, "session": "a session"},
        Refresh(user="ann", session="a session", is_expired=False, expires_at=2_000_000_000),
    ),
    ("subscribe", {"channel": CHANNEL, "info": None}, Subscribe(user="ann", channel=CHANNEL)),
]


@pytest.mark.parametrize(
    ("method", "request_", "order"), ORDERS, ids=lambda value: value if isinstance(value, str) else ""
)
async def test_orders_reach_every_process(
    api: Api, other: Api, method: str, request_: dict[str, Any], order: Order
) -> None:
    """Whoever has connections of the user is told; the caller's defaults are those that clients know."""
    here, there = Somebody(), Somebody()
    for server, somebody in ((api.server, here), (other.server, there)):
        server.realtime._clients.enter(somebody)
    assert await api(method, user="ann", **request_) == {"result": {}}
    await until(lambda: here.orders == there.orders == [order])


async def test_a_subscription_has_what_it_is_given(api: Api, other: Api) -> None:
    """Data and info as they are or in base64; where the client was; when it ends."""
    somebody = Somebody()
    other.server.realtime._clients.enter(somebody)
    info = b64encode(b'{"role": "guest"}').decode()
    body = (
        f'{{"user":"ann","channel":"{CHANNEL}","data":{{"d": 1.5}},"b64info":"{info}","expire_at":2000000000,'
        '"recover_since":{"offset":7,"epoch":"e"}}'
    )
    assert (await api.send("subscribe", body, **{"X-API-Key": ADMIN})).json() == {"result": {}}
    await until(lambda: bool(somebody.orders))
    (order,) = somebody.orders
    assert isinstance(order, Subscribe)
    assert (order.data, order.info) == ({"d": 1.5}, {"role": "guest"})
    assert (order.recover_since, order.expires_at) == ((7, "e"), 2_000_000_000)


# No Redis


async def test_without_redis_it_is_our_error() -> None:
    """100, whatever is asked, and soon; a batch has it in each place."""
    async with running_valkey() as redis_url, running(redis_url) as api:
        await api("publish", **REQUESTS["publish"])
        await api.server.redis.shutdown(nosave=True)
        async with asyncio.timeout(30):
            for method, request in REQUESTS.items():
                if method != "broadcast":
                    assert await api.code(method, **request) == 100, method
            responses = (await api("broadcast", **REQUESTS["broadcast"]))["result"]["responses"]
            assert [each["error"]["code"] for each in responses] == [100]
            replies = (await api("batch", commands=[{"publish": REQUESTS["publish"]}, {"info": {}}]))["replies"]
            assert [reply["error"]["code"] for reply in replies] == [100, 100]
