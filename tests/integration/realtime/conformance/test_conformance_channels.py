"""Subscribing, publishing, presence, joins and leaves."""

import json
import time

import pytest

from tests.integration.realtime.conformance.channels import fresh
from tests.integration.realtime.conformance.raw import Speaker, connected
from tests.integration.realtime.conformance.target import Target, only_ours


async def client_id(client: Speaker, channel: str) -> str:
    """The id that a subscriber has in its own join."""
    push = await client.push("join")
    assert push["channel"] == channel
    return str(push["join"]["info"]["client"])


async def test_subscribe_tells_a_position(target: Target) -> None:
    """Even where nothing was published yet; offset 0 is left out."""
    async with connected(target) as client:
        reply = await client.ask({"id": 2, "subscribe": {"channel": fresh()}})
        assert reply["subscribe"].pop("epoch")
        assert reply == {"id": 2, "subscribe": {"recoverable": True, "positioned": True}}


async def test_subscribe_tells_the_top_offset(target: Target) -> None:
    """Every subscriber gets the same epoch, and the offset of the last publication."""
    channel = fresh()
    for number in (b"1", b"2", b"3"):
        await target.publish(channel, number)
    async with connected(target) as one, connected(target) as other:
        replies = [await client.ask({"id": 2, "subscribe": {"channel": channel}}) for client in (one, other)]
        assert replies[0] == replies[1]
        assert replies[0]["subscribe"]["offset"] == 3


async def test_subscribe_takes_what_clients_ask_besides(target: Target) -> None:
    """What a channel is, its options say, not the request; without `recover` a position is nothing."""
    channel = fresh()
    await target.publish(channel, b"1")
    more = {"positioned": True, "recoverable": True, "join_leave": True, "flag": 1, "data": {"a": 1}, "later": 1}
    async with connected(target) as client:
        reply = await client.ask({"id": 2, "subscribe": {"channel": channel, "offset": 7, "epoch": "x", **more}})
        assert reply["subscribe"].pop("epoch") != "x"
        assert reply == {"id": 2, "subscribe": {"recoverable": True, "positioned": True, "offset": 1}}


async def test_subscribing_twice_is_error_105(target: Target) -> None:
    """And the first subscription stays."""
    channel = fresh()
    async with connected(target, channel) as client:
        assert await client.ask({"id": 2, "subscribe": {"channel": channel}}) == {
            "id": 2,
            "error": {"code": 105, "message": "already subscribed"},
        }
        await target.publish(channel, b"1")
        assert (await client.push("pub"))["pub"]["data"] == 1


async def test_too_long_a_channel_is_error_107(target: Target) -> None:
    """255 characters are allowed."""
    longest = f"full:{'x' * 250}"
    async with connected(target, longest) as client:
        assert await client.ask({"id": 2, "subscribe": {"channel": f"{longest}x"}}) == {
            "id": 2,
            "error": {"code": 107, "message": "bad request"},
        }


async def test_too_many_channels_are_error_106(target: Target) -> None:
    """128 are allowed; another one after one is given up."""
    channels = [fresh() for _ in range(129)]
    async with connected(target) as client:
        await client.send(*({"id": n, "subscribe": {"channel": c}} for n, c in enumerate(channels[:128], 2)))
        for number in range(2, 130):
            assert "subscribe" in await client.reply(number)
        assert await client.ask({"id": 200, "subscribe": {"channel": channels[128]}}) == {
            "id": 200,
            "error": {"code": 106, "message": "limit exceeded"},
        }
        await client.ask({"id": 201, "unsubscribe": {"channel": channels[0]}})
        assert "subscribe" in await client.ask({"id": 202, "subscribe": {"channel": channels[128]}})


async def test_unsubscribe_ends_publications(target: Target) -> None:
    """What was never subscribed to can be given up as well."""
    channel, other = fresh(), fresh()
    async with connected(target, channel, other) as client:
        assert await client.ask({"id": 2, "unsubscribe": {"channel": channel}}) == {"id": 2, "unsubscribe": {}}
        await target.publish(channel, b"1")
        await target.publish(other, b"2")
        assert (await client.push("pub"))["channel"] == other
        assert await client.ask({"id": 3, "unsubscribe": {"channel": fresh()}}) == {"id": 3, "unsubscribe": {}}


async def test_a_publication_of_the_server(target: Target) -> None:
    """It has data, as they were written, and an offset; nobody's info."""
    channel = fresh()
    async with connected(target, channel) as client:
        await target.publish(channel, '{"b": 1, "a": [ "é", null ]}'.encode())
        await target.publish(channel, b"null")
        assert await client.push("pub") == {
            "channel": channel,
            "pub": {"data": {"b": 1, "a": ["é", None]}, "offset": 1},
        }
        assert await client.push("pub") == {"channel": channel, "pub": {"data": None, "offset": 2}}


