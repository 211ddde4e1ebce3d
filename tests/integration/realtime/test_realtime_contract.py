"""What a client on a WebSocket is promised, whichever way the server writes."""

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
import websockets
from structlog.testing import capture_logs

from hookcast_app.realtime.context import Timing
from hookcast_app.realtime.effects import Effect
from hookcast_app.realtime.protocol import MAX_MESSAGE
from hookcast_app.realtime.session import MAX_SUBSCRIPTIONS, Session
from tests.integration.realtime.server import PATIENCE, Server, client, serving, token, until


async def test_connect_is_answered_with_what_clients_need(server: Server) -> None:
    """A client learns its id and when to expect pings; nothing is announced that is not offered."""
    async with client(server, connected=False) as one, client(server, connected=False) as two:
        first, second = await one.ask({"id": 1, "connect": {}}), await two.ask({"id": 7, "connect": {"unknown": 1}})

    assert first["id"] == 1
    assert second["id"] == 7
    assert first["connect"]["client"] != second["connect"]["client"]
    assert first["connect"]["version"].startswith("hookcast ")
    assert first["connect"] | {"client": "", "version": ""} == {"client": "", "version": "", "ping": 25, "pong": True}


async def test_a_publication_reaches_every_subscriber_in_order(server: Server) -> None:
    """Within a channel every subscriber sees the same publications in the same order, each once."""
    async with client(server, "open:a") as one, client(server, "open:a", "open:b") as two:
        for number in range(200):
            await server.realtime.publish("open:a", b'{"n":%d}' % number)

        expected = [{"push": {"channel": "open:a", "pub": {"data": {"n": number}}}} for number in range(200)]
        assert [await one.next() for _ in range(200)] == expected
        assert [await two.next() for _ in range(200)] == expected


@pytest.mark.parametrize("size", [1, 100, 125, 126, 200, 65_000, 70_000, 2_000_000])
async def test_publications_of_every_size_arrive_whole(server: Server, size: int) -> None:
    """Frames of each length form, and one larger than a slow client's whole allowance, are read by a stock client."""
    async with client(server, "open:a", max_size=None) as reader:
        await server.realtime.publish("open:a", b'"%b"' % (b"x" * size))

        assert (await reader.next())["push"]["pub"]["data"] == "x" * size


async def test_data_over_several_lines_stays_one_message(server: Server) -> None:
    """Line breaks separate messages of the protocol, so those within JSON do not get through."""
    async with client(server, "open:a") as reader:
        await server.realtime.publish("open:a", b'{\r\n"a": 1,\n"b": "\\n"}')

        assert (await reader.next())["push"]["pub"]["data"] == {"a": 1, "b": "\n"}


async def test_commands_of_one_message_are_answered_in_order(server: Server) -> None:
    """A client may send several commands at once."""
    async with client(server, connected=False) as batch:
        await batch.send(
            {"id": 1, "connect": {}},
            {"id": 2, "subscribe": {"channel": "chat:a"}},
            {"id": 3, "publish": {"channel": "chat:a", "data": 1}},
            {"id": 4, "unsubscribe": {"channel": "chat:a"}},
        )
        seen = [await batch.next()]
        while seen[-1].get("id") != 4:
            seen.append(await batch.next())

    assert [reply["id"] for reply in seen if "push" not in reply] == [1, 2, 3, 4]


async def test_a_message_in_a_binary_frame_counts_the_same(server: Server) -> None:
    """Clients may send text as bytes."""
    async with client(server, connected=False) as binary:
        await binary.connection.send(b'{"id":1,"connect":{}}')

        assert "connect" in await binary.next()


async def test_unsubscribed_means_no_more_publications(server: Server) -> None:
    """After the answer to unsubscribe nothing of the channel arrives, and it can be subscribed to again."""
    async with client(server, "open:a", "open:b") as leaver:
        assert await leaver.ask({"id": 9, "unsubscribe": {"channel": "open:a"}}) == {"id": 9, "unsubscribe": {}}
        await server.realtime.publish("open:a", b"1")
        await server.realtime.publish("open:b", b"2")
        assert (await leaver.next())["push"]["channel"] == "open:b"

        assert await leaver.ask({"id": 10, "subscribe": {"channel": "open:a"}}) == {"id": 10, "subscribe": {}}
        await server.realtime.publish("open:a", b"3")
        assert (await leaver.next())["push"] == {"channel": "open:a", "pub": {"data": 3}}


