"""The npm client, unmodified, in a browser, on a page of another origin that the settings name."""

import time
from typing import Any

import pytest

from tests.integration.realtime.conformance.browser import Scene, Tab, named, tab
from tests.integration.realtime.conformance.channels import fresh
from tests.integration.realtime.conformance.proxy import proxied
from tests.integration.realtime.conformance.raw import TRANSPORTS, connected
from tests.integration.realtime.conformance.stock import endpoints

RECONNECTING: dict[str, Any] = {"minReconnectDelay": 300, "maxReconnectDelay": 300}
"""Milliseconds in which a test can publish what the client is to miss."""


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_browser_does_everything_over(scene: Scene, browser: str, transport: str) -> None:
    """Subscribe, publish, presence, history, joins and leaves of others, unsubscribe, disconnect."""
    channel = fresh()
    async with tab(browser, scene.app) as js:
        me = await scene.start(js, by=transport)
        assert me["transport"] == transport
        await js.do("subscribe", channel=channel, options={"joinLeave": True, "recoverable": True})
        assert (await js.event("subscribed", channel=channel))["recoverable"] is True
        info = {"user": "ann", "client": me["client"]}
        assert info.items() <= (await js.event("join"))["info"].items()

        assert await js.call("publish", channel=channel, data={"text": "hé\n\u2028"}) == {}
        pub = await js.event("publication")
        assert (pub["data"], pub["offset"]) == ({"text": "hé\n\u2028"}, 1)
        assert info.items() <= pub["info"].items()
        assert await js.call("presenceStats", channel=channel) == {"numClients": 1, "numUsers": 1}
        history = await js.call("history", channel=channel, options={"limit": 10})
        assert [one["data"] for one in history["publications"]] == [{"text": "hé\n\u2028"}]
        async with connected(scene.target, channel, user="bob"):
            assert (await js.event("join"))["info"]["user"] == "bob"
            there = (await js.call("presence", channel=channel))["clients"]
            assert sorted(one["user"] for one in there.values()) == ["ann", "bob"]
        assert (await js.event("leave"))["info"]["user"] == "bob"
        assert (await js.call("rpc", method="echo", data=[1, None]))["data"] == [1, None]

        await js.do("unsubscribe", channel=channel)
        assert (await js.event("unsubscribed"))["code"] == 0
        await js.do("disconnect")
        assert (await js.event("disconnected"))["code"] == 0


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_browser_recovers_what_it_missed_over(scene: Scene, browser: str, transport: str) -> None:
    """After a cut connection, in order, once."""
    channel = fresh()
    async with proxied(scene.target.http_url) as proxy, tab(browser, scene.app) as js:
        await scene.start(js, url=named("api", proxy.url), by=transport, **RECONNECTING)
        await js.do("subscribe", channel=channel)
        await js.event("subscribed")
        await scene.target.publish(channel, b"1")
        assert (await js.event("publication"))["data"] == 1
        for cut in range(2):
            proxy.cut()
            await js.event("subscribing", channel=channel, code=1)
            for number in (2, 3):
                await scene.target.publish(channel, b"%d" % (number + 2 * cut))
            again = await js.event("subscribed")
            assert again["wasRecovering"] is again["recovered"] is True
            assert [(await js.event("publication"))["data"] for _ in range(2)] == [2 + 2 * cut, 3 + 2 * cut]
        await scene.target.publish(channel, b"6")
        assert (await js.event("publication"))["offset"] == 6


async def test_a_browser_recovers_when_it_is_online_again(scene: Scene, browser: str) -> None:
    """It notices both by itself, and its client leaves and returns at once."""
    channel = fresh()
    async with tab(browser, scene.app) as js:
        await scene.start(js, minReconnectDelay=60_000, maxReconnectDelay=60_000)
        await js.do("subscribe", channel=channel)
        await js.event("subscribed")
        await offline(js, is_so=True)
        await js.event("subscribing", channel=channel, code=1)
        await scene.target.publish(channel, b"1")
        await offline(js, is_so=False)
        assert (await js.event("subscribed"))["recovered"] is True
        assert (await js.event("publication"))["data"] == 1


async def offline(js: Tab, *, is_so: bool) -> None:
    """As if the device had lost its network, or had it again."""
    await js.page.ask(
        "Network.emulateNetworkConditions", offline=is_so, latency=0, downloadThroughput=-1, uploadThroughput=-1
    )


@pytest.mark.parametrize("way_out", ["http_stream", "sse"])
async def test_a_browser_falls_back_where_websockets_are_blocked(scene: Scene, browser: str, way_out: str) -> None:
    """To the next of its transports, and stays there."""
    channel = fresh()
    async with proxied(scene.target.http_url) as proxy, tab(browser, scene.app) as js:
        proxy.blocks_websockets = True
        me = await scene.start(js, url=named("api", proxy.url), by=f"websocket {way_out}")
        assert me["transport"] == way_out
        await js.do("subscribe", channel=channel)
        await js.event("subscribed")
        assert await js.call("publish", channel=channel, data=1) == {}
        assert (await js.event("publication"))["data"] == 1


async def test_a_browser_refreshes_its_token(scene: Scene, browser: str) -> None:
    """In time, and stays connected."""
    channel, now = fresh(), int(time.time())
    async with tab(browser, scene.app) as js:
        tokens = [scene.target.token("ann", exp=now + 3), scene.target.token("ann", exp=now + 600)]
        await js.do("connect", endpoint=endpoints(scene.api, "websocket"), tokens=tokens)
        await js.event("token")
        await js.event("connected")
        await js.event("token")
        await js.do("subscribe", channel=channel)
        await js.event("subscribed")
        await scene.target.publish(channel, b"1")
        await js.event("publication")
        assert [event["code"] for event in js.seen("connecting")] == [0]
        assert js.seen("error") == []


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_browser_stays_away_when_its_user_is_disconnected(scene: Scene, browser: str, transport: str) -> None:
    """3503: the client's last word, without an attempt to come back."""
    async with tab(browser, scene.app) as js:
        await scene.start(js, by=transport)
        await scene.target.disconnect("ann")
        assert (await js.event("disconnected"))["code"] == 3503
        assert [event["code"] for event in js.seen("connecting")] == [0]


async def test_a_closed_page_has_left(scene: Scene, browser: str) -> None:
    """At once, for everybody else."""
    channel = fresh()
    async with connected(scene.target, channel, user="bob") as bob:
        assert (await bob.push("join"))["join"]["info"]["user"] == "bob"
        async with tab(browser, scene.app) as js:
            await scene.start(js)
            await js.do("subscribe", channel=channel)
            assert (await bob.push("join"))["join"]["info"]["user"] == "ann"
        assert (await bob.push("leave"))["leave"]["info"]["user"] == "ann"


async def test_a_token_may_come_as_a_subprotocol(scene: Scene, browser: str) -> None:
    """Beside the one that is answered; alone, there is nothing that a browser would take for an answer."""
    token = f"token.{scene.target.token('ann', channels=['full:a'])}"
    url = f"{scene.ws}/connection/websocket"
    async with tab(browser, scene.app) as js:
        await js.do("dial", url=url, protocols=["centrifuge-json", token], message={"id": 1, "connect": {}})
        assert (await js.event("opened"))["protocol"] == "centrifuge-json"
        assert "full:a" in (await js.event("message"))["data"]["connect"]["subs"]
        await js.do("dial", url=url, protocols=[token], message={})
        assert "400" in (await js.event("Network.webSocketFrameError"))["errorMessage"]
        assert (await js.event("closed"))["code"] == 1006
