"""History, recovery, and subscriptions that the server makes at connecting."""

from typing import Any

import pytest

from tests.integration.realtime.conformance.channels import HISTORY_SIZE, SHORT_HISTORY_SIZE, fresh
from tests.integration.realtime.conformance.raw import Speaker, connected, opened
from tests.integration.realtime.conformance.target import Target, only_ours


async def published(target: Target, count: int, channel: str = "") -> str:
    """A channel with publications of 1, 2 and so on, whose offsets are the same."""
    channel = channel or fresh()
    for number in range(1, count + 1):
        await target.publish(channel, b"%d" % number)
    return channel


async def position(client: Speaker, channel: str) -> Any:
    """The top of a channel; subscribes to it."""
    reply = (await client.ask({"id": 900, "subscribe": {"channel": channel}}))["subscribe"]
    return {"epoch": reply["epoch"], "offset": reply.get("offset", 0)}


async def filled(client: Speaker) -> str:
    """A channel whose history has lost its first three publications; they are by the client."""
    channel = fresh()
    numbers = range(1, HISTORY_SIZE + 4)
    for start in numbers[::200]:
        some = numbers[start - 1 : start + 199]
        await client.send(*({"id": n, "publish": {"channel": channel, "data": n}} for n in some))
        for number in some:
            assert "publish" in await client.reply(number)
    return channel


def pubs(*numbers: int) -> list[Any]:
    """Publications of the server."""
    return [{"data": number, "offset": number} for number in numbers]


async def test_history_of_nothing(target: Target) -> None:
    """Here zeros and empty lists are written out."""
    channel = fresh()
    async with connected(target, user="ann") as client:
        top = await position(client, channel)
        assert await client.ask({"id": 2, "history": {"channel": channel, "limit": 10}}) == {
            "id": 2,
            "history": {"publications": [], "epoch": top["epoch"], "offset": 0},
        }


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({}, []),
        ({"limit": 0}, []),
        ({"limit": 2}, [1, 2]),
        ({"limit": 9}, [1, 2, 3, 4, 5]),
        ({"limit": -1}, [1, 2, 3, 4, 5]),
        ({"limit": 2, "reverse": True}, [5, 4]),
        ({"limit": -1, "reverse": True}, [5, 4, 3, 2, 1]),
        ({"limit": -1, "since": 3}, [4, 5]),
        ({"limit": 1, "since": 3}, [4]),
        ({"since": 3}, []),
        ({"limit": -1, "since": 0}, [1, 2, 3, 4, 5]),
        ({"limit": -1, "since": 5}, []),
        ({"limit": -1, "since": 9}, []),
        ({"limit": -1, "since": 3, "reverse": True}, [2, 1]),
        ({"limit": 1, "since": 3, "reverse": True}, [2]),
        ({"limit": -1, "since": 1, "reverse": True}, []),
        ({"limit": -1, "since": 9, "reverse": True}, []),
    ],
    ids=str,
)
async def test_history_gives_what_is_asked(target: Target, request_: Any, expected: list[int]) -> None:
    """No limit: the position alone; -1: all; `since` excludes its own offset; reverse goes back from there."""
    channel = await published(target, 5)
    async with connected(target, user="ann") as client:
        epoch = (await position(client, channel))["epoch"]
        if "since" in request_:
            request_ = {**request_, "since": {"offset": request_["since"], "epoch": epoch}}
        assert await client.ask({"id": 2, "history": {"channel": channel, **request_}}) == {
            "id": 2,
            "history": {"publications": pubs(*expected), "epoch": epoch, "offset": 5},
        }


async def test_history_of_another_epoch_is_error_112(target: Target) -> None:
    """What was counted otherwise cannot be continued; no epoch stands for the one that is."""
    channel = await published(target, 3)
    async with connected(target, user="ann") as client:
        await position(client, channel)
        ask = {"channel": channel, "limit": -1}
        assert await client.ask({"id": 2, "history": {**ask, "since": {"offset": 1, "epoch": "other"}}}) == {
            "id": 2,
            "error": {"code": 112, "message": "unrecoverable position"},
        }
        reply = await client.ask({"id": 3, "history": {**ask, "since": {"offset": 1, "epoch": ""}}})
        assert reply["history"]["publications"] == pubs(2, 3)


