"""Deliveries at a fail-over to a replica that had not got everything: what the new master lacks is made up for."""

import asyncio
from pathlib import Path

from tests.support.app import eventually, running_app, settings_for
from tests.support.failover import ReplicatedRedis
from tests.support.receiver import Receiver, Reply, Request


async def test_a_result_that_the_replica_had_not_got_is_made_up_for(tmp_path: Path, receiver: Receiver) -> None:
    """A failure that only the dead master knew: its delivery is attempted again, however busy its lane is kept."""
    redis = ReplicatedRedis(tmp_path / "redis")
    await redis.start()
    attempts: list[Request] = []
    may_fail = asyncio.Event()

    async def behave(request: Request) -> Reply:
        if request.headers["x-hookcast-event"] != "order.failing":
            return Reply()
        attempts.append(request)
        await may_fail.wait()
        return Reply(503 if len(attempts) == 1 else 200)

    receiver.behaviour = behave
    try:
        async with running_app(settings_for(redis.url, tmp_path)) as app:
            uid = await app.subscribe(f"{receiver.url}/", delivery={"retry": {"schedule": ["1h"]}})
            failing = await app.publish("order.failing")
            await eventually(lambda: attempts)
            await redis.detach()
            may_fail.set()
            assert (await app.delivery(failing["id"], "later"))["subscription"] == uid
            await redis.promote()

            async def is_attempted_again() -> bool:
                await app.client.post("/api/v1/events", json={"type": "order.created"})
                return len(attempts) > 1

            await eventually(is_attempted_again)
    finally:
        redis.stop()
