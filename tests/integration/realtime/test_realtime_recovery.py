"""Histories: clients that were away get what they missed, or are told that they cannot."""

import asyncio
import json
from collections import Counter
from typing import Any

import pytest
from redis.exceptions import ResponseError

from hookcast_app.realtime.positions import Position, Read
from tests.integration.realtime.server import PATIENCE, Client, Server, client, serving, until

HISTORY = {"": {"subscribe": "anyone", "publish": "subscribers", "history_size": 5, "recover": True}}


async def subscribed(reader: Client, number: int, **wanted: Any) -> dict[str, Any]:
    """The answer to subscribing to `a`."""
    answer: dict[str, Any] = (await reader.ask({"id": number, "subscribe": {"channel": "a", **wanted}}))["subscribe"]
    return answer


async def publish(server: Server, *data: int) -> None:
    """Publishes each on `a`."""
    for each in data:
        await server.realtime.publish("a", json.dumps(each).encode())


async def test_who_comes_back_gets_what_it_missed(redis_url: str) -> None:
    """In order, and what is published from then on once."""
    async with serving(redis_url, channel_namespaces=HISTORY) as server, client(server) as reader:
        first = await subscribed(reader, 2)
        assert first == {"recoverable": True, "positioned": True, "epoch": first["epoch"]}
        await publish(server, 1)
        assert (await reader.next())["push"]["pub"] == {"offset": 1, "data": 1}
        await reader.ask({"id": 3, "unsubscribe": {"channel": "a"}})
        await publish(server, 2, 3)

        again = await subscribed(reader, 4, recover=True, epoch=first["epoch"], offset=1)
        assert again["recovered"]
        assert again["was_recovering"]
        assert again["offset"] == 1
        assert [each["offset"] for each in again["publications"]] == [2, 3]
        await publish(server, 4)
        assert (await reader.next())["push"]["pub"] == {"offset": 4, "data": 4}


@pytest.mark.parametrize("since", [{"epoch": "other", "offset": 1}, {"offset": 1}, {"offset": 99}])
async def test_what_is_not_all_there_is_not_given(redis_url: str, since: dict[str, Any]) -> None:
    """Of another epoch, older than what is kept, or of the future."""
    async with serving(redis_url, channel_namespaces=HISTORY) as server, client(server) as reader:
        await publish(server, *range(1, 10))
        found = await subscribed(reader, 2, recover=True, **since)
        assert "recovered" not in found
        assert "publications" not in found
        assert found["offset"] == 9


async def test_a_lost_connection_to_redis_is_made_up_for(redis_url: str) -> None:
    """Nobody is interrupted: what was missed is read from the history."""
    async with serving(redis_url, channel_namespaces=HISTORY) as server, client(server) as reader:
        await subscribed(reader, 2)
        await publish(server, 1)
        assert (await reader.next())["push"]["pub"]["offset"] == 1
        await server.redis.client_kill_filter(_type="pubsub")
        await publish(server, 2, 3, 4)
        assert [(await reader.next())["push"]["pub"]["offset"] for _ in range(3)] == [2, 3, 4]
        assert server.realtime.stats.interruptions == 0


async def test_a_history_that_is_gone_is_told(redis_url: str) -> None:
    """Redis came back empty: a new epoch begins, and subscribers come again."""
    async with serving(redis_url, channel_namespaces=HISTORY) as server, client(server) as reader:
        await subscribed(reader, 2)
        await publish(server, 1)
        await reader.next()
        await server.redis.flushall()
        await publish(server, 2)
        assert (await reader.next())["push"]["unsubscribe"]["code"] == 2500
        await until(lambda: server.realtime.stats.interruptions == 1)
        found = await subscribed(reader, 3)
        assert found["offset"] == 1


