"""The npm client, unmodified, by its own calls."""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.realtime.conformance.channels import fresh
from tests.integration.realtime.conformance.proxy import proxied
from tests.integration.realtime.conformance.raw import connected
from tests.integration.realtime.conformance.stock import Node, endpoints, node
from tests.integration.realtime.conformance.target import Target, only_ours

TRANSPORTS = ("websocket", "sse", "http_stream")


async def start(js: Node, target: Target, user: str = "ann", url: str = "", **options: Any) -> Any:
    """Connects over a WebSocket."""
    url = url or target.http_url
    await js.do("connect", endpoint=endpoints(url, "websocket"), options={"token": target.token(user), **options})
    return await js.event("connected")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_npm_does_everything_over(target: Target, node_tests: Path, transport: str) -> None:
    """Subscribe, publish, presence, history, unsubscribe, disconnect."""
    channel = fresh()
    async with node(node_tests) as js:
        options = {"token": target.token("ann"), "emulationEndpoint": target.emulation_url, "data": {"a": 1}}
        await js.do("connect", endpoint=endpoints(target.http_url, transport), options=options)
        me = await js.event("connected")
        assert me["transport"] == transport
        await js.do("subscribe", channel=channel, options={"joinLeave": True, "recoverable": True})
        subscribed = await js.event("subscribed", channel=channel)
        assert subscribed["recoverable"] is subscribed["positioned"] is True
        assert subscribed["streamPosition"]["offset"] == 0
        info = {"user": "ann", "client": me["client"]}
        assert info.items() <= (await js.event("join"))["info"].items()

        assert await js.call("publish", channel=channel, data={"text": "hé\n"}) == {}
        pub = await js.event("publication")
        assert (pub["data"], pub["offset"]) == ({"text": "hé\n"}, 1)
        assert info.items() <= pub["info"].items()

        [(client, there)] = (await js.call("presence", channel=channel))["clients"].items()
        assert client == me["client"]
        assert info.items() <= there.items()
        assert await js.call("presenceStats", channel=channel) == {"numClients": 1, "numUsers": 1}
        history = await js.call("history", channel=channel, options={"limit": 10})
        assert [one["data"] for one in history["publications"]] == [{"text": "hé\n"}]
        assert history["offset"] == 1
        assert await js.call("rpc", method="unheard", data={}) in ({"code": 104}, {"code": 108})

        await js.do("unsubscribe", channel=channel)
        assert (await js.event("unsubscribed"))["code"] == 0
        await js.do("disconnect")
        assert (await js.event("disconnected"))["code"] == 0


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_npm_recovers_what_it_missed_over(target: Target, node_tests: Path, transport: str) -> None:
    """After a cut connection, in order, once."""
    channel = fresh()
    async with proxied(target.http_url) as proxy, node(node_tests) as js:
        options = {
            "token": target.token("ann"),
            "emulationEndpoint": f"{proxy.url}/emulation",
            "minReconnectDelay": 300,
            "maxReconnectDelay": 300,
        }
        await js.do("connect", endpoint=endpoints(proxy.url, transport), options=options)
        await js.do("subscribe", channel=channel)
        await js.event("subscribed")
        await target.publish(channel, b"1")
        assert (await js.event("publication"))["data"] == 1
        for cut in range(2):
            proxy.cut()
            await js.event("subscribing", channel=channel, code=1)
            for number in (2, 3):
                await target.publish(channel, b"%d" % (number + 2 * cut))
            again = await js.event("subscribed")
            assert again["wasRecovering"] is again["recovered"] is True
            pubs = [await js.event("publication") for _ in range(2)]
            assert [pub["data"] for pub in pubs] == [2 + 2 * cut, 3 + 2 * cut]
        await target.publish(channel, b"6")
        assert (await js.event("publication"))["offset"] == 6


@pytest.mark.parametrize(
    "since", [{"offset": 1, "epoch": "other"}, {"offset": 9, "epoch": ""}], ids=["epoch", "future"]
)
async def test_npm_is_told_that_it_cannot_recover(target: Target, node_tests: Path, since: Any) -> None:
    """Then nothing partial comes, and it goes on from the top."""
    channel = fresh()
    for number in (b"1", b"2"):
        await target.publish(channel, number)
    async with node(node_tests) as js:
        await start(js, target)
        await js.do("subscribe", channel=channel, options={"since": since})
        subscribed = await js.event("subscribed")
        assert subscribed["wasRecovering"] is True
        assert subscribed["recovered"] is False
        assert subscribed["streamPosition"]["offset"] == 2
        await target.publish(channel, b"3")
        assert (await js.event("publication"))["data"] == 3