async def test_a_publication_of_a_client(target: Target) -> None:
    """Everybody sees who it was; the publisher sees it before the reply."""
    channel = fresh()
    async with connected(target, channel, user="ann") as ann, connected(target, channel, user="bob") as bob:
        me = await client_id(ann, channel)
        assert await ann.ask({"id": 2, "publish": {"channel": channel, "data": {"x": 1}}}) == {"id": 2, "publish": {}}
        expected = {
            "channel": channel,
            "pub": {"data": {"x": 1}, "info": {"user": "ann", "client": me}, "offset": 1},
        }
        assert await bob.push("pub") == expected
        assert await ann.push("pub") == expected
        assert ann.order.index("pub") < ann.order.index("reply 2")


async def test_publications_keep_their_order(target: Target) -> None:
    """Every subscriber sees the same, without a gap."""
    channel = fresh()
    async with connected(target, channel, user="ann") as ann, connected(target, channel) as other:
        await ann.send(*({"id": n, "publish": {"channel": channel, "data": n}} for n in range(2, 102)))
        for client in (ann, other):
            pushes = [(await client.push("pub"))["pub"] for _ in range(100)]
            assert [push["data"] for push in pushes] == list(range(2, 102))
            assert [push["offset"] for push in pushes] == list(range(1, 101))


async def test_joins_and_leaves_are_told(target: Target) -> None:
    """The one who joins sees it too, after its reply; the one who leaves does not."""
    channel = fresh()
    async with connected(target, channel, user="ann") as ann:
        await client_id(ann, channel)
        async with connected(target, channel, user="bob") as bob:
            me = await client_id(bob, channel)
            assert bob.order.index("reply 101") < bob.order.index("join")
            told = {"channel": channel, "join": {"info": {"user": "bob", "client": me}}}
            assert await ann.push("join") == told

            await bob.ask({"id": 2, "unsubscribe": {"channel": channel}})
            assert await ann.push("leave") == {"channel": channel, "leave": {"info": told["join"]["info"]}}  # type: ignore[index]
            assert "leave" not in bob.order

            await bob.ask({"id": 3, "subscribe": {"channel": channel}})
            assert await ann.push("join") == told
        assert (await ann.push("leave"))["leave"]["info"]["client"] == me


async def test_presence_lists_who_is_there(target: Target) -> None:
    """Connections by id, one user with two of them, and nobody without a name; they are gone as they leave."""
    channel = fresh()
    async with connected(target, channel, user="ann") as ann, connected(target, channel, user="ann") as again:
        mine, other = await client_id(ann, channel), await client_id(again, channel)
        assert await ann.ask({"id": 2, "presence": {"channel": channel}}) == {
            "id": 2,
            "presence": {
                "presence": {
                    mine: {"user": "ann", "client": mine},
                    other: {"user": "ann", "client": other},
                }
            },
        }
        async with connected(target, channel) as nobody:
            stats = {"num_clients": 3, "num_users": 2}
            assert await nobody.ask({"id": 2, "presence_stats": {"channel": channel}}) == {
                "id": 2,
                "presence_stats": stats,
            }
        await again.ask({"id": 2, "unsubscribe": {"channel": channel}})
        await ann.push("leave")
        await ann.push("leave")
        reply = await ann.ask({"id": 3, "presence": {"channel": channel}})
        assert list(reply["presence"]["presence"]) == [mine]


@only_ours("the reference tells presence to anybody")
async def test_presence_and_history_are_for_subscribers(target: Target) -> None:
    """Error 103 for others."""
    channel = fresh()
    async with connected(target, user="ann") as client:
        for number, method in enumerate(["presence", "presence_stats", "history"], 2):
            reply = await client.ask({"id": number, method: {"channel": channel}})
            assert reply == {"id": number, "error": {"code": 103, "message": "permission denied"}}


@only_ours("the reference has every option everywhere")
async def test_a_channel_without_options_has_nothing_but_publications(target: Target) -> None:
    """An empty reply, no offsets, error 108 for what it does not have, 103 for publishing."""
    channel = fresh("plain")
    async with connected(target, user="ann") as client:
        assert await client.ask({"id": 2, "subscribe": {"channel": channel}}) == {"id": 2, "subscribe": {}}
        await target.publish(channel, b"1")
        assert await client.push("pub") == {"channel": channel, "pub": {"data": 1}}
        for number, method in enumerate(["presence", "presence_stats", "history"], 3):
            reply = await client.ask({"id": number, method: {"channel": channel}})
            assert reply == {"id": number, "error": {"code": 108, "message": "not available"}}
        reply = await client.ask({"id": 9, "publish": {"channel": channel, "data": 1}})
        assert reply == {"id": 9, "error": {"code": 103, "message": "permission denied"}}
        assert client.pushes == []


