"""The Python client, unmodified, by its own calls."""

import asyncio
import time
from typing import Any

import pytest
from centrifuge import CentrifugeError, StreamPosition  # type: ignore[import-untyped]

from tests.integration.realtime.conformance.channels import fresh
from tests.integration.realtime.conformance.proxy import proxied
from tests.integration.realtime.conformance.raw import connected
from tests.integration.realtime.conformance.stock import python
from tests.integration.realtime.conformance.target import Target


async def test_python_does_everything(target: Target) -> None:
    """Subscribe, publish, presence, history, unsubscribe."""
    channel = fresh()
    async with python(target.ws_url, token=target.token("ann"), data={"a": 1}) as (client, events):
        me = (await events.event("connected"))["client"]
        sub = client.new_subscription(channel, events=events, join_leave=True, recoverable=True)
        await sub.subscribe()
        subscribed = await events.event("subscribed", channel=channel)
        assert subscribed["recoverable"] is subscribed["positioned"] is True
        assert (await events.event("join"))["info"].client == me

        await sub.publish({"text": "hé\n"})
        pub = (await events.event("publication"))["pub"]
        assert (pub.data, pub.offset, pub.info.user) == ({"text": "hé\n"}, 1, "ann")
        assert [one.user for one in (await sub.presence()).clients.values()] == ["ann"]
        stats = await sub.presence_stats()
        assert (stats.num_clients, stats.num_users) == (1, 1)
        history = await sub.history(limit=10)
        assert [one.data for one in history.publications] == [{"text": "hé\n"}]
        assert history.offset == 1
        since = StreamPosition(offset=0, epoch=history.epoch)
        assert len((await sub.history(limit=-1, since=since)).publications) == 1
        with pytest.raises(CentrifugeError, match=r"104|108"):
            await client.rpc("unheard", {})

        async with connected(target, channel, user="bob"):
            assert (await events.event("join"))["info"].user == "bob"
        assert (await events.event("leave"))["info"].user == "bob"
        await sub.unsubscribe()
        assert (await events.event("unsubscribed"))["code"] == 0


async def test_python_recovers_what_it_missed(target: Target) -> None:
    """After a cut connection, in order, once."""
    channel = fresh()
    async with proxied(target.http_url) as proxy:
        url = f"ws{proxy.url.removeprefix('http')}/connection/websocket"
        async with python(url, token=target.token("ann")) as (client, events):
            sub = client.new_subscription(channel, events=events)
            await sub.subscribe()
            await events.event("subscribed")
            for number in (1, 2):
                await target.publish(channel, b"%d" % number)
                assert (await events.event("publication"))["pub"].data == number
            proxy.cut()
            await events.event("subscribing", code=1)
            for number in (3, 4):
                await target.publish(channel, b"%d" % number)
            again = await events.event("subscribed")
            assert again["was_recovering"] is again["recovered"] is True
            pubs = [(await events.event("publication"))["pub"].offset for _ in range(2)]
            assert pubs == [3, 4]


async def test_python_refreshes_its_token(target: Target) -> None:
    """In time, and stays connected."""
    channel = fresh()
    asked: list[Any] = []

    async def get_token() -> str:
        asked.append(1)
        return target.token("ann", exp=int(time.time()) + (3 if len(asked) == 1 else 600))

    async with python(target.ws_url, get_token=get_token) as (client, events):
        await events.event("connected")
        sub = client.new_subscription(channel, events=events)
        await sub.subscribe()
        await events.event("subscribed")
        deadline = time.time() + 5
        while len(asked) < 2 and time.time() < deadline:
            await sub.presence_stats()
            await asyncio.sleep(0.05)
        assert len(asked) == 2
        await sub.publish(1)
        await events.event("publication")
        assert [event["code"] for event in events.seen("connecting")] == [0]


async def test_python_gets_another_token_for_an_expired_one(target: Target) -> None:
    """Error 109, then it asks the application and comes back."""
    tokens = [target.token("ann", exp=1), target.token("ann")]

    async def get_token() -> str:
        return tokens.pop(0)

    async with python(target.ws_url, get_token=get_token) as (_client, events):
        await events.event("connected")
        assert tokens == []


async def test_python_stays_away_when_its_user_is_disconnected(target: Target) -> None:
    """3503."""
    async with python(target.ws_url, token=target.token("ann")) as (_client, events):
        await events.event("connected")
        await target.disconnect("ann")
        event = await events.event("disconnected")
        assert event["code"] == 3503
        events.tell(event)


async def test_python_sees_subscriptions_of_its_token(target: Target) -> None:
    """And what is published there."""
    channel = fresh()
    async with python(target.ws_url, token=target.token("ann", channels=[channel])) as (_client, events):
        assert (await events.event("subscribed", channel=channel))["recoverable"] is True
        await target.publish(channel, b'{"x": 1}')
        assert (await events.event("publication", channel=channel))["pub"].data == {"x": 1}
