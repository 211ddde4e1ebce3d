"""Connecting, being refused, refreshing, being disconnected, and what is no protocol."""

import time
from typing import Any

import pytest

from hookcast_app.realtime.context import Timing
from tests.integration.realtime.conformance.channels import fresh
from tests.integration.realtime.conformance.raw import connected, opened
from tests.integration.realtime.conformance.target import Target, only_ours, ours


async def test_connect_tells_id_and_pings(target: Target) -> None:
    """Fields that say nothing are left out; `session` and `node` are for emulation."""
    async with opened(target) as client:
        reply = await client.ask({"id": 7, "connect": {}})
        assert reply["id"] == 7
        assert reply["connect"].pop("client")
        assert reply["connect"].pop("version", "x")
        assert reply["connect"] == {"ping": 25, "pong": True}


async def test_connect_ids_differ(target: Target) -> None:
    """Each connection is a client of its own."""
    async with opened(target) as one, opened(target) as other:
        first, second = [(await client.ask({"id": 1, "connect": {}}))["connect"]["client"] for client in (one, other)]
        assert first != second


async def test_connect_takes_what_clients_send_besides(target: Target) -> None:
    """Data, name, version, headers, flags and fields of later versions do no harm."""
    more = {"data": {"a": 1}, "name": "js", "version": "1.0", "headers": {"x": "y"}, "flag": 1, "later": [1]}
    async with opened(target) as client:
        assert "connect" in await client.ask({"id": 1, "connect": more, "later": 1})


async def test_connect_with_a_token_is_the_user(target: Target) -> None:
    """`sub` is who it is; a token that never expires asks for no refresh."""
    channel = fresh()
    async with connected(target, channel, user="ann") as client:
        assert (await client.push("join"))["join"]["info"]["user"] == "ann"


async def test_connect_with_an_expiring_token_tells_when(target: Target) -> None:
    """`ttl` is in seconds."""
    async with opened(target) as client:
        token = target.token("ann", exp=int(time.time()) + 600)
        reply = (await client.ask({"id": 1, "connect": {"token": token}}))["connect"]
        assert reply["expires"] is True
        assert 597 <= reply["ttl"] <= 600


async def test_connect_without_a_sound_token_is_closed(target: Target) -> None:
    """3500: the client must not come back with it."""
    async with opened(target) as client:
        await client.send({"id": 1, "connect": {"token": "forged"}})
        assert await client.closed() == (3500, "invalid token")
        assert client.order == []


@only_ours("the reference does not check signatures")
async def test_connect_with_another_signature_is_closed(target: Target) -> None:
    """3500 as well."""
    async with opened(target) as client:
        await client.send({"id": 1, "connect": {"token": target.token("ann")[:-6] + "AAAAAA"}})
        assert await client.closed() == (3500, "invalid token")


async def test_connect_with_an_expired_token_is_error_109(target: Target) -> None:
    """The client gets itself another one."""
    async with opened(target) as client:
        reply = await client.ask({"id": 1, "connect": {"token": target.token("ann", exp=1)}})
        assert reply == {"id": 1, "error": {"code": 109, "message": "token expired"}}


@only_ours("whether somebody without a token may connect is a setting")
async def test_connect_without_a_token_is_error_101(redis_url: str) -> None:
    """Where only those with a token may connect."""
    async with ours(redis_url, realtime_anonymous=False) as target, opened(target) as client:
        assert await client.ask({"id": 1, "connect": {}}) == {
            "id": 1,
            "error": {"code": 101, "message": "unauthorized"},
        }


@pytest.mark.parametrize(
    "text",
    [
        '{"id":1,"subscribe":{"channel":"full:a"}}',
        '{"connect":{}}',
        "{}",
        "{bad",
        "[]",
        "1",
        "",
    ],
)
async def test_what_is_no_connect_is_closed(target: Target, text: str) -> None:
    """3501, whatever comes first and is no connect command with an id."""
    async with opened(target) as client:
        await client.send_text(text)
        assert await client.closed() == (3501, "bad request")