@only_ours("the reference has every option everywhere")
async def test_recovering_a_channel_without_history_recovers_nothing(target: Target) -> None:
    """It says that it was asked to, and no position."""
    async with connected(target) as client:
        reply = await client.ask({"id": 2, "subscribe": {"channel": fresh("plain"), "recover": True, "epoch": "x"}})
        assert reply == {"id": 2, "subscribe": {"was_recovering": True}}


@only_ours("the reference lets everybody subscribe")
@pytest.mark.parametrize("namespace", ["members", "sealed"])
async def test_a_channel_for_others_is_error_103(target: Target, namespace: str) -> None:
    """Without a connection token, or without a subscription token."""
    async with connected(target) as client:
        reply = await client.ask({"id": 2, "subscribe": {"channel": f"{namespace}:a"}})
        assert reply == {"id": 2, "error": {"code": 103, "message": "permission denied"}}


@only_ours("the reference lets everybody subscribe")
async def test_a_channel_limited_to_users_is_error_103_for_others(target: Target) -> None:
    """Those after `#` may subscribe."""
    async with connected(target, user="bob") as client:
        reply = await client.ask({"id": 2, "subscribe": {"channel": "full:a#ann,eve"}})
        assert reply["error"]["code"] == 103
        assert "subscribe" in await client.ask({"id": 3, "subscribe": {"channel": "full:a#ann,bob"}})


@only_ours("the reference has no bound of subscribers")
async def test_a_full_channel_is_error_106(target: Target) -> None:
    """Until somebody leaves."""
    channel = fresh("small")
    async with connected(target, channel) as one, connected(target) as other:
        reply = await other.ask({"id": 2, "subscribe": {"channel": channel}})
        assert reply == {"id": 2, "error": {"code": 106, "message": "limit exceeded"}}
        await one.ask({"id": 2, "unsubscribe": {"channel": channel}})
        assert "subscribe" in await other.ask({"id": 3, "subscribe": {"channel": channel}})


@only_ours("the reference lets everybody publish")
async def test_publishing_where_one_may_not_is_error_103(target: Target) -> None:
    """Without being subscribed, or without a token."""
    refused = {"code": 103, "message": "permission denied"}
    talk = fresh("talk")
    async with connected(target, user="ann") as ann, connected(target) as nobody:
        assert (await ann.ask({"id": 2, "publish": {"channel": talk, "data": 1}}))["error"] == refused
        await ann.ask({"id": 3, "subscribe": {"channel": talk}})
        assert await ann.ask({"id": 4, "publish": {"channel": talk, "data": 1}}) == {"id": 4, "publish": {}}
        assert (await nobody.ask({"id": 2, "publish": {"channel": fresh(), "data": 1}}))["error"] == refused


@only_ours("the reference checks no subscription tokens")
async def test_a_subscription_token_opens_its_channel(target: Target) -> None:
    """With the time that it has left; `sub_refresh` gives more."""
    channel = fresh("sealed")
    async with connected(target, user="ann") as client:

        def token(seconds: float, of: str = channel, user: str = "ann") -> str:
            return target.subscription_token(user, of, exp=int(time.time() + seconds))

        async def subscribe(number: int, with_token: str) -> str:
            return json.dumps(await client.ask({"id": number, "subscribe": {"channel": channel, "token": with_token}}))

        assert '"code": 109' in await subscribe(2, token(-60))
        assert '"code": 103' in await subscribe(3, token(60, of=fresh("sealed")))
        assert '"code": 103' in await subscribe(4, token(60, user="bob"))
        assert '"expires": true' in await subscribe(5, token(60))

        reply = await client.ask({"id": 6, "sub_refresh": {"channel": channel, "token": token(600)}})
        assert 597 <= reply["sub_refresh"].pop("ttl") <= 600
        assert reply == {"id": 6, "sub_refresh": {"expires": True}}
        reply = await client.ask({"id": 7, "sub_refresh": {"channel": channel, "token": token(-60)}})
        assert reply["error"]["code"] in {109, 110}


@only_ours("the reference refreshes no subscriptions")
async def test_refreshing_a_subscription_that_is_none_is_error_103(target: Target) -> None:
    """Nobody is subscribed by refreshing."""
    channel = fresh("sealed")
    async with connected(target, user="ann") as client:
        token = target.subscription_token("ann", channel, exp=int(time.time()) + 600)
        reply = await client.ask({"id": 2, "sub_refresh": {"channel": channel, "token": token}})
        assert reply == {"id": 2, "error": {"code": 103, "message": "permission denied"}}
