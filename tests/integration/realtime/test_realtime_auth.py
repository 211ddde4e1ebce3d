"""Who a client is, by each of the four ways to say so, and what its tokens open; limits by address and client."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
import websockets
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from structlog.testing import capture_logs

from hookcast_app.realtime.protocol import MAX_MESSAGE
from hookcast_app.settings import ChannelOptions
from tests.integration.outgoing.endpoint import Endpoint
from tests.integration.realtime.server import PATIENCE, Client, Server, client, serving, token, until
from tests.support.app import running_app, settings_for

PAGE = "https://app.example"
OFFER = "centrifuge-json"
NAMESPACES = {
    "chat": ChannelOptions(subscribe="anyone", publish="subscribers"),
    "deals": ChannelOptions(subscribe="token", publish="nobody"),
}


@asynccontextmanager
async def guarded(redis_url: str, *, raw: bool = True, **changes: Any) -> AsyncIterator[Server]:
    """A server that takes no anonymous clients, and cookies of one other site."""
    settings = {
        "realtime_anonymous": False,
        "jwt_cookie": "session",
        "allowed_origins": (PAGE,),
        "channel_namespaces": NAMESPACES,
        **changes,
    }
    async with serving(redis_url, raw=raw, **settings) as server:
        yield server


def ways(shown: str) -> dict[str, dict[str, Any]]:
    """The handshake of each way to present a token, besides saying it first."""
    return {
        "query": {"query": f"?token={shown}"},
        "subprotocol": {"subprotocols": [f"token.{shown}", OFFER]},
        "cookie": {"additional_headers": {"Origin": PAGE, "Cookie": f"a=b; session={shown}; c=d"}},
    }


@asynccontextmanager
async def presenting(server: Server, *, query: str = "", **options: Any) -> AsyncIterator[Client]:
    asked = Server(server.realtime, server.redis, server.port, query)
    async with client(asked, connected=False, **options) as speaker:
        yield speaker


async def who(speaker: Client, said: str = "") -> Any:
    """Connects; the user that others would see, or the code of the error."""
    answer = await speaker.ask({"id": 1, "connect": {"token": said} if said else {}})
    if "error" in answer:
        return answer["error"]["code"]
    assert "subscribe" in await speaker.ask({"id": 2, "subscribe": {"channel": "chat:a"}})
    await speaker.send({"id": 3, "publish": {"channel": "chat:a", "data": 1}})
    first, second = await speaker.next(), await speaker.next()
    return (first if "push" in first else second)["push"]["pub"]["info"]["user"]


async def test_every_way_says_who_a_client_is(redis_url: str, raw: bool) -> None:  # noqa: FBT001
    """Query, subprotocol, cookie, first message: the same token, the same user; no way at all is refused."""
    async with guarded(redis_url, raw=raw) as server:
        for way in ways(token("ann")).values():
            async with presenting(server, **way) as speaker:
                assert await who(speaker) == "ann"
        async with presenting(server) as speaker:
            assert await who(speaker, token("ann")) == "ann"
        async with presenting(server) as speaker:
            assert await who(speaker) == 101


async def test_what_is_said_first_wins(redis_url: str) -> None:
    """Over what the handshake presented, good or bad; of that, the more deliberate way wins."""
    async with guarded(redis_url) as server:
        for presented in (token("bob"), "rubbish"):
            for way in ways(presented).values():
                async with presenting(server, **way) as speaker:
                    assert await who(speaker, token("ann")) == "ann"
        by = {name: ways(token(name))[name] for name in ("query", "subprotocol", "cookie")}
        async with presenting(server, **by["query"], **by["subprotocol"], **by["cookie"]) as speaker:
            assert await who(speaker) == "subprotocol"
        async with presenting(server, **by["query"], **by["cookie"]) as speaker:
            assert await who(speaker) == "query"


async def test_a_presented_token_is_judged_like_any_other(redis_url: str) -> None:
    """Expired is 109, which has clients fetch another one; what is no token of ours closes with 3500."""
    async with guarded(redis_url) as server:
        for way in ways(token("ann", exp=1)).values():
            async with presenting(server, **way) as speaker:
                assert await who(speaker) == 109
        for bad in ("rubbish", token("ann", channel="a"), jwt.encode({"sub": "ann"}, "x" * 32)):
            for way in ways(bad).values():
                async with presenting(server, **way) as speaker:
                    await speaker.send({"id": 1, "connect": {}})
                    assert await speaker.closed() == (3500, "invalid token")
        assert server.realtime.stats.refused == 12


async def test_a_token_as_the_only_subprotocol_is_refused_with_its_reason(redis_url: str) -> None:
    """What would be answered would be the token, or nothing, which browsers take for a failure."""
    async with guarded(redis_url) as server:
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with presenting(server, subprotocols=[f"token.{token('ann')}"]):
                pass

        assert refused.value.response.status_code == 400
        assert b"together with centrifuge-json" in (refused.value.response.body or b"")
        async with presenting(server, **ways(token("ann"))["subprotocol"]) as speaker:
            assert speaker.connection.subprotocol == OFFER


@pytest.mark.parametrize(
    ("headers", "allowed", "user"),
    [
        ({"Origin": PAGE}, (PAGE,), "ann"),
        ({"Origin": "own"}, (), "ann"),
        ({}, (PAGE,), 101),
        ({"Origin": PAGE}, ("*",), 101),
        ({"Origin": "own"}, ("*",), "ann"),
        ({"Sec-Fetch-Site": "same-origin"}, (PAGE,), 101),
    ],
)
async def test_a_cookie_counts_for_pages_that_are_known_to_be_good(
    redis_url: str, headers: dict[str, str], allowed: tuple[str, ...], user: Any
) -> None:
    """The server's own and those that are named; any other could act for its visitors. A script needs no cookie."""
    async with guarded(redis_url, allowed_origins=allowed) as server:
        sent = {name: server.http_url if value == "own" else value for name, value in headers.items()}
        async with presenting(server, additional_headers={**sent, "Cookie": f"session={token('ann')}"}) as speaker:
            assert await who(speaker) == user