@pytest.mark.parametrize(
    "command",
    [
        pytest.param({"id": 2, "connect": {}}, id="connect again"),
        pytest.param({"id": 2}, id="no method"),
        pytest.param({"id": 2, "ping": {}}, id="ping"),
        pytest.param({"id": 2, "unheard": {}}, id="unheard"),
        pytest.param({}, id="pong"),
        pytest.param({"subscribe": {"channel": "full:a"}}, id="no id"),
        pytest.param({"id": 2, "subscribe": {"channel": ""}}, id="subscribe"),
        pytest.param({"id": 2, "unsubscribe": {"channel": ""}}, id="unsubscribe"),
        pytest.param({"id": 2, "unsubscribe": {}}, id="unsubscribe nothing"),
        pytest.param({"id": 2, "publish": {"data": 1}}, id="publish nowhere"),
        pytest.param({"id": 2, "publish": {"channel": "full:a"}}, id="publish nothing"),
        pytest.param({"id": 2, "presence": {}}, id="presence"),
        pytest.param({"id": 2, "presence_stats": {}}, id="presence_stats"),
        pytest.param({"id": 2, "history": {}}, id="history"),
    ],
)
async def test_a_command_without_what_it_needs_is_closed(target: Target, command: Any) -> None:
    """3501: a second connect, no id, no channel, no data, an unknown method, a pong that nobody asked for."""
    async with connected(target, user="ann") as client:
        await client.send(command)
        assert await client.closed() == (3501, "bad request")


async def test_a_message_too_big_is_closed(target: Target) -> None:
    """1009: clients stay away, since it would happen again."""
    async with connected(target, user="ann") as client:
        await client.send({"id": 2, "publish": {"channel": fresh(), "data": "x" * 70_000}})
        assert (await client.closed())[0] == 1009


async def test_commands_of_one_message_are_answered_by_id(target: Target) -> None:
    """Each has its reply, in order, and a bad line undoes none before it."""
    channel = fresh()
    async with opened(target) as client:
        await client.send(
            {"id": 11, "connect": {"token": target.token("ann")}},
            {"id": 12, "subscribe": {"channel": channel}},
            {"id": 13, "publish": {"channel": channel, "data": 1}},
            {"id": 14, "unsubscribe": {"channel": channel}},
        )
        assert "subscribe" in await client.reply(12)
        assert await client.reply(14) == {"id": 14, "unsubscribe": {}}
        assert [what for what in client.order if what.startswith("reply")] == [f"reply {n}" for n in (11, 12, 13, 14)]
        await client.send_text(f'{{"id":15,"subscribe":{{"channel":"{channel}"}}}}\n{{bad')
        assert await client.closed() == (3501, "bad request")
        assert "subscribe" in await client.reply(15)


async def test_an_error_leaves_the_rest_of_the_message_alone(target: Target) -> None:
    """A refused command is answered, and those after it as well."""
    async with connected(target) as client:
        await client.send(
            {"id": 2, "subscribe": {"channel": "x" * 256}},
            {"id": 3, "unsubscribe": {"channel": "full:a"}},
        )
        assert (await client.reply(2))["error"]["code"] == 107
        assert await client.reply(3) == {"id": 3, "unsubscribe": {}}


async def test_refresh_gives_a_connection_more_time(target: Target) -> None:
    """Or ends its expiry, with a token that has none."""
    async with connected(target, user="ann", exp=int(time.time()) + 60) as client:
        later = target.token("ann", exp=int(time.time()) + 600)
        reply = await client.ask({"id": 2, "refresh": {"token": later}})
        assert 597 <= reply["refresh"].pop("ttl") <= 600
        assert reply == {"id": 2, "refresh": {"expires": True}}
        assert await client.ask({"id": 3, "refresh": {"token": target.token("ann")}}) == {"id": 3, "refresh": {}}


async def test_refresh_with_an_expired_token_is_error_110(target: Target) -> None:
    """`expired`; the connection keeps the time that it has."""
    async with connected(target, user="ann", exp=int(time.time()) + 60) as client:
        reply = await client.ask({"id": 2, "refresh": {"token": target.token("ann", exp=1)}})
        assert reply == {"id": 2, "error": {"code": 110, "message": "expired"}}
        await client.settled()