async def test_a_client_may_publish_where_its_namespace_allows(server: Server) -> None:
    """Subscribers of a `subscribers` channel can publish, and it says who did; nobody can elsewhere."""
    async with client(server, "chat:a") as listener, client(server, connected=False) as author:
        credentials = {"token": token("ann", info={"name": "Ann"})}
        hello = await author.ask({"id": 1, "connect": credentials})
        publish = {"publish": {"channel": "chat:a", "data": {"text": "hi"}}}
        refused = await author.ask({"id": 2, **publish})
        await author.ask({"id": 3, "subscribe": {"channel": "chat:a"}})
        await author.send({"id": 4, **publish})
        answers = [await author.next(), await author.next()]

        info = {"user": "ann", "client": hello["connect"]["client"], "conn_info": {"name": "Ann"}}
        pub = {"data": {"text": "hi"}, "info": info}
        assert refused == {"id": 2, "error": {"code": 103, "message": "permission denied"}}
        assert {"id": 4, "publish": {}} in answers
        assert {"push": {"channel": "chat:a", "pub": pub}} in answers
        assert await listener.next() == {"push": {"channel": "chat:a", "pub": pub}}
        assert server.realtime.stats.client_publications == 1


async def test_limits_are_answered_with_their_codes(server: Server) -> None:
    """128 subscriptions a client, subscribers a channel, and names of the allowed characters."""
    async with client(server, *(f"open:{number}" for number in range(MAX_SUBSCRIPTIONS - 1))) as hoarder:
        assert "subscribe" in await hoarder.ask({"id": 500, "subscribe": {"channel": "small:a"}})
        assert (await hoarder.ask({"id": 501, "subscribe": {"channel": "open:more"}}))["error"]["code"] == 106
        assert (await hoarder.ask({"id": 502, "subscribe": {"channel": "open:1"}}))["error"]["code"] == 105
        async with client(server) as late:
            assert (await late.ask({"id": 2, "subscribe": {"channel": "small:a"}}))["error"]["code"] == 106
            assert (await late.ask({"id": 3, "subscribe": {"channel": "a b"}}))["error"]["code"] == 107
            assert (await late.ask({"id": 4, "subscribe": {"channel": "a" * 256}}))["error"]["code"] == 107
            assert (await late.ask({"id": 5, "subscribe": {"channel": "members"}}))["error"]["code"] == 103


async def test_subscribers_that_come_together_do_not_exceed_the_limit(server: Server) -> None:
    """Whoever would be one too many when Redis has confirmed is refused, on a WebSocket and on an event stream."""
    async with AsyncExitStack() as stack:
        many = [await stack.enter_async_context(client(server)) for _ in range(5)]
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=PATIENCE))
        await server.redis.client_pause(300)
        for each in many:
            await each.send({"id": 2, "subscribe": {"channel": "small:a"}})
        context = server.realtime._endpoint._context
        await until(lambda: "small:a" in server.realtime._broker._feeds)
        assert not context.is_full("small:a")
        late = asyncio.create_task(http.get(f"{server.http_url}/sse/small:a"))
        answers = [await each.next() for each in many]

        assert sorted(answer.get("error", {}).get("code", 0) for answer in answers) == [0, 106, 106, 106, 106]
        assert (await late).status_code == 403
        assert server.subscribers("small:a") == server.realtime._broker._feeds["small:a"].users == 1


@pytest.mark.parametrize("data", ["nonsense", "", '{"id":1', '{"id":-1}', '{"id":"1"}', "[]", b"\xff"])
async def test_what_is_no_command_ends_the_connection(server: Server, data: str | bytes) -> None:
    """Malformed input is closed with 3501, after which clients do not come back."""
    async with client(server) as clumsy:
        await clumsy.connection.send(data)

        assert await clumsy.closed() == (3501, "bad request")


async def test_commands_before_a_bad_one_count(server: Server) -> None:
    """What came in order is answered in order."""
    async with client(server) as clumsy:
        await clumsy.connection.send('{"id":2,"subscribe":{"channel":"open:a"}}\nnonsense')

        assert await clumsy.next() == {"id": 2, "subscribe": {}}
        assert (await clumsy.closed())[0] == 3501


async def test_a_message_beyond_64_kib_ends_the_connection(server: Server) -> None:
    """1009, which clients know as their own fault."""
    async with client(server) as loud:
        await loud.connection.send("x" * (MAX_MESSAGE + 1))

        assert (await loud.closed())[0] == 1009


