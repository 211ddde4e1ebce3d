"""Nothing that was acknowledged is lost, and order is kept, whatever happens to dispatchers and to Redis meanwhile.

Real processes: one that takes events, two that deliver, a Redis or two, and endpoints of every kind. Each test prints
its figures (`pytest -s`). They become longer and busier with `CHAOS_SECONDS` (for each test), `CHAOS_RATE` (events a
second), `CHAOS_ENDPOINTS`, `CHAOS_FAN_OUT` (the endpoints that each event goes to) and `CHAOS_LAG`.
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from redis.asyncio import Redis

from hookcast_app.delivery.checker import check
from hookcast_app.delivery.models import Place
from hookcast_app.redis import Keys, create_redis
from tests.support.chaos.deployment import API_KEY, Deployment, deployed
from tests.support.chaos.endpoints import FIFO, Endpoints, serving_endpoints
from tests.support.chaos.faults import LONG_SECONDS, DispatcherFaults, FailOverFaults, Fault, RedisFaults, make
from tests.support.chaos.publishing import Publisher
from tests.support.durable import DurableRedis
from tests.support.failover import ReplicatedRedis

SECONDS = float(os.environ.get("CHAOS_SECONDS", "0"))
"""0: each test takes the few that it has by itself."""
RATE = float(os.environ.get("CHAOS_RATE", "60"))
ENDPOINTS = int(os.environ.get("CHAOS_ENDPOINTS", "16"))
FAN_OUT = int(os.environ.get("CHAOS_FAN_OUT", "8"))
LAGS = os.environ.get("CHAOS_LAG", "1") != "0"
"""Whether, where nobody waits for it, the replica has got nothing for half a second when it is promoted."""
TYPES = -(-ENDPOINTS // FAN_OUT)
KEYS_OF_A_TYPE = 8
IS_LONG = SECONDS >= LONG_SECONDS
RETENTION = {"RETENTION_SECONDS": "120"} if IS_LONG else {}
"""In a long run what was delivered is forgotten meanwhile, or Redis would hold gigabytes and start slowly."""
LIMIT = SECONDS * 4 + 300


class Run:
    """One run: endpoints, a deployment on a Redis, a publisher, and what there is to say about it afterwards."""

    def __init__(self, endpoints: Endpoints, deployment: Deployment, redis_url: str) -> None:
        self.endpoints = endpoints
        self.deployment = deployment
        self.made: Counter[str] = Counter()
        self.publisher = Publisher(deployment.api.url, API_KEY, rate=RATE, keys=KEYS_OF_A_TYPE * TYPES, types=TYPES)
        self._redis_url = redis_url
        self._seconds = 0.0

    async def under(
        self, faults: Sequence[Fault], seconds: float, *, first: Sequence[Fault] = (), beside: Fault | None = None
    ) -> None:
        """Publishes under faults (see `make`); then heals every endpoint, and ends when nothing waits any more."""
        started = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.publisher.run(), name="publisher")
            await make(faults, seconds, self.made, first=first, beside=beside)
            self.publisher.end()
        self._seconds = time.monotonic() - started
        self.endpoints.heal()
        async with create_redis(self._redis_url, timeout_s=60) as redis:
            uids = await self.deployment.subscriptions()
            assert len(uids) == ENDPOINTS
            await until_nothing_waits(redis, uids, within=SECONDS * 1.5 + 120)
            await self.deployment.stop()
            report = await check(redis, Keys())
        assert report.violations == []
        assert report.places[Place.DEAD] == report.places[Place.DISCARDED] == 0
        assert self.publisher.count
        for path, endpoint in self.endpoints.by_path.items():
            assert endpoint.kind not in FIFO or endpoint.late == [], f"{path} did not keep the order"

    def lost_somewhere(self) -> int:
        """How many of the acknowledged events one or more endpoints have not taken."""
        return len({(key, number) for _, key, number in self._missing()})

    def lost(self, since: float = 0.0) -> Counter[str]:
        """By endpoint, how many of the acknowledged events, if published since then (loop time), it has not taken."""
        times = self.publisher.acknowledged
        return Counter(path for path, key, number in self._missing() if times[key][number] >= since)

    def _missing(self) -> Iterator[tuple[str, int, int]]:
        """Endpoint, ordering key and number of each acknowledged event that an endpoint has not taken."""
        for place, (path, endpoint) in enumerate(self.endpoints.by_path.items()):
            for key in range(place % TYPES, KEYS_OF_A_TYPE * TYPES, TYPES):
                for number in endpoint.taken[key].lacks(len(self.publisher.acknowledged[key])):
                    yield f"{path} ({endpoint.kind})", key, number

    def tell(self, **more: object) -> None:
        """Prints the figures."""
        endpoints = self.endpoints.by_path.values()
        taken = sum(tally.total for endpoint in endpoints for tally in endpoint.taken.values())
        figures = {
            "seconds": round(self._seconds),
            "acknowledged": self.publisher.count,
            "a second": round(self.publisher.count / self._seconds),
            "not acknowledged": self.publisher.refused,
            "endpoints": len(endpoints),
            "deliveries": taken,
            "sent again": sum(endpoint.repeated for endpoint in endpoints),
            "deliveries lost": sum(self.lost().values()),
            "events lost": self.lost_somewhere(),
            **more,
            "faults": dict(self.made),
        }
        print("\n" + ", ".join(f"{name}: {value}" for name, value in figures.items()))  # noqa: T201  with pytest -s


async def until_nothing_waits(redis: Redis, uids: Sequence[str], within: float) -> None:
    """Waits until every delivery of these subscriptions has ended."""
    async with asyncio.timeout(within):
        while any([await redis.xlen(Keys().lane(uid, "waiting")) for uid in uids]) or any(
            [await redis.zcard(Keys().lane(uid, "later")) for uid in uids]
        ):
            await asyncio.sleep(0.2)


@pytest.mark.timeout(LIMIT)
async def test_nothing_is_lost_and_order_is_kept(tmp_path: Path) -> None:
    """Dispatchers are killed and frozen, Redis is killed, frozen and paused; endpoints are as bad as they like."""
    redis = DurableRedis(tmp_path / "redis")
    await redis.start()
    try:
        async with (
            serving_endpoints(ENDPOINTS) as endpoints,
            deployed(tmp_path, redis.url, endpoints, TYPES, **RETENTION) as deployment,
        ):
            run = Run(endpoints, deployment, redis.url)
            ours, theirs = DispatcherFaults(deployment.dispatchers), RedisFaults(redis)
            faults = [
                ours.kill_a_dispatcher,
                ours.freeze_a_dispatcher,
                theirs.kill_redis,
                theirs.freeze_redis,
                theirs.pause_redis,
            ]
            if IS_LONG:
                faults.append(theirs.freeze_redis_beyond_time_outs)
                await run.under(faults, SECONDS, beside=ours.freeze_beyond_the_lease)
            else:
                await run.under(faults, SECONDS or 6)
    finally:
        redis.stop()

    run.tell(lease_lost=ours.lease_lost)
    assert run.lost() == Counter()
    assert bool(ours.lease_lost) == IS_LONG


@pytest.mark.timeout(LIMIT)
async def test_nothing_acknowledged_is_lost_at_fail_overs(tmp_path: Path) -> None:
    """With `HOOKCAST_REDIS_WAIT`: masters are killed and replicas promoted, also such as lag behind."""
    redis = ReplicatedRedis(tmp_path / "redis")
    await redis.start()
    try:
        async with (
            serving_endpoints(ENDPOINTS) as endpoints,
            deployed(tmp_path, redis.url, endpoints, TYPES, REDIS_WAIT="replicas:1,timeout:500ms") as deployment,
        ):
            run = Run(endpoints, deployment, redis.url)
            ours, theirs = DispatcherFaults(deployment.dispatchers), FailOverFaults(redis)
            faults = [
                theirs.fail_over,
                theirs.fail_over_to_one_that_lags,
                theirs.cut_connections,
                theirs.freeze_the_replica,
                theirs.freeze_the_master,
                theirs.pause_the_master,
            ]
            if IS_LONG:  # what a dead dispatcher leased has to wait for half a minute
                faults += [ours.kill_a_dispatcher, ours.freeze_a_dispatcher]
            await run.under(faults, SECONDS or 4, first=[theirs.fail_over_to_one_that_lags])
    finally:
        redis.stop()

    run.tell()
    assert run.lost() == Counter()


@pytest.mark.timeout(LIMIT)
async def test_what_fail_overs_lose_without_waiting_is_told(tmp_path: Path) -> None:
    """Without `HOOKCAST_REDIS_WAIT` a fail-over may lose what was acknowledged before it; nothing after the last."""
    redis = ReplicatedRedis(tmp_path / "redis")
    await redis.start()
    try:
        async with (
            serving_endpoints(ENDPOINTS) as endpoints,
            deployed(tmp_path, redis.url, endpoints, TYPES) as deployment,
        ):
            run, theirs = Run(endpoints, deployment, redis.url), FailOverFaults(redis)
            await run.under([theirs.fail_over_to_one_that_lags if LAGS else theirs.fail_over], SECONDS or 3)
    finally:
        redis.stop()

    run.tell()
    assert run.lost(since=theirs.at[-1]) == Counter()
