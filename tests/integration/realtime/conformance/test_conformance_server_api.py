"""The server API by its stock client, `cent`, and what its calls do to clients."""

import base64
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from cent import (
    AsyncClient,
    BatchRequest,
    BroadcastRequest,
    CentApiResponseError,
    CentUnauthorizedError,
    ChannelsRequest,
    Disconnect,
    DisconnectRequest,
    HistoryRemoveRequest,
    HistoryRequest,
    InfoRequest,
    PresenceRequest,
    PresenceStatsRequest,
    PublishRequest,
    RefreshRequest,
    StreamPosition,
    SubscribeRequest,
    UnsubscribeRequest,
)

from tests.integration.realtime.conformance.channels import fresh
from tests.integration.realtime.conformance.raw import connected
from tests.integration.realtime.conformance.stock import node, python
from tests.integration.realtime.conformance.target import Target, api, only_ours

pytestmark = only_ours("the reference is a library: its server has no server API")


@pytest_asyncio.fixture
async def cent(target: Target) -> AsyncIterator[AsyncClient]:
    """The stock client, with a key that may do everything."""
    async with api(target.api_url) as client:
        yield client


async def test_api_publishes(target: Target, cent: AsyncClient) -> None:
    """The result is the position; tags and base64 arrive."""
    channel = fresh()
    async with connected(target, channel) as client:
        first = await cent.publish(PublishRequest(channel=channel, data={"x": 1}, tags={"a": "b"}))
        assert first.offset == 1
        assert first.epoch
        pub = (await client.push("pub"))["pub"]
        assert pub == {"data": {"x": 1}, "offset": 1, "tags": {"a": "b"}}
        data = base64.b64encode(b'{"y":2}').decode()
        second = await cent.publish(PublishRequest(channel=channel, data=None, b64data=data))
        assert (second.offset, second.epoch) == (2, first.epoch)
        assert (await client.push("pub"))["pub"] == {"data": {"y": 2}, "offset": 2}


async def test_api_publishes_without_history(target: Target, cent: AsyncClient) -> None:
    """Such a publication has no offset, and cannot be recovered."""
    channel = fresh()
    async with connected(target, channel) as client:
        await cent.publish(PublishRequest(channel=channel, data=1))
        await cent.publish(PublishRequest(channel=channel, data=2, skip_history=True))
        assert (await client.push("pub"))["pub"] == {"data": 1, "offset": 1}
        assert (await client.push("pub"))["pub"] == {"data": 2}
        assert (await cent.history(HistoryRequest(channel=channel, limit=-1))).offset == 1


async def test_api_publishes_once_with_a_key(target: Target, cent: AsyncClient) -> None:
    """The same `idempotency_key` on the same channel gives the same result, and nothing is published."""
    channel, other = fresh(), fresh()
    async with connected(target, channel, other) as client:
        request = PublishRequest(channel=channel, data=1, idempotency_key="k")
        first = await cent.publish(request)
        assert await cent.publish(request) == first
        await cent.publish(PublishRequest(channel=other, data=2, idempotency_key="k"))
        assert [(await client.push("pub"))["pub"]["data"] for _ in range(2)] == [1, 2]
        assert client.pushes == [push for push in client.pushes if "join" in push]


async def test_api_broadcasts(target: Target, cent: AsyncClient) -> None:
    """A response for each channel, in order; order of publications is one within a channel."""
    channels = [fresh(), fresh()]
    async with connected(target, *channels) as client:
        await cent.publish(PublishRequest(channel=channels[1], data=0))
        result = await cent.broadcast(BroadcastRequest(channels=channels, data=1))
        assert [response.result and response.result.offset for response in result.responses] == [1, 2]
        pushes = [await client.push("pub") for _ in range(3)]
        by_channel = {each: [push["pub"]["data"] for push in pushes if push["channel"] == each] for each in channels}
        assert by_channel == {channels[0]: [1], channels[1]: [0, 1]}


async def test_api_subscribes_and_unsubscribes(target: Target, cent: AsyncClient) -> None:
    """Pushes tell every connection of the user."""
    channel = fresh()
    await cent.publish(PublishRequest(channel=channel, data=1))
    async with connected(target, user="ann") as ann, connected(target, user="bob") as bob:
        await cent.subscribe(SubscribeRequest(user="ann", channel=channel, data={"d": 1}))
        push = await ann.push("subscribe")
        assert push["subscribe"].pop("epoch")
        assert push == {
            "channel": channel,
            "subscribe": {"recoverable": True, "positioned": True, "offset": 1, "data": {"d": 1}},
        }
        assert (await ann.push("join"))["join"]["info"]["user"] == "ann"
        await cent.publish(PublishRequest(channel=channel, data=2))
        assert (await ann.push("pub"))["pub"] == {"data": 2, "offset": 2}

        await cent.unsubscribe(UnsubscribeRequest(user="ann", channel=channel))
        assert await ann.push("unsubscribe") == {
            "channel": channel,
            "unsubscribe": {"code": 2000, "reason": "server unsubscribe"},
        }
        await cent.publish(PublishRequest(channel=channel, data=3))
        await ann.settled()
        assert "pub" not in ann.order[ann.order.index("unsubscribe") :]
        assert bob.pushes == []