async def test_a_message_of_64_kib_is_read(server: Server) -> None:
    """The limit itself is allowed."""
    async with client(server, "chat:a") as author:
        command = '{"id":5,"publish":{"channel":"chat:a","data":""}}'
        filled = command.replace('""', '"' + "x" * (MAX_MESSAGE - len(command)) + '"')
        assert len(filled) == MAX_MESSAGE
        await author.connection.send(filled)

        assert {"id": 5, "publish": {}} in [await author.next(), await author.next()]


async def test_tokens_decide_who_a_client_is(server: Server) -> None:
    """A good token opens what is for authenticated clients; an expired one is 109, any other ends it with 3500."""
    async with client(server, connected=False) as ann:
        assert "connect" in await ann.ask({"id": 1, "connect": {"token": token("ann")}})
        assert await ann.ask({"id": 2, "subscribe": {"channel": "members"}}) == {"id": 2, "subscribe": {}}
        assert "subscribe" in await ann.ask({"id": 3, "subscribe": {"channel": "private#ann,bob"}})
        assert (await ann.ask({"id": 4, "subscribe": {"channel": "private#bob"}}))["error"]["code"] == 103
    async with client(server, connected=False) as late:
        expired = {"id": 1, "connect": {"token": token("ann", exp=1)}}
        assert await late.ask(expired) == {"id": 1, "error": {"code": 109, "message": "token expired"}}
        await late.send({"id": 2, "subscribe": {"channel": "open:a"}})
        assert (await late.closed())[0] == 3501
    async with client(server, connected=False) as forger:
        await forger.send({"id": 1, "connect": {"token": token("ann") + "x"}})
        assert await forger.closed() == (3500, "invalid token")
    assert server.realtime.stats.refused == 2


async def test_without_anonymous_a_token_is_needed(redis_url: str, raw: bool) -> None:  # noqa: FBT001
    """A client without one is told so, and nothing else is answered."""
    async with (
        serving(redis_url, raw=raw, realtime_anonymous=False) as server,
        client(server, connected=False) as nobody,
    ):
        assert (await nobody.ask({"id": 1, "connect": {}}))["error"]["code"] == 101


async def test_a_connection_ends_with_its_token(redis_url: str, raw: bool) -> None:  # noqa: FBT001
    """3005, a while after it could have sent a newer one: the client comes back with another token."""
    async with serving(redis_url, raw=raw, timing=Timing(expiry=0.5)) as server, client(server, connected=False) as ann:
        assert "connect" in await ann.ask({"id": 1, "connect": {"token": token("ann", exp=time.time() + 3)}})

        assert await ann.closed() == (3005, "connection expired")


async def test_who_does_not_connect_in_time_is_closed(redis_url: str, raw: bool) -> None:  # noqa: FBT001
    """A handshake alone holds a connection for a bounded time."""
    timing = Timing(connect=0.05)
    async with serving(redis_url, raw=raw, timing=timing) as server, client(server, connected=False) as silent:
        assert await silent.closed() == (3502, "stale")


async def test_a_client_that_does_not_answer_pings_is_closed(redis_url: str, raw: bool) -> None:  # noqa: FBT001
    """3012 after the pong's time; one that answers stays, and is pinged again."""
    timing = Timing(ping=0.2, pong=0.1)
    async with serving(redis_url, raw=raw, timing=timing) as server, client(server) as alive, client(server) as dead:
        for _ in range(3):
            assert await alive.next() == {}
            await alive.send({})

        assert await dead.next() == {}
        assert await dead.closed() == (3012, "no pong")
        assert await alive.next() == {}


async def test_nothing_is_left_of_a_client_that_went(server: Server) -> None:
    """Subscriptions here and on Redis, counts and timers end with the connection, however it ends."""
    async with client(server, "open:a", "open:b") as polite, client(server, "open:a") as rude:
        assert server.realtime.stats.connections["websocket"] == 2
        rude.connection.transport.abort()
        await polite.connection.close()

        await until(lambda: server.realtime.stats.connections["websocket"] == 0)
        async with asyncio.timeout(PATIENCE):
            while await server.redis.pubsub_channels("*:pub:*"):  # Redis hears of it in its own time
                await asyncio.sleep(0.005)
        assert not server.realtime._clients.all