async def test_history_back_from_nothing_is_error_107(target: Target) -> None:
    """There is nothing before offset 0."""
    channel = await published(target, 3)
    async with connected(target, user="ann") as client:
        epoch = (await position(client, channel))["epoch"]
        since = {"offset": 0, "epoch": epoch}
        reply = await client.ask(
            {"id": 2, "history": {"channel": channel, "limit": -1, "reverse": True, "since": since}}
        )
        assert reply == {"id": 2, "error": {"code": 107, "message": "bad request"}}


async def test_history_shows_who_published(target: Target) -> None:
    """As the push did."""
    channel = fresh()
    async with connected(target, channel, user="ann") as client:
        await client.ask({"id": 2, "publish": {"channel": channel, "data": {"x": 1}}})
        push = (await client.push("pub"))["pub"]
        assert push["info"]["user"] == "ann"
        reply = await client.ask({"id": 3, "history": {"channel": channel, "limit": 1}})
        assert reply["history"]["publications"] == [push]


async def test_history_is_bounded(target: Target) -> None:
    """The oldest go first; since before them, what is left is given."""
    async with connected(target, user="ann") as client:
        channel = await filled(client)
        epoch = (await position(client, channel))["epoch"]
        for since in (None, 0, 2, 3):
            ask = {"channel": channel, "limit": 1}
            if since is not None:
                ask["since"] = {"offset": since, "epoch": epoch}
            reply = await client.ask({"id": 2000, "history": ask})
            assert [pub["offset"] for pub in reply["history"]["publications"]] == [4]


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        ({"offset": 3}, {"recovered": True, "offset": 3, "publications": pubs(4, 5)}),
        ({"offset": 0}, {"recovered": True, "publications": pubs(1, 2, 3, 4, 5)}),
        ({"offset": 5}, {"recovered": True, "offset": 5}),
        ({"offset": 9}, {"offset": 5}),
        ({"offset": 3, "epoch": "other"}, {"offset": 5}),
        ({"offset": 0, "epoch": "other"}, {"offset": 5}),
        ({"offset": 5, "epoch": "other"}, {"offset": 5}),
        ({"offset": 3, "epoch": ""}, {"recovered": True, "offset": 3, "publications": pubs(4, 5)}),
        ({"epoch": ""}, {"recovered": True, "publications": pubs(1, 2, 3, 4, 5)}),
    ],
    ids=str,
)
async def test_recovery(target: Target, since: Any, expected: Any) -> None:
    """All that was missed, or nothing: then the position to go on from.

    Where something is recovered, `offset` is the one that was asked from.
    """
    channel = await published(target, 5)
    async with connected(target) as one, connected(target) as client:
        epoch = (await position(one, channel))["epoch"]
        ask = {"channel": channel, "recover": True, "epoch": epoch, **since}
        assert await client.ask({"id": 2, "subscribe": ask}) == {
            "id": 2,
            "subscribe": {"recoverable": True, "positioned": True, "was_recovering": True, "epoch": epoch, **expected},
        }
        await target.publish(channel, b"6")
        assert (await client.push("pub"))["pub"] == {"data": 6, "offset": 6}


@pytest.mark.parametrize("epoch", ["", "other"])
async def test_recovery_where_nothing_was_published(target: Target, epoch: str) -> None:
    """Somebody who knows no epoch has missed nothing; of another epoch, nobody can say."""
    async with connected(target) as client:
        ask = {"channel": fresh(), "recover": True, "epoch": epoch, "offset": 0}
        reply = (await client.ask({"id": 2, "subscribe": ask}))["subscribe"]
        assert reply.pop("epoch") not in {"", "other"}
        assert reply.pop("recovered", False) is (not epoch)
        assert reply == {"recoverable": True, "positioned": True, "was_recovering": True}


