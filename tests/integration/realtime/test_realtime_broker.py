"""Publications between processes, and what happens when Redis goes away."""

import asyncio
import socket
from collections.abc import Callable

import pytest
from redis.asyncio import Redis

from hookcast_app.realtime import Realtime, encode_publication
from hookcast_app.realtime.broker import Broker
from hookcast_app.realtime.context import Timing
from hookcast_app.realtime.hub import Hub
from hookcast_app.realtime.stats import Stats
from hookcast_app.realtime.streams import Streams
from hookcast_core.errors import Unavailable
from tests.integration.realtime.server import PATIENCE, client, serving, settings, until
from tests.support.channels import rules, shards

OPEN_A, OPEN_B = (f"hookcast:{{{tag}}}:channel:pub:open:{name}" for tag, name in ((40, "a"), (2, "b")))


def broker_of(redis: Redis, hub: Hub, *, backoff: Callable[[int], float], watch_seconds: float = 10) -> Broker:
    """Channels without options."""
    where = shards(redis)
    return Broker(where, Streams(where, rules()), hub, backoff=backoff, watch_seconds=watch_seconds)


def realtime_of(redis: Redis) -> Realtime:
    """With the settings of these tests."""
    return Realtime(settings=settings(), shards=shards(redis), rules=rules())


async def test_several_servers_on_one_redis_are_one(redis_url: str) -> None:
    """A publication on any of them, or by whoever publishes to Redis, reaches subscribers on all."""
    async with (
        serving(redis_url) as one,
        serving(redis_url) as two,
        client(one, "open:a") as first,
        client(two, "open:a") as second,
    ):
        await one.realtime.publish("open:a", b"1")
        await two.redis.publish(OPEN_A, encode_publication(b"2"))

        for reader in (first, second):
            assert [(await reader.next())["push"]["pub"]["data"] for _ in range(2)] == [1, 2]


async def test_only_channels_with_subscribers_here_are_subscribed_on_redis(redis_url: str) -> None:
    """Each once, however many listen; when the last has gone it ends."""
    async with serving(redis_url) as server:
        async with client(server, "open:a") as one, client(server, "open:a", "open:b"):
            assert set(await server.redis.pubsub_channels("*:pub:*")) == {
                OPEN_A.encode(),
                OPEN_B.encode(),
            }
            await one.ask({"id": 9, "unsubscribe": {"channel": "open:a"}})
            assert await server.redis.pubsub_numsub(OPEN_A) == [(OPEN_A.encode(), 1)]

        async with asyncio.timeout(PATIENCE):
            while await server.redis.pubsub_channels("*:pub:*"):  # Redis hears of it in its own time
                await asyncio.sleep(0.005)


async def test_leaving_and_coming_back_at_once_misses_nothing(redis_url: str) -> None:
    """Commands reach Redis in their order, and a subscription is answered when its own is confirmed."""
    async with serving(redis_url) as server, client(server, "open:a") as hasty:
        for number in range(10, 60, 2):
            await hasty.send(
                {"id": number, "unsubscribe": {"channel": "open:a"}},
                {"id": number + 1, "subscribe": {"channel": "open:a"}},
            )
            assert [(await hasty.next())["id"], (await hasty.next())["id"]] == [number, number + 1]
            await server.realtime.publish("open:a", b"%d" % number)

            assert (await hasty.next())["push"]["pub"]["data"] == number


async def test_a_lost_connection_to_redis_is_never_silent(redis_url: str) -> None:
    """Subscribers are told that publications may be missing (2500), come back, and everything goes on."""
    async with serving(redis_url) as server, client(server, "open:a", "open:b") as reader, client(server) as idle:
        await server.redis.client_kill_filter(_type="pubsub")

        pushes = [(await reader.next())["push"] for _ in range(2)]
        assert {push["channel"]: push["unsubscribe"]["code"] for push in pushes} == {"open:a": 2500, "open:b": 2500}
        assert await reader.ask({"id": 9, "subscribe": {"channel": "open:a"}}) == {"id": 9, "subscribe": {}}
        await server.realtime.publish("open:a", b"1")
        assert (await reader.next())["push"]["pub"] == {"data": 1}
        assert server.realtime.is_ready
        assert server.realtime.stats.interruptions == 2
        assert "subscribe" in await idle.ask({"id": 2, "subscribe": {"channel": "open:a"}})


async def test_a_redis_that_is_silent_is_noticed(redis_url: str) -> None:
    """A connection on which nothing comes, not even the answer to a ping, is given up and opened again."""
    interrupted: list[str] = []

    class Noticing(Hub):
        def interrupted(self, channel: str) -> None:
            interrupted.append(channel)

    redis = Redis.from_url(redis_url)
    broker = broker_of(redis, Noticing(Stats()), backoff=lambda _: 0.01, watch_seconds=0.1)
    await broker.connect()
    running = asyncio.create_task(broker.run())
    try:
        await asyncio.wait_for(broker.subscribe("a"), PATIENCE)
        await redis.client_pause(400)

        await until(lambda: interrupted == ["a"])
    finally:
        running.cancel()
        await asyncio.wait({running})
        await broker.close()
        await redis.aclose()