async def test_without_the_setting_no_cookie_is_looked_at(redis_url: str) -> None:
    """It may belong to something else."""
    cookie = ways(token("ann"))["cookie"]
    async with guarded(redis_url, jwt_cookie=None) as server, presenting(server, **cookie) as speaker:
        assert await who(speaker) == 101


async def test_tokens_reach_no_log(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """By no way, good or bad, at any level of anything that logs."""
    good, bad = token("ann", jti="good"), token("ann", exp=1)
    with caplog.at_level("DEBUG"), capture_logs() as told:
        logging.getLogger("websockets.client").setLevel("INFO")  # the test's own client
        async with guarded(redis_url) as server:
            for shown in (good, bad):
                for way in ways(shown).values():
                    async with presenting(server, **way) as speaker:
                        assert await who(speaker) in {"ann", 109}
                async with presenting(server) as speaker:
                    assert await who(speaker, shown) in {"ann", 109}
                with pytest.raises(websockets.InvalidStatus):
                    async with presenting(server, subprotocols=[f"token.{shown}"]):
                        pass
                async with httpx.AsyncClient(timeout=PATIENCE) as http:
                    assert (await http.get(f"{server.http_url}/sse/x%23bob?token={shown}")).status_code in {401, 403}

    from_the_server = [record.getMessage() for record in caplog.records if not record.name.startswith("http")]
    logged = "\n".join([*from_the_server, *map(str, told)])
    assert "Started server process" in logged
    assert "websocket refused" in logged
    for shown in (good, bad):
        assert [part for part in shown.split(".")[1:] if part in logged] == []


async def test_an_event_stream_takes_the_cookie_too(redis_url: str) -> None:
    """Of its own site, as Fetch Metadata has it, and of named ones, with the leave that browsers ask for."""
    async with guarded(redis_url) as server, httpx.AsyncClient(base_url=server.http_url, timeout=PATIENCE) as http:

        async def status(**headers: str) -> int:
            headers = {name.replace("_", "-"): value for name, value in headers.items()}
            sent = {"Cookie": f"session={token('ann')}", **headers}
            async with http.stream("GET", "/sse/members", headers=sent) as answer:
                if "Origin" in headers and answer.status_code == 200:
                    assert answer.headers["access-control-allow-credentials"] == "true"
                return answer.status_code

        assert await status(Sec_Fetch_Site="same-origin") == 200
        assert await status(Origin=PAGE) == 200
        assert await status() == 401
        assert await status(Sec_Fetch_Site="cross-site") == 401
        assert await status(Origin="https://evil.example", Sec_Fetch_Site="same-origin") == 401


async def test_the_app_fetches_published_keys(redis_url: str, tmp_path: Path) -> None:
    """From its start, and for every transport."""
    key = ec.generate_private_key(ec.SECP256R1())
    described: dict[str, Any] = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    body = json.dumps({"keys": [{**described, "kid": "k"}]}).encode()

    async def publish(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    async with Endpoint(publish) as provider:
        settings = settings_for(redis_url, tmp_path, jwks_url=str(provider.url()), jwt_algorithms=("ES256", "HS256"))
        bearer = jwt.encode({"sub": "ann"}, key, "ES256", {"kid": "k"})
        async with running_app(settings) as app:
            headers = {"Authorization": f"Bearer {bearer}"}
            async with app.client.stream("GET", "/sse/private%23ann", headers=headers) as answer:
                assert answer.status_code == 200
        assert len(provider.requests) == 1


# What tokens open


async def test_a_token_namespace_wants_a_token_for_its_channel(redis_url: str, raw: bool) -> None:  # noqa: FBT001
    """Of this user; it may allow to publish as well. Expired is 109, anything else 103, and the client goes on."""
    async with guarded(redis_url, raw=raw) as server, presenting(server) as speaker:
        await speaker.ask({"id": 1, "connect": {"token": token("ann")}})
        subscribe: dict[str, Any] = {"channel": "deals:a"}

        async def code(shown: str | None) -> int:
            asked = subscribe if shown is None else {**subscribe, "token": shown}
            answer = await speaker.ask({"id": 2, "subscribe": asked})
            return int(answer["error"]["code"]) if "error" in answer else 0

        assert await code(None) == 103
        assert await code(token("ann")) == 103
        assert await code(token("bob", channel="deals:a")) == 103
        assert await code(token("ann", channel="deals:b")) == 103
        assert await code(token("ann", channel="deals:a", exp=1)) == 109
        assert await code(token("ann", channel="deals:a", allow=["pub"])) == 0
        await speaker.send({"id": 3, "publish": {"channel": "deals:a", "data": 1}})
        assert {"id": 3, "publish": {}} in [await speaker.next(), await speaker.next()]
        await speaker.ask({"id": 4, "unsubscribe": {"channel": "deals:a"}})
        refused = await speaker.ask({"id": 5, "publish": {"channel": "deals:a", "data": 1}})
        assert refused["error"]["code"] == 103


async def test_capabilities_of_a_connection_open_channels(redis_url: str) -> None:
    """Also for an anonymous user whom somebody signed a token for."""
    caps = [{"channels": ["deals:*"], "match": "wildcard", "allow": ["sub", "pub"]}]
    async with guarded(redis_url) as server, presenting(server) as speaker:
        await speaker.ask({"id": 1, "connect": {"token": token("", caps=caps)}})

        assert "subscribe" in await speaker.ask({"id": 2, "subscribe": {"channel": "deals:a"}})
        assert "publish" in await speaker.ask({"id": 3, "publish": {"channel": "deals:b", "data": 1}})
        assert (await speaker.ask({"id": 4, "subscribe": {"channel": "members"}}))["error"]["code"] == 103


# Limits


async def refusal(server: Server, **options: Any) -> websockets.Response:
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with presenting(server, **options):
            pass
    return refused.value.response


async def test_an_address_that_connects_too_fast_is_told_to_wait(redis_url: str) -> None:
    """429 for its handshakes and event streams; others are not affected, where proxies are trusted to name them."""
    async with guarded(redis_url, connects_per_second=1, trusted_proxies=("127.0.0.0/8",)) as server:
        for _ in range(2):
            async with presenting(server) as speaker:
                assert await who(speaker, token("ann")) == "ann"

        answer = await refusal(server)
        assert answer.status_code == 429
        assert int(answer.headers["Retry-After"]) > 0
        async with httpx.AsyncClient(base_url=server.http_url, timeout=PATIENCE) as http:
            assert (await http.get("/sse/chat:a")).status_code == 429
        async with presenting(server, additional_headers={"X-Forwarded-For": "198.51.100.7"}) as speaker:
            assert await who(speaker, token("ann")) == "ann"
        assert server.realtime.stats.refused_connects == 2


async def test_an_address_has_few_connections_without_an_identity(redis_url: str) -> None:
    """One that says who it is, or goes, makes room for the next."""
    async with guarded(redis_url, unauthenticated_connections=2) as server:
        async with presenting(server) as first, presenting(server):
            assert (await refusal(server)).status_code == 429
            assert await who(first, token("ann")) == "ann"
            async with presenting(server):
                assert (await refusal(server)).status_code == 429
        await until(lambda: server.realtime.stats.connections["websocket"] == 0)
        async with presenting(server), presenting(server):
            assert (await refusal(server)).status_code == 429
        assert server.realtime.stats.refused_waiting == 3


async def test_a_client_that_sends_too_much_is_closed_and_may_come_back(redis_url: str, raw: bool) -> None:  # noqa: FBT001
    """3013, also for many commands in one message; what came within the limit is answered."""
    async with guarded(redis_url, raw=raw, messages_per_second=5) as server:
        async with presenting(server) as speaker:
            commands = [{"id": number, "rpc": {}} for number in range(2, 200)]
            await speaker.send({"id": 1, "connect": {"token": token("ann")}}, *commands)
            answers = [await speaker.next() for _ in range(10)]

            assert [answer["id"] for answer in answers] == list(range(1, 11))
            assert await speaker.closed() == (3013, "too many requests")
        assert server.realtime.stats.hasty_closes == 1


async def test_a_token_that_is_too_large_is_refused(redis_url: str) -> None:
    """Before anything of it is decoded."""
    async with guarded(redis_url) as server, presenting(server) as speaker:
        await speaker.send({"id": 1, "connect": {"token": token("ann", info="x" * (MAX_MESSAGE // 2))}})
        assert await speaker.closed() == (3500, "invalid token")