@pytest.mark.parametrize("way_out", ["http_stream", "sse"])
async def test_npm_falls_back_where_websockets_are_blocked(target: Target, node_tests: Path, way_out: str) -> None:
    """To the next of its transports, and stays there."""
    channel = fresh()
    async with proxied(target.http_url) as proxy, node(node_tests) as js:
        proxy.blocks_websockets = True
        options = {"token": target.token("ann"), "emulationEndpoint": f"{proxy.url}/emulation"}
        await js.do("connect", endpoint=endpoints(proxy.url, "websocket", way_out), options=options)
        assert (await js.event("connected"))["transport"] == way_out
        await js.do("subscribe", channel=channel)
        await js.event("subscribed")
        await js.call("publish", channel=channel, data=1)
        assert (await js.event("publication"))["data"] == 1


async def test_npm_refreshes_its_token(target: Target, node_tests: Path) -> None:
    """In time, and stays connected."""
    channel, now = fresh(), time.time()
    async with node(node_tests) as js:
        tokens = [target.token("ann", exp=int(now) + 3), target.token("ann", exp=int(now) + 600)]
        await js.do("connect", endpoint=target.ws_url, tokens=tokens)
        await js.event("token")
        await js.event("connected")
        await js.event("token")
        await js.do("subscribe", channel=channel)
        await js.event("subscribed")
        await target.publish(channel, b"1")
        await js.event("publication")
        assert [event["code"] for event in js.seen("connecting")] == [0]
        assert js.seen("error") == []


async def test_npm_gets_another_token_for_an_expired_one(target: Target, node_tests: Path) -> None:
    """Error 109, then it asks the application and comes back."""
    async with node(node_tests) as js:
        await js.do("connect", endpoint=target.ws_url, tokens=[target.token("ann", exp=1), target.token("ann")])
        assert (await js.event("error"))["code"] == 109
        await js.event("connected")


async def test_npm_stays_away_with_a_forged_token(target: Target, node_tests: Path) -> None:
    """3500."""
    async with node(node_tests) as js:
        await js.do("connect", endpoint=target.ws_url, options={"token": "forged"})
        assert (await js.event("disconnected"))["code"] == 3500


async def test_npm_stays_away_when_its_user_is_disconnected(target: Target, node_tests: Path) -> None:
    """3503."""
    async with node(node_tests) as js:
        await start(js, target)
        await target.disconnect("ann")
        assert (await js.event("disconnected"))["code"] == 3503


async def test_npm_is_told_why_it_may_not_subscribe(target: Target, node_tests: Path) -> None:
    """A permanent error ends the subscription with its code."""
    async with node(node_tests) as js:
        await start(js, target)
        await js.do("subscribe", channel="x" * 256)
        assert (await js.event("unsubscribed"))["code"] == 107


async def test_npm_sees_joins_and_leaves(target: Target, node_tests: Path) -> None:
    """Of others."""
    channel = fresh()
    async with node(node_tests) as js:
        me = (await start(js, target))["client"]
        await js.do("subscribe", channel=channel)
        assert (await js.event("join"))["info"]["client"] == me
        async with connected(target, channel, user="bob"):
            assert (await js.event("join"))["info"]["user"] == "bob"
        assert (await js.event("leave"))["info"]["user"] == "bob"


async def test_npm_recovers_subscriptions_of_its_token(target: Target, node_tests: Path) -> None:
    """The client knows them by their channels alone."""
    channel = fresh()
    async with proxied(target.http_url) as proxy, node(node_tests) as js:
        token = target.token("ann", channels=[channel])
        await start(js, target, url=proxy.url, token=token, minReconnectDelay=300, maxReconnectDelay=300)
        subscribed = await js.event("subscribed", channel=channel)
        assert subscribed["recoverable"] is True
        await target.publish(channel, b"1")
        assert (await js.event("publication", channel=channel))["data"] == 1
        proxy.cut()
        await js.event("subscribing", channel=channel)
        await target.publish(channel, b"2")
        assert (await js.event("subscribed", channel=channel))["recovered"] is True
        assert (await js.event("publication", channel=channel))["data"] == 2


@only_ours("the reference checks no subscription tokens")
async def test_npm_refreshes_a_subscription_token(target: Target, node_tests: Path) -> None:
    """In time, and stays subscribed."""
    channel, now = fresh("sealed"), int(time.time())
    async with node(node_tests) as js:
        await start(js, target)
        tokens = [target.subscription_token("ann", channel, exp=now + seconds) for seconds in (3, 600)]
        await js.do("subscribe", channel=channel, tokens=tokens)
        await js.event("subscription token")
        await js.event("subscribed")
        await js.event("subscription token")
        await target.publish(channel, b"1")
        await js.event("publication")
        assert js.seen("unsubscribed") == js.seen("subscription error") == []


@only_ours("the reference has no methods")
async def test_npm_calls_a_method(target: Target, node_tests: Path) -> None:
    """`echo`, with any JSON."""
    async with node(node_tests) as js:
        await start(js, target)
        for data in ({"a": [1, None]}, "text", 1):
            assert (await js.call("rpc", method="echo", data=data))["data"] == data