async def test_a_history_that_has_gone_back_begins_anew(redis_url: str) -> None:
    """As after a fail-over to a replica that lacked the newest: their numbers come again, for other publications."""
    async with serving(redis_url, channel_namespaces=HISTORY) as server, client(server) as reader:
        epoch = (await subscribed(reader, 2))["epoch"]
        shard = server.realtime.backend.streams._shards.of("a")
        await publish(server, 1)
        old = {key: await server.redis.dump(key) for key in (shard.key("position", "a"), shard.key("history", "a"))}
        await publish(server, 2, 3)
        for _ in range(3):
            await reader.next()
        for key, value in old.items():
            await server.redis.restore(key, 0, value or b"", replace=True)

        await server.redis.client_kill_filter(_type="pubsub")
        assert (await reader.next())["push"]["unsubscribe"]["code"] == 2500
        await publish(server, 4, 5, 6)
        async with client(server) as late:
            # It has seen publication 2 of before, and would get from 3 on.
            again = await subscribed(late, 2, recover=True, epoch=epoch, offset=2)
        assert "recovered" not in again
        assert again["offset"] == 4
        assert again["epoch"] != epoch


async def test_history_and_presence(redis_url: str) -> None:
    """Subscribers read what was published and who is there, and hear of others who come and go."""
    namespaces = {"": {**HISTORY[""], "presence": True, "join_leave": True}}
    async with serving(redis_url, channel_namespaces=namespaces) as server, client(server) as one:
        await subscribed(one, 2, join_leave=True)
        assert (await one.next())["push"]["join"]["info"]["user"] == ""
        async with client(server) as two:
            await subscribed(two, 2)
            assert "join" in (await one.next())["push"]
            await publish(server, 1, 2, 3)
            assert [(await one.next())["push"]["pub"]["data"] for _ in range(3)] == [1, 2, 3]
            stats = await one.ask({"id": 3, "presence_stats": {"channel": "a"}})
            assert stats["presence_stats"] == {"num_clients": 2, "num_users": 1}
            assert len((await one.ask({"id": 4, "presence": {"channel": "a"}}))["presence"]["presence"]) == 2
        assert "leave" in (await one.next())["push"]
        history = (await one.ask({"id": 5, "history": {"channel": "a", "limit": 2, "reverse": True}}))["history"]
        assert [each["data"] for each in history["publications"]] == [3, 2]
        assert history["offset"] == 3


async def test_what_is_read_of_a_history_is_bounded(redis_url: str) -> None:
    """Whoever missed more than a client may be queued is told so; the history is read on in parts, either way."""
    long = {"": {"subscribe": "anyone", "history_size": 100, "recover": True}}
    async with serving(redis_url, channel_namespaces=long) as server, client(server, max_size=None) as reader:
        text = "x" * 60_000
        for number in range(100):
            await server.realtime.publish("a", json.dumps([number, text]).encode())
        first = await subscribed(reader, 2, recover=True, epoch="", offset=0)
        assert "recovered" not in first
        assert "publications" not in first
        assert first["offset"] == 100

        seen: list[int] = []
        while len(seen) < 100:
            ask = {"channel": "a", "limit": -1, "since": {"offset": len(seen), "epoch": first["epoch"]}}
            part = (await reader.ask({"id": 3, "history": ask}))["history"]["publications"]
            assert 0 < len(part) < 80
            seen += [each["data"][0] for each in part]
        assert seen == list(range(100))
        newest = {"channel": "a", "limit": 90, "reverse": True}
        back = (await reader.ask({"id": 4, "history": newest}))["history"]["publications"]
        assert [each["offset"] for each in back] == list(range(100, 100 - len(back), -1))
        assert 0 < len(back) < 80


async def test_a_publication_that_fails_keeps_nobody_waiting(redis_url: str) -> None:
    """Whoever published hears of it, others go on."""
    async with serving(redis_url, channel_namespaces=HISTORY) as server:
        shard = server.realtime.backend.streams._shards.of("a")
        await server.redis.set(shard.key("position", "a"), "no hash")
        with pytest.raises(ResponseError):
            await server.realtime.publish("a", b"1")
        await server.redis.delete(shard.key("position", "a"))
        await server.realtime.publish("a", b"1")