@only_ours("its histories are all of one length, which the next test tries")
async def test_recovery_from_before_a_short_history(target: Target) -> None:
    """As far as it reaches."""
    kept = SHORT_HISTORY_SIZE
    channel = await published(target, 2 + kept, fresh("short"))
    async with connected(target) as one:
        epoch = (await position(one, channel))["epoch"]
        for offset, recovered in ((0, False), (1, False), (2, True), (3, True)):
            async with connected(target) as client:
                ask = {"channel": channel, "recover": True, "epoch": epoch, "offset": offset}
                reply = (await client.ask({"id": 2, "subscribe": ask}))["subscribe"]
                assert reply.get("recovered", False) is recovered
                missed = range(offset + 1, 3 + kept) if recovered else ()
                assert reply.get("publications", []) == pubs(*missed)


async def test_recovery_from_before_the_history(target: Target) -> None:
    """`recovered` is left out, and nothing partial is given."""
    async with connected(target, user="ann") as one:
        channel = await filled(one)
        epoch = (await position(one, channel))["epoch"]
        for offset, missed in ((0, 0), (2, 0), (3, HISTORY_SIZE), (4, HISTORY_SIZE - 1)):
            async with connected(target) as client:
                ask = {"channel": channel, "recover": True, "epoch": epoch, "offset": offset}
                reply = (await client.ask({"id": 2, "subscribe": ask}))["subscribe"]
                assert reply.get("recovered", False) is (missed > 0)
                assert len(reply.get("publications", [])) == missed
                assert reply["offset"] == (offset if missed else HISTORY_SIZE + 3)


@only_ours("the reference keeps whole histories only")
async def test_the_last_publication_comes_with_the_subscription(target: Target) -> None:
    """Where a channel caches it: to whoever recovers, from wherever."""
    channel = await published(target, 3, fresh("last"))
    async with connected(target) as client:
        ask = {"channel": channel, "recover": True, "epoch": "", "offset": 0}
        reply = (await client.ask({"id": 2, "subscribe": ask}))["subscribe"]
        assert [pub["data"] for pub in reply["publications"]] == [3]


async def test_subscriptions_of_a_token(target: Target) -> None:
    """They are in the connect reply, and publications follow; subscribing to one is error 105."""
    used, unused = await published(target, 2), fresh()
    async with opened(target) as client:
        token = target.token("ann", channels=[used, unused])
        subs = (await client.ask({"id": 1, "connect": {"token": token}}))["connect"]["subs"]
        assert subs[used].pop("epoch")
        assert subs[unused].pop("epoch")
        position = {"recoverable": True, "positioned": True}
        assert subs == {used: {**position, "offset": 2}, unused: position}
        for _ in range(2):
            assert (await client.push("join"))["join"]["info"]["user"] == "ann"
        await target.publish(unused, b"1")
        assert await client.push("pub") == {"channel": unused, "pub": {"data": 1, "offset": 1}}
        assert (await client.ask({"id": 2, "subscribe": {"channel": used}}))["error"]["code"] == 105
        assert await client.ask({"id": 3, "unsubscribe": {"channel": used}}) == {"id": 3, "unsubscribe": {}}


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        ({"offset": 3}, {"recovered": True, "offset": 3, "publications": pubs(4, 5)}),
        ({"offset": 5}, {"recovered": True, "offset": 5}),
        ({"offset": 9}, {"offset": 5}),
        ({"offset": 3, "epoch": "other"}, {"offset": 5}),
    ],
    ids=str,
)
async def test_recovery_of_subscriptions_of_a_token(target: Target, since: Any, expected: Any) -> None:
    """As with the client's own; what else it asks to recover there is not subscribed to."""
    channel, foreign = await published(target, 5), fresh()
    async with connected(target) as one, opened(target) as client:
        epoch = (await position(one, channel))["epoch"]
        subs = {channel: {"recover": True, "epoch": epoch, **since}, foreign: {"recover": True}}
        request = {"token": target.token("ann", channels=[channel]), "subs": subs}
        reply = await client.ask({"id": 1, "connect": request})
        common = {"recoverable": True, "positioned": True, "was_recovering": True, "epoch": epoch}
        assert reply["connect"]["subs"] == {channel: {**common, **expected}}