async def test_a_client_can_be_closed_while_its_command_waits(redis_url: str, raw: bool) -> None:  # noqa: FBT001
    """Nothing is left of a subscription that is confirmed after its client has gone."""
    async with serving(redis_url, raw=raw) as server, client(server) as waiting:
        await server.redis.client_pause(300)
        await waiting.send({"id": 2, "subscribe": {"channel": "open:a"}}, {"id": 3, "unsubscribe": {"channel": "a"}})
        await waiting.send({"id": 4, "subscribe": {"channel": "open:b"}})
        await until(lambda: bool(server.realtime._broker._feeds))

        await server.realtime.drain(0)

        assert await waiting.closed() == (3001, "shutdown")
        await until(lambda: server.realtime.stats.connections["websocket"] == 0)
        assert server.realtime._broker._feeds == {}


async def test_a_defect_of_ours_ends_the_connection_and_is_raised(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """3004, after which clients come back; the server logs what it was."""

    def broken(_session: Session, _command: object) -> list[Effect]:
        raise ZeroDivisionError

    async with client(server) as unlucky:
        monkeypatch.setattr(Session, "handle", broken)
        await unlucky.send({"id": 2, "subscribe": {"channel": "open:a"}})

        assert await unlucky.closed() == (3004, "internal server error")
        await until(lambda: "ZeroDivisionError" in caplog.text)


async def test_a_server_that_cannot_answer_a_handshake_with_a_status_closes_it(server: Server) -> None:
    """ASGI then makes it 403."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"origin", b"https://evil.example")]
    await server.realtime._endpoint({"type": "websocket", "headers": headers, "subprotocols": []}, receive, send)

    assert sent == [{"type": "websocket.close"}]


async def test_draining_tells_clients_to_come_back(server: Server) -> None:
    """All are closed with 3001, spread over the time; new ones are refused meanwhile."""
    async with client(server, "open:a") as one, client(server) as two:
        draining = asyncio.create_task(server.realtime.drain(0.4))
        await until(lambda: server.realtime._is_draining)
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with client(server):
                pass
        assert refused.value.response.status_code == 503
        assert not draining.done()
        await draining

        assert await one.closed() == (3001, "shutdown")
        assert await two.closed() == (3001, "shutdown")


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Origin": "null"}])
async def test_pages_of_other_sites_may_not_connect(server: Server, headers: dict[str, str]) -> None:
    """A browser says where a page is from; foreign ones get 403."""
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with client(server, additional_headers=headers):
            pass
    assert refused.value.response.status_code == 403


async def test_a_refused_handshake_is_told_in_one_line_with_its_reason(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is no error of ours, and the server does not log it as one."""
    with capture_logs() as logs:
        async with serving(redis_url) as server:
            for origin in ("https://evil.example", server.http_url.replace("http", "ftp")):
                with pytest.raises(websockets.InvalidStatus):
                    async with client(server, additional_headers={"Origin": origin}):
                        pass
            await server.realtime.drain(0)
            with pytest.raises(websockets.InvalidStatus):
                async with client(server):
                    pass

    assert [(line["log_level"], line["event"], line["status"], line["reason"]) for line in logs] == [
        ("info", "websocket refused", 403, "its origin is not allowed"),
        ("info", "websocket refused", 403, "its origin is not allowed"),
        ("info", "websocket refused", 503, "the server is draining"),
    ]
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


async def test_own_and_allowed_pages_may_connect(redis_url: str) -> None:
    """The server's own origin needs no setting."""
    async with serving(redis_url, allowed_origins=("https://app.example",)) as server:
        for origin in (server.http_url, "https://app.example"):
            async with client(server, additional_headers={"Origin": origin}) as page:
                assert page.connection.response is not None


async def test_the_subprotocol_of_stock_clients_is_echoed(server: Server) -> None:
    """A browser fails a connection whose offer is not answered."""
    offer: list[Any] = ["other", "centrifuge-json"]
    async with client(server, subprotocols=offer) as browser:
        assert browser.connection.subprotocol == "centrifuge-json"


async def test_no_compression_is_agreed_on(redis_url: str) -> None:
    """A shared frame cannot be compressed for one client."""
    async with serving(redis_url) as server, client(server, compression="deflate") as eager:
        assert eager.connection.response is not None
        assert "Sec-WebSocket-Extensions" not in eager.connection.response.headers


async def test_a_plain_request_is_told_to_upgrade(server: Server) -> None:
    """What is no WebSocket gets 426."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /connection/websocket HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), PATIENCE)
    writer.close()

    assert answer.startswith(b"HTTP/1.1 426 ")
    assert b"upgrade: websocket\r\n" in answer