async def test_a_publication_of_an_older_history_is_looked_into_once(redis_url: str) -> None:
    """It may come after Redis lost that history; what is published then follows, and nothing is read for ever."""
    async with serving(redis_url, channel_namespaces=HISTORY) as server, client(server) as reader:
        await subscribed(reader, 2)
        broker, reads = server.realtime._broker, Counter[str]()
        history = broker._streams.history

        async def counted(*asked: Any, **more: Any) -> Read:
            reads[asked[0]] += 1
            return await history(*asked, **more)

        broker._streams.history = counted  # type: ignore[method-assign]
        await server.redis.publish(broker._feeds["a"].name, b'older:3:{"offset":3,"data":3}')
        await until(lambda: reads["a"] == 1 and not broker._broken)
        await publish(server, 1)
        assert (await reader.next())["push"]["pub"] == {"offset": 1, "data": 1}


async def test_a_feed_that_nobody_has_is_not_mended(redis_url: str) -> None:
    """Else what it lacks would go to those who came to the channel later, who have it."""
    async with serving(redis_url, channel_namespaces=HISTORY) as server, client(server) as reader:
        await subscribed(reader, 2)
        broker = server.realtime._broker
        left = broker._feeds["a"]
        await reader.ask({"id": 3, "unsubscribe": {"channel": "a"}})
        await subscribed(reader, 4)
        left.take(Position(2, left.position.epoch), b'{"offset":2,"data":2}')
        assert left not in broker._broken


async def test_a_connection_lost_again_while_it_is_made_up_for_is_made_up_for(redis_url: str) -> None:
    """What was read after the first loss does not have what was published during the second."""
    async with serving(redis_url, channel_namespaces=HISTORY) as server, client(server) as reader:
        await subscribed(reader, 2)
        broker = server.realtime._broker
        (connection,) = broker._connections.values()
        history, is_read, goes_on = broker._streams.history, asyncio.Event(), asyncio.Event()

        async def slow(*asked: Any, **more: Any) -> Read:
            found = await history(*asked, **more)
            is_read.set()
            await goes_on.wait()
            return found

        broker._streams.history = slow  # type: ignore[method-assign]
        await server.redis.client_kill_filter(_type="pubsub")
        await asyncio.wait_for(is_read.wait(), PATIENCE)
        first = connection._connection
        await server.redis.client_kill_filter(_type="pubsub")
        await publish(server, 1)
        await until(lambda: connection._connection not in {None, first} and not connection._commands)
        await until(lambda: not connection._unconfirmed)
        goes_on.set()
        assert (await reader.next())["push"]["pub"]["offset"] == 1


async def test_a_reading_that_was_given_up_is_not_used_again(redis_url: str) -> None:
    """Nobody kept what came after it: who asks later reads anew."""
    async with serving(redis_url, channel_namespaces=HISTORY) as server, client(server) as reader:
        epoch = (await subscribed(reader, 2))["epoch"]
        await publish(server, 1, 2)
        assert [(await reader.next())["push"]["pub"]["offset"] for _ in range(2)] == [1, 2]
        broker = server.realtime._broker
        history, is_read, goes_on = broker._streams.history, asyncio.Event(), asyncio.Event()

        async def slow(*asked: Any, **more: Any) -> Read:
            found = await history(*asked, **more)
            if not is_read.is_set():
                is_read.set()
                await goes_on.wait()
            return found

        broker._streams.history = slow  # type: ignore[method-assign]
        given_up = asyncio.create_task(broker.catch_up("a", Position(1, epoch)))
        await asyncio.wait_for(is_read.wait(), PATIENCE)
        given_up.cancel()
        await asyncio.wait({given_up})
        await publish(server, 3)
        await until(lambda: broker._feeds["a"].position.offset == 3)
        found = asyncio.create_task(broker.catch_up("a", Position(1, epoch)))
        await asyncio.sleep(0)
        goes_on.set()
        assert [json.loads(each)["offset"] for each in (await found).missed] == [2, 3]