async def test_a_silent_channel_on_a_live_redis_is_left_alone(redis_url: str) -> None:
    """Redis answers our pings, so nobody is interrupted."""
    redis = Redis.from_url(redis_url)
    hub = Hub(Stats())
    broker = broker_of(redis, hub, backoff=lambda _: 0.01, watch_seconds=0.5)
    await broker.connect()
    running = asyncio.create_task(broker.run())
    try:
        await asyncio.wait_for(broker.subscribe("a"), PATIENCE)
        before = (await redis.client_list(_type="pubsub"))[0]
        async with asyncio.timeout(PATIENCE):
            while (await redis.client_list(_type="pubsub"))[0]["cmd"] != "ping":
                await asyncio.sleep(0.005)

        assert (await redis.client_list(_type="pubsub"))[0]["id"] == before["id"]
        assert broker.is_connected
    finally:
        running.cancel()
        await asyncio.wait({running})
        await broker.close()
        await redis.aclose()


async def test_commands_that_redis_does_not_answer_fail_and_can_be_tried_again(redis_url: str, raw: bool) -> None:  # noqa: FBT001
    """A temporary error, in bounded time; nothing is left of the attempt."""
    async with serving(redis_url, raw=raw, timing=Timing(redis=0.1)) as server, client(server, "chat:a") as patient:
        await server.redis.client_pause(300)
        subscribed = await patient.ask({"id": 5, "subscribe": {"channel": "open:b"}})
        published = await patient.ask({"id": 6, "publish": {"channel": "chat:a", "data": 1}})

        assert subscribed["error"] == {"code": 100, "message": "internal server error", "temporary": True}
        assert published["error"]["code"] == 100
        assert server.subscribers("open:b") == 0
        number = 7
        while "error" in await patient.ask({"id": number, "subscribe": {"channel": "open:b"}}):
            number += 1
            assert number < 100


async def test_clients_wait_for_a_redis_that_is_away(redis_url: str) -> None:
    """Who subscribes while Redis is away is answered when it is back."""
    redis = Redis.from_url(redis_url)
    pauses: list[int] = []
    resumed = asyncio.Event()

    def backoff(failures: int) -> float:
        pauses.append(failures)
        return 0.0

    broker = broker_of(redis, Hub(Stats()), backoff=backoff)
    (connection,) = broker._connections.values()
    connect, refusals = connection.connect, iter([True, True])

    async def refused_at_first() -> None:
        if next(refusals, False):
            raise Unavailable("a fault of the test")
        resumed.set()
        await connect()

    connection.connect = refused_at_first  # type: ignore[method-assign]
    waiting = asyncio.create_task(broker.subscribe("a"))
    running = asyncio.create_task(broker.run())
    try:
        await asyncio.wait_for(waiting, PATIENCE)
        assert pauses == [1, 2]
        assert resumed.is_set()
    finally:
        running.cancel()
        await asyncio.wait({running})
        await broker.close()
        await redis.aclose()


async def test_a_redis_that_lets_nobody_listen_is_tried_less_and_less(redis_url: str) -> None:
    """It connects each time, and fails at once: its user may not subscribe."""
    admin = Redis.from_url(redis_url)
    await admin.execute_command("ACL", "SETUSER", "weak", "on", ">pw", "allkeys", "allchannels", "+@all", "-subscribe")  # type: ignore[no-untyped-call]
    redis = Redis.from_url(redis_url.replace("unix://", "unix://weak:pw@"))
    pauses: list[int] = []
    often = asyncio.Event()

    def backoff(failures: int) -> float:
        pauses.append(failures)
        if failures == 3:
            often.set()
        return 0.0

    broker = broker_of(redis, Hub(Stats()), backoff=backoff)
    waiting = asyncio.create_task(broker.subscribe("a"))
    running = asyncio.create_task(broker.run())
    await asyncio.wait_for(often.wait(), PATIENCE)
    running.cancel()
    waiting.cancel()
    await asyncio.wait({running, waiting})

    assert pauses[:3] == [1, 2, 3]
    await broker.close()
    await redis.aclose()
    await admin.aclose()


async def test_a_redis_that_cannot_be_reached_is_unavailable() -> None:
    """At the start, and for what is published."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    redis = Redis.from_url(f"redis://127.0.0.1:{port}")
    realtime = realtime_of(redis)

    with pytest.raises(Unavailable):
        await realtime.start()
    with pytest.raises(Unavailable):
        await realtime.publish("open:a", b"1")
    assert not realtime.is_ready
    await realtime.close()
    await redis.aclose()


async def test_what_is_not_a_failure_of_redis_ends_the_process(redis_url: str) -> None:
    """A defect in our own code is not retried for ever."""

    class Broken(Hub):
        def publish(self, channel: str, publication: bytes, epoch: str = "") -> None:  # noqa: ARG002
            raise ZeroDivisionError

    redis = Redis.from_url(redis_url)
    broker = broker_of(redis, Broken(Stats()), backoff=lambda _: 0.0)
    running = asyncio.create_task(broker.run())
    await asyncio.wait_for(broker.subscribe("a"), PATIENCE)
    await broker.publish("a", b"{}")

    with pytest.raises(ExceptionGroup) as died:
        await asyncio.wait_for(running, PATIENCE)
    assert died.group_contains(ZeroDivisionError)
    await redis.aclose()


async def test_pauses_grow_to_a_bound(redis_url: str) -> None:
    """Redis is not hammered, and is found again within seconds."""
    redis = Redis.from_url(redis_url)
    pause = realtime_of(redis)._pause

    assert all(0.05 <= pause(1) <= 0.1 for _ in range(50))
    assert all(2.5 <= pause(failures) <= 5 for failures in (20, 10_000))
    await redis.aclose()
