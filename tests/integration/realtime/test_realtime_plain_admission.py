"""WebSockets of typed messages: who is let in, who a client is taken for, and whose a client id is."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio
import websockets

from hookcast_app.realtime import claims
from hookcast_app.realtime.claims import Claims
from hookcast_app.realtime.context import Timing
from tests.integration.realtime.plain import NAMESPACES, QUIET, plain
from tests.integration.realtime.server import PATIENCE, Server, client, serving, token, until
from tests.support.channels import shards


@pytest_asyncio.fixture
async def server(redis_url: str, raw: bool) -> AsyncIterator[Server]:  # noqa: FBT001  a fixture
    """Messages, presence, joins and leaves, and a history of chats."""
    async with serving(redis_url, raw=raw, channel_namespaces=NAMESPACES) as running:
        yield running


@pytest.mark.parametrize("way", ["query", "subprotocol", "cookie", "message"])
async def test_a_token_is_presented_in_any_of_four_ways(redis_url: str, raw: bool, way: str) -> None:  # noqa: FBT001
    """The first message counts where there is no other; the subprotocol is what is answered."""
    changes: dict[str, Any] = {"realtime_anonymous": False, "jwt_cookie": "session", "channel_namespaces": QUIET}
    async with serving(redis_url, raw=raw, **changes) as server:
        options: dict[str, Any] = {}
        path, user = "/ws/chat/r/ann", None
        if way == "query":
            user = "ann"
        elif way == "subprotocol":
            options = {"subprotocols": ["hookcast-json", f"token.{token('ann')}"]}
        elif way == "cookie":
            headers = {"Cookie": f"session={token('ann')}", "Origin": server.http_url}
            options = {"additional_headers": headers}
        async with plain(server, path, user, welcomed=way != "message", **options) as ann:
            if way == "message":
                ann.welcome = await ann.ask({"type": "auth", "token": token("ann")})
            assert ann.welcome == {
                "type": "welcome",
                "client": ann.welcome["client"],
                "user": "ann",
                "channel": "chat:r",
            }
            assert ann.connection.subprotocol == ("hookcast-json" if way == "subprotocol" else None)


REFUSALS: dict[str, tuple[str, dict[str, Any], Any, tuple[int, str]]] = {
    "no token": ("/ws/c1", {}, {"type": "message", "data": 1}, (1008, "send a token first")),
    "nonsense instead": ("/ws/c1", {}, "nonsense", (1008, "send a token first")),
    "an empty token": ("/ws/c1", {}, {"type": "auth", "token": ""}, (1008, "send a token first")),
    "binary instead": ("/ws/c1", {}, b"x", (1003, "binary messages are not taken here")),
    "forged": ("/ws/c1", {}, {"type": "auth", "token": "forged"}, (1008, "invalid token")),
    "forged in the query": ("/ws/c1?token=forged", {}, None, (1008, "invalid token")),
    "expired": ("/ws/c1", {}, {"type": "auth", "token": token("ann", exp=1)}, (1008, "token expired")),
    "another user": (
        "/ws/chat/r/bob",
        {},
        {"type": "auth", "token": token("ann")},
        (1008, "the token is another user's"),
    ),
    "no user": ("/ws/chat/r/bob", {}, {"type": "auth", "token": token("")}, (1008, "the token is another user's")),
    "a room of others": (
        "/ws/chat/r%23bob,eve/ann",
        {},
        {"type": "auth", "token": token("ann")},
        (1008, "you may not listen here"),
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
async def test_who_is_not_let_in_is_told_why(redis_url: str, raw: bool, case: str) -> None:  # noqa: FBT001
    """With a code after which it need not come back as it is; nothing is left of it."""
    path, options, said, expected = REFUSALS[case]
    async with (
        serving(redis_url, raw=raw, realtime_anonymous=False, channel_namespaces=QUIET) as server,
        plain(server, path, welcomed=False, **options) as stranger,
    ):
        if said is not None:
            await stranger.send(said)
        assert await stranger.closed() == expected
        await until(lambda: server.realtime.stats.connections["plain"] == 0)
        assert not server.realtime._clients.all


async def test_who_does_not_say_who_it_is_in_time_is_closed(redis_url: str, raw: bool) -> None:  # noqa: FBT001
    """A handshake alone holds a connection for a bounded time; also where anonymous clients may, if it says so."""
    timing = Timing(connect=0.05)
    async with (
        serving(redis_url, raw=raw, timing=timing) as server,
        plain(server, "/ws/c1?auth=message", welcomed=False) as silent,
    ):
        assert await silent.closed() == (1008, "send a token first")


async def test_a_token_may_follow_where_nobody_needs_one(redis_url: str, raw: bool) -> None:  # noqa: FBT001
    """`?auth=message` says that it does; without it the client is in at once, and a token comes too late."""
    async with serving(redis_url, raw=raw, channel_namespaces=QUIET) as server:
        async with plain(server, "/ws/c1?auth=message", welcomed=False) as ann:
            assert (await ann.ask({"type": "auth", "token": token("ann")}))["user"] == "ann"
        async with plain(server, "/ws/c2") as nobody:
            assert nobody.welcome["user"] == ""
            assert (await nobody.ask({"type": "auth", "token": token("ann")}))["code"] == "InvalidRequest"


async def test_anonymous_clients_are_not_taken_for_others(server: Server) -> None:
    """They may call themselves what they like, and it is said that nobody has proved it."""
    async with plain(server, "/ws/chat/r/ann", "ann") as ann, plain(server, "/ws/chat/r/ann") as fake:
        assert await ann.next() == {"type": "join", "user": "ann", "anonymous": True}
        await fake.send({"type": "message", "data": 1})
        assert await ann.next() == {"type": "message", "from": "ann", "anonymous": True, "data": 1, "offset": 1}
    async with client(server) as session:
        await session.ask({"id": 2, "subscribe": {"channel": "chat:r"}})
        await session.send({"id": 3, "history": {"channel": "chat:r", "limit": -1}})
        while "history" not in (answer := await session.next()):
            pass
        assert answer["history"]["publications"][0]["info"]["user"] == ""


async def test_a_client_id_belongs_to_who_holds_it(redis_url: str, raw: bool) -> None:  # noqa: FBT001
    """In all processes, until its last connection has gone; its user may connect by it again, and each gets all."""
    async with (
        serving(redis_url, raw=raw, channel_namespaces=QUIET) as one,
        serving(redis_url, raw=raw, channel_namespaces=QUIET) as two,
    ):
        async with plain(one, "/ws/c1", "ann") as first, plain(two, "/ws/c1", "ann") as second:
            for server in (one, two):
                async with plain(server, "/ws/c1", "bob", welcomed=False) as bob:
                    assert await bob.closed() == (1008, "the client id is somebody else's")
            async with plain(two, "/ws/c2", "bob") as bob:
                await bob.send({"type": "direct", "to": "c1", "data": 1})
                assert (await first.next())["data"] == (await second.next())["data"] == 1
            await first.connection.close()
            await until(lambda: one.realtime.stats.connections["plain"] == 0)
            async with plain(one, "/ws/c1", "bob", welcomed=False) as bob:
                assert (await bob.closed())[0] == 1008
        await until(lambda: two.realtime.stats.connections["plain"] == 0)
        async with asyncio.timeout(PATIENCE):
            while await one.redis.keys("*:claim:*"):  # Redis hears of it in its own time
                await asyncio.sleep(0.005)
        async with plain(one, "/ws/c1", "bob"):
            pass


async def test_anonymous_clients_do_not_share_a_client_id(server: Server) -> None:
    """Any of them could else read what is for another."""
    async with plain(server, "/ws/c1"), plain(server, "/ws/c1", welcomed=False) as other:
        assert (await other.closed())[0] == 1008


async def test_direct_messages_for_nobody_are_told(server: Server) -> None:
    """The sender learns that they went nowhere."""
    async with plain(server, "/ws/c1", "ann") as ann:
        answer = await ann.ask({"type": "direct", "to": "c9", "data": 1})
        assert answer == {"type": "error", "code": "NotFound", "detail": "nobody is connected by this client id"}


async def test_direct_messages_are_not_kept(redis_url: str) -> None:
    """Whatever namespaces have by default: nothing of them stays in Redis."""
    namespaces = {"": {"subscribe": "anyone", "history_size": 5, "recover": True}}
    async with serving(redis_url, channel_namespaces=namespaces) as server, plain(server, "/ws/c1", "ann") as ann:
        await ann.send({"type": "direct", "to": "c1", "data": 1})
        assert await ann.next() == {"type": "direct", "from": "c1", "user": "ann", "data": 1}
        assert await server.redis.keys("*direct*") == []


async def test_others_cannot_listen_to_direct_messages(server: Server) -> None:
    """Their channel has a name that no client can name."""
    async with plain(server, "/ws/c1", "ann"), client(server) as session, httpx.AsyncClient() as http:
        answer = await session.ask({"id": 2, "subscribe": {"channel": "direct c1"}})
        assert answer["error"]["code"] == 107
        assert (await http.get(f"{server.http_url}/sse/direct%20c1")).status_code == 400


async def test_handshakes_are_judged_as_others(server: Server) -> None:
    """Foreign pages are refused, a token alone as a subprotocol too; a plain request is told to upgrade."""
    for options, status in (
        ({"additional_headers": {"Origin": "https://evil.example"}}, 403),
        ({"subprotocols": [f"token.{token('ann')}"]}, 400),
    ):
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with plain(server, "/ws/c1", **options):
                pass
        assert refused.value.response.status_code == status
    async with httpx.AsyncClient() as http:
        assert (await http.get(f"{server.http_url}/ws/c1")).status_code == 426


async def test_a_user_may_have_any_name(server: Server) -> None:
    """A slash is written as a path has it."""
    name = "auth0|a/b é"
    async with plain(server, f"/ws/chat/r/{quote(name, safe='')}", name) as ann:
        assert ann.welcome["members"] == [name]


async def test_a_claim_that_redis_forgot_is_given_up_to_who_has_it_now(redis_url: str) -> None:
    """A beat tells whoever lost it; what Redis merely forgot is claimed again."""
    async with serving(redis_url) as server:
        lost: list[str] = []
        ours, theirs = Claims(shards(server.redis), 0.02), Claims(shards(server.redis))
        assert await ours.claim("a", "user ann", "1", lambda: lost.append("a"))
        assert await ours.claim("b", "user ann", "1", lambda: lost.append("b"))
        await server.redis.flushall()
        assert await theirs.claim("a", "user bob", "2", lambda: None)
        running = asyncio.create_task(ours.run())
        await until(lambda: lost == ["a"])
        async with asyncio.timeout(PATIENCE):
            while not await ours.is_held("b"):
                await asyncio.sleep(0.005)
        running.cancel()
        await asyncio.wait({running})
        assert not await ours.claim("a", "user ann", "1", lambda: None)


async def test_a_claim_ends_after_a_crash(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """When nobody has said for some time that it is held."""
    monkeypatch.setattr(claims, "EXPIRY_SECONDS", 1)
    async with serving(redis_url) as server:
        crashed, other = Claims(shards(server.redis)), Claims(shards(server.redis))
        assert await crashed.claim("a", "user ann", "1", lambda: None)
        assert not await other.claim("a", "user bob", "2", lambda: None)
        async with asyncio.timeout(PATIENCE):
            while not await other.claim("a", "user bob", "2", lambda: None):
                await asyncio.sleep(0.05)