async def test_refresh_with_a_forged_token_is_closed(target: Target) -> None:
    """3500, as at connecting."""
    async with connected(target, user="ann", exp=int(time.time()) + 60) as client:
        await client.send({"id": 2, "refresh": {"token": "forged"}})
        assert await client.closed() == (3500, "invalid token")


async def test_refresh_of_a_connection_without_a_token_is_closed(target: Target) -> None:
    """3501: it has nothing to refresh."""
    async with connected(target) as client:
        await client.send({"id": 2, "refresh": {"token": target.token("ann")}})
        assert await client.closed() == (3501, "bad request")


async def test_refresh_makes_a_connection_expire(target: Target) -> None:
    """One that had a token without an end can be given one."""
    async with connected(target, user="ann") as client:
        reply = await client.ask({"id": 2, "refresh": {"token": target.token("ann", exp=int(time.time()) + 600)}})
        assert 597 <= reply["refresh"].pop("ttl") <= 600
        assert reply == {"id": 2, "refresh": {"expires": True}}


async def test_refresh_without_a_token_is_closed(target: Target) -> None:
    """3501."""
    async with connected(target, user="ann", exp=int(time.time()) + 60) as client:
        await client.send({"id": 2, "refresh": {"token": ""}})
        assert await client.closed() == (3501, "bad request")


@only_ours("elsewhere it takes 25 s and more")
async def test_pings_are_sent_and_answered(redis_url: str) -> None:
    """`{}` both ways; a second answer to one ping is 3501."""
    async with ours(redis_url, timing=Timing(ping=0.2, pong=0.15)) as target, connected(target) as client:
        for _ in range(3):
            await client.ping()
        client.answers_pings = False
        await client.ping()
        await client.send_text("{}\n{}")
        assert await client.closed() == (3501, "bad request")


@only_ours("elsewhere it takes 35 s and more")
async def test_a_client_that_answers_no_ping_is_closed(redis_url: str) -> None:
    """3012: it may come back."""
    async with ours(redis_url, timing=Timing(ping=0.2, pong=0.15)) as target, connected(target) as client:
        client.answers_pings = False
        assert await client.closed() == (3012, "no pong")


@only_ours("elsewhere it takes 15 s")
async def test_a_client_that_says_nothing_is_closed(redis_url: str) -> None:
    """3502."""
    async with ours(redis_url, timing=Timing(connect=0.1)) as target, opened(target) as client:
        assert await client.closed() == (3502, "stale")


async def test_disconnecting_a_user_is_final(target: Target) -> None:
    """3503, unless the caller says otherwise; others stay."""
    async with connected(target, user="ann") as ann, connected(target, user="bob") as bob:
        await target.disconnect("ann")
        assert await ann.closed() == (3503, "force disconnect")
        await bob.settled()


async def test_rpc_of_a_method_that_nobody_has_is_an_error(target: Target) -> None:
    """104 where there are methods, 108 where there are none; with or without data and a name."""
    async with connected(target, user="ann") as client:
        for number, request in enumerate([{"method": "unheard", "data": {}}, {"method": "unheard"}, {}], 2):
            assert (await client.ask({"id": number, "rpc": request}))["error"]["code"] in {104, 108}


@only_ours("the reference has no methods")
async def test_rpc_gives_what_the_method_returns(target: Target) -> None:
    """`echo` answers with its data."""
    async with connected(target, user="ann") as client:
        assert await client.ask({"id": 2, "rpc": {"method": "echo", "data": {"a": [1]}}}) == {
            "id": 2,
            "rpc": {"data": {"a": [1]}},
        }
        assert (await client.ask({"id": 3, "rpc": {"method": "unheard"}}))["error"] == {
            "code": 104,
            "message": "method not found",
        }


async def test_send_to_nobody_is_closed(target: Target) -> None:
    """3508: a message that is not answered cannot be refused in any other way."""
    async with connected(target, user="ann") as client:
        await client.send({"send": {"data": 1}})
        assert await client.closed() == (3508, "not available")