async def test_api_subscriptions_end_for_clients_of_their_own(target: Target, cent: AsyncClient) -> None:
    """2000 also ends what the client subscribed to itself."""
    channel = fresh()
    async with connected(target, channel, user="ann") as ann:
        await cent.unsubscribe(UnsubscribeRequest(user="ann", channel=channel))
        assert (await ann.push("unsubscribe"))["unsubscribe"]["code"] == 2000
        assert "subscribe" in await ann.ask({"id": 2, "subscribe": {"channel": channel}})


@pytest.mark.parametrize(
    ("disconnect", "told"),
    [
        (None, (3503, "force disconnect")),
        (Disconnect(code=4001, reason="come back"), (4001, "come back")),
        (Disconnect(code=4501, reason="stay away"), (4501, "stay away")),
    ],
    ids=["default", "4001", "4501"],
)
async def test_api_disconnects(
    target: Target, cent: AsyncClient, disconnect: Disconnect | None, told: tuple[int, str]
) -> None:
    """With the caller's code and reason."""
    async with connected(target, user="ann") as ann, connected(target, user="bob") as bob:
        await cent.disconnect(DisconnectRequest(user="ann", disconnect=disconnect))
        assert await ann.closed() == told
        await bob.settled()


async def test_api_disconnects_one_of_several(target: Target, cent: AsyncClient) -> None:
    """`client` names one connection, `whitelist` those that stay."""
    channel = fresh()
    async with connected(target, channel, user="ann") as one, connected(target, channel, user="ann") as other:
        first = (await one.push("join"))["join"]["info"]["client"]
        second = (await other.push("join"))["join"]["info"]["client"]
        await cent.disconnect(DisconnectRequest(user="ann", client=second))
        assert (await other.closed())[0] == 3503
        async with connected(target, user="ann") as third:
            await cent.disconnect(DisconnectRequest(user="ann", whitelist=[first]))
            assert (await third.closed())[0] == 3503
        await one.settled()


async def test_api_refreshes(target: Target, cent: AsyncClient) -> None:
    """A push says how long it lasts now; `expired` ends the connection with 3005."""
    async with connected(target, user="ann", exp=int(time.time()) + 60) as ann:
        await cent.refresh(RefreshRequest(user="ann", expire_at=int(time.time()) + 600))
        push = await ann.push("refresh")
        assert 597 <= push["refresh"].pop("ttl") <= 600
        assert push == {"refresh": {"expires": True}}
        await cent.refresh(RefreshRequest(user="ann", expired=True))
        assert await ann.closed() == (3005, "connection expired")


async def test_api_tells_presence(target: Target, cent: AsyncClient) -> None:
    """As clients are told it."""
    channel = fresh()
    async with connected(target, channel, user="ann") as ann, connected(target, channel, user="ann"):
        me = (await ann.push("join"))["join"]["info"]["client"]
        presence = (await cent.presence(PresenceRequest(channel=channel))).presence
        assert len(presence) == 2
        assert (presence[me].user, presence[me].client) == ("ann", me)
        stats = await cent.presence_stats(PresenceStatsRequest(channel=channel))
        assert (stats.num_clients, stats.num_users) == (2, 1)


async def test_api_tells_history_and_removes_it(target: Target, cent: AsyncClient) -> None:
    """Limit, since and reverse as for clients; the position stays when publications go."""
    channel = fresh()
    for number in range(1, 6):
        await cent.publish(PublishRequest(channel=channel, data=number))

    async def offsets(limit: int, since: StreamPosition | None = None, *, reverse: bool = False) -> list[int]:
        result = await cent.history(HistoryRequest(channel=channel, limit=limit, since=since, reverse=reverse))
        return [pub.offset for pub in result.publications]

    top = await cent.history(HistoryRequest(channel=channel))
    assert (top.publications, top.offset) == ([], 5)
    assert await offsets(2) == [1, 2]
    assert await offsets(2, reverse=True) == [5, 4]
    assert await offsets(-1, StreamPosition(offset=3, epoch=top.epoch)) == [4, 5]
    with pytest.raises(CentApiResponseError) as refused:
        await offsets(-1, StreamPosition(offset=3, epoch="other"))
    assert refused.value.code == 112

    await cent.history_remove(HistoryRemoveRequest(channel=channel))
    after = await cent.history(HistoryRequest(channel=channel, limit=-1))
    assert (after.publications, after.offset, after.epoch) == ([], 5, top.epoch)
    async with connected(target) as client:
        ask = {"channel": channel, "recover": True, "epoch": top.epoch, "offset": 1}
        reply = (await client.ask({"id": 2, "subscribe": ask}))["subscribe"]
        assert "recovered" not in reply
        assert reply["offset"] == 5


