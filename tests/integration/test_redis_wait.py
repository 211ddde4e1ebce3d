"""An event that replicas must have before it is acknowledged: nothing acknowledged is lost at a fail-over."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from pydantic import ValidationError

from hookcast_app.delivery.history import History
from hookcast_app.events import event_ref
from hookcast_app.redis import Keys, create_redis
from hookcast_app.settings import RedisWait, Settings
from tests.support.app import eventually, running_app, settings_for
from tests.support.failover import ReplicatedRedis
from tests.support.partitions import partitions
from tests.support.ports import free_port
from tests.support.receiver import Receiver
from tests.support.valkey import running_valkey

KEYS = Keys()
EVENT = {"type": "order.created"}


def test_it_is_written_as_words() -> None:
    """And what is wrong says how to write it."""
    assert Settings.model_validate({"redis_wait": "replicas:2,timeout:1s"}).redis_wait == RedisWait(
        replicas=2, timeout=1_000
    )
    assert Settings.model_validate({"redis_wait": ""}).redis_wait is None
    for wrong in (
        "2",
        "replicas:two,timeout:1s",
        "replicas:1",
        "replicas:1,timeout:1s,more:1",
        "replicas:0,timeout:1s",
    ):
        with pytest.raises(ValidationError, match="redis_wait"):
            Settings.model_validate({"redis_wait": wrong})


async def test_without_replicas_nothing_is_acknowledged(redis_url: str, tmp_path: Path, receiver: Receiver) -> None:
    """503 with the number that have it; what was stored all the same is delivered once, if it is published again."""
    settings = settings_for(redis_url, tmp_path, redis_wait="replicas:1,timeout:50ms")
    async with running_app(settings) as app:
        await app.subscribe(receiver.url)
        answers = [await app.client.post("/api/v1/events", json=EVENT | {"id": "1"}) for _ in range(2)]

        assert [answer.status_code for answer in answers] == [503, 503]
        assert answers[0].json()["detail"].startswith("0 of 1 replicas")
        await receiver.wait_for(1)
        await eventually(lambda: receiver.requests)
    assert len(receiver.requests) == 1


async def test_what_was_acknowledged_survives_a_fail_over(tmp_path: Path) -> None:
    """The master is killed amid publishing: its replica has every event that was answered 202."""
    port = free_port()
    async with running_valkey() as replica_url:
        replica = create_redis(replica_url)
        acknowledged: list[str] = []
        async with running_valkey("--port", str(port), "--repl-diskless-sync-delay", "0") as master_url:
            await replica.replicaof("127.0.0.1", str(port))

            async def is_in_step() -> bool:
                return bool((await replica.info("replication"))["master_link_status"] == "up")

            await eventually(is_in_step)
            settings = settings_for(master_url, tmp_path, redis_wait="replicas:1,timeout:5s")
            async with running_app(settings) as app:
                await app.subscribe("http://127.0.0.1:1/", suspend=True)

                async def publish(first: int) -> None:
                    for number in range(first, first + 1_000):
                        answer = await app.client.post("/api/v1/events", json=EVENT | {"id": f"e{number}"})
                        if answer.status_code != 202:
                            break
                        acknowledged.append(f"e{number}")

                publishing = [asyncio.create_task(publish(1_000 * lane)) for lane in range(8)]
                await eventually(lambda: len(acknowledged) > 400)
                master = create_redis(master_url)
                os.kill((await master.info("server"))["process_id"], signal.SIGKILL)
                await master.aclose()
                await asyncio.gather(*publishing)
        await replica.replicaof("NO", "ONE")
        history = History(partitions(replica))
        found = [await history.event(event_ref("/keys/tests", event)) for event in acknowledged]
        await replica.aclose()

    assert len(acknowledged) > 400
    assert None not in found


async def test_a_duplicate_is_acknowledged_only_once_replicas_have_the_event(tmp_path: Path) -> None:
    """An event that no replica has yet, published again at another server: 503 there too."""
    redis = ReplicatedRedis(tmp_path / "redis")
    await redis.start()
    try:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
        one, two = (
            settings_for(redis.url, tmp_path / name, redis_wait="replicas:1,timeout:100ms") for name in ("one", "two")
        )
        async with running_app(one) as first, running_app(two) as second:
            assert (await second.client.post("/api/v1/events", json=EVENT)).status_code == 202
            redis.replica.signal(signal.SIGSTOP)
            stored = await first.client.post("/api/v1/events", json=EVENT | {"id": "1"})
            behind = await second.client.post("/api/v1/events", json=EVENT | {"id": "1"})
            redis.replica.signal(signal.SIGCONT)

            async def is_acknowledged() -> bool:
                answer = await second.client.post("/api/v1/events", json=EVENT | {"id": "1"})
                return answer.status_code == 202 and answer.json()["duplicate"]

            await eventually(is_acknowledged)
    finally:
        redis.stop()

    assert [stored.status_code, behind.status_code] == [503, 503]