async def test_api_lists_channels(target: Target, cent: AsyncClient) -> None:
    """Those that somebody is subscribed to; a pattern picks some."""
    one, other = fresh(), fresh("plain")
    async with connected(target, one), connected(target, one, other):
        channels = (await cent.channels(ChannelsRequest())).channels
        assert {name: info.num_clients for name, info in channels.items()} == {one: 2, other: 1}
        assert list((await cent.channels(ChannelsRequest(pattern="plain:*"))).channels) == [other]


async def test_api_tells_about_nodes(target: Target, cent: AsyncClient) -> None:
    """Each process with what it holds."""
    async with connected(target, fresh(), user="ann"), connected(target, user="ann"):
        [node_] = (await cent.info(InfoRequest())).nodes
        assert (node_.num_clients, node_.num_users, node_.num_channels, node_.num_subs) == (2, 1, 1, 1)
        assert node_.uid
        assert node_.name


async def test_api_takes_several_at_once(target: Target, cent: AsyncClient) -> None:
    """Replies in order."""
    channel = fresh()
    async with connected(target, channel) as client:
        result = await cent.batch(
            BatchRequest(
                requests=[
                    PublishRequest(channel=channel, data=1),
                    PublishRequest(channel=channel, data=2),
                    PresenceStatsRequest(channel=channel),
                ]
            )
        )
        assert [getattr(reply, "offset", None) for reply in result.replies] == [1, 2, None]
        assert result.replies[2].num_clients == 1  # type: ignore[attr-defined]
        assert [(await client.push("pub"))["pub"]["data"] for _ in range(2)] == [1, 2]


async def test_api_tells_errors(cent: AsyncClient) -> None:
    """107 without a channel, 108 for what a channel does not have."""
    for call, code in (
        (cent.publish(PublishRequest(channel="", data=1)), 107),
        (cent.presence(PresenceRequest(channel=fresh("plain"))), 108),
        (cent.presence_stats(PresenceStatsRequest(channel=fresh("plain"))), 108),
        (cent.history(HistoryRequest(channel=fresh("plain"), limit=1)), 108),
    ):
        with pytest.raises(CentApiResponseError) as refused:
            await call
        assert refused.value.code == code


async def test_api_is_for_those_with_a_key(target: Target) -> None:
    """401 for others."""
    client = AsyncClient(target.api_url, "another key than the suite's")
    try:
        with pytest.raises(CentUnauthorizedError):
            await client.info(InfoRequest())
    finally:
        await client.close()


async def test_npm_follows_the_server_api(target: Target, cent: AsyncClient, node_tests: Path) -> None:
    """Subscribed, unsubscribed, disconnected with a code to come back and with one to stay away."""
    channel, own = fresh(), fresh()
    async with node(node_tests) as js:
        await js.do("connect", endpoint=target.ws_url, options={"token": target.token("ann")})
        await js.event("connected")
        await js.do("subscribe", channel=own)
        await js.event("subscribed", channel=own)
        await cent.subscribe(SubscribeRequest(user="ann", channel=channel))
        await js.event("subscribed", channel=channel)
        await cent.publish(PublishRequest(channel=channel, data=1))
        assert (await js.event("publication", channel=channel))["data"] == 1
        await cent.unsubscribe(UnsubscribeRequest(user="ann", channel=channel))
        await js.event("unsubscribed", channel=channel)
        await cent.unsubscribe(UnsubscribeRequest(user="ann", channel=own))
        assert (await js.event("unsubscribed", channel=own))["code"] == 2000

        await cent.disconnect(DisconnectRequest(user="ann", disconnect=Disconnect(code=4001, reason="come back")))
        assert await js.event("connecting", code=4001) == {"event": "connecting", "code": 4001, "reason": "come back"}
        await js.event("connected")
        await cent.disconnect(DisconnectRequest(user="ann", disconnect=Disconnect(code=4501, reason="stay away")))
        assert (await js.event("disconnected"))["code"] == 4501


async def test_python_follows_the_server_api(target: Target, cent: AsyncClient) -> None:
    """The same."""
    channel = fresh()
    async with python(target.ws_url, token=target.token("ann")) as (_client, events):
        await events.event("connected")
        await cent.subscribe(SubscribeRequest(user="ann", channel=channel))
        await events.event("subscribed", channel=channel)
        await cent.publish(PublishRequest(channel=channel, data=1))
        assert (await events.event("publication", channel=channel))["pub"].data == 1
        await cent.unsubscribe(UnsubscribeRequest(user="ann", channel=channel))
        await events.event("unsubscribed", channel=channel)
        await cent.disconnect(DisconnectRequest(user="ann", disconnect=Disconnect(code=4001, reason="come back")))
        await events.event("connecting", code=4001)
        await events.event("connected")
