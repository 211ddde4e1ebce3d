"""No client misses anything in silence, whatever happens to clients, to the processes of the app and to Redis.

Real processes over a real Redis, and clients that come back as the stock ones do. It prints its seed and its figures
(`pytest -s`). It becomes longer and busier with `REALTIME_CHAOS_SECONDS`, `REALTIME_CHAOS_CLIENTS`,
`REALTIME_CHAOS_RATE` (publications a second); `REALTIME_CHAOS_SEED` makes the same faults in the same order.
"""

import asyncio
import os
import random
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from hookcast_app.outgoing import HttpClient
from hookcast_core.egress import EgressPolicy
from tests.support.chaos.faults import Fault, RedisFaults, make
from tests.support.durable import DurableRedis
from tests.support.realtime.deployment import Deployment, connection_token, deployed, kept
from tests.support.realtime.event_stream import streamed
from tests.support.realtime.faults import AppFaults, ClientFaults, PubSubFaults
from tests.support.realtime.follower import Connection, Follower
from tests.support.realtime.ledger import Ledger, Place
from tests.support.realtime.publishing import Publisher
from tests.support.realtime.socket import opened

SECONDS = float(os.environ.get("REALTIME_CHAOS_SECONDS", "20"))
CLIENTS = int(os.environ.get("REALTIME_CHAOS_CLIENTS", "200"))
RATE = float(os.environ.get("REALTIME_CHAOS_RATE", "60"))
SEED = int(os.environ.get("REALTIME_CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 1_000_000)
APPS = 3
IS_LONG = SECONDS >= 120
CHANNELS = [*(f"room{number}" for number in range(14)), *(f"short:room{number}" for number in range(6))]
OF_EACH = 6
"""Channels that a client is subscribed to."""
BY_TOKEN = 0.2
"""The part of clients that their tokens subscribe."""
BY_STREAM = 0.2
"""The part of clients that come over server-sent events, the others over WebSockets."""
PATIENCE = 90.0
"""Seconds in which everybody has come to the newest publication once all is well again."""


def follower(
    number: int, deployment: Deployment, ledger: Ledger, chance: random.Random, client: HttpClient
) -> Follower:
    """A client of some channels."""
    channels = chance.sample(CHANNELS, OF_EACH)
    name = f"client {number}"
    token = connection_token(name, channels) if chance.random() < BY_TOKEN else ""

    def by_stream() -> Awaitable[Connection]:
        return streamed(deployment.any_port, client)

    def by_websocket() -> Awaitable[Connection]:
        return opened(deployment.any_port())

    way = by_stream if chance.random() < BY_STREAM else by_websocket
    return Follower(name, way, channels, ledger, token=token)


@pytest.mark.timeout(SECONDS * 2 + 300)
async def test_no_client_misses_anything_in_silence(tmp_path: Path) -> None:
    """Clients are cut off, processes killed and frozen, Redis killed, frozen, paused, and rid of its subscribers."""
    print(f"\nREALTIME_CHAOS_SEED={SEED}")  # noqa: T201  to have the same again
    random.seed(SEED)
    chance = random.Random(SEED)  # noqa: S311  a test repeats itself
    ledger, made = Ledger(kept=kept), Counter[str]()
    redis = DurableRedis(tmp_path / "redis")
    await redis.start()
    try:
        async with deployed(tmp_path, redis.url, APPS) as deployment:
            publisher = Publisher(deployment.any_port, CHANNELS, ledger, rate=RATE)
            client = HttpClient(EgressPolicy(["127.0.0.0/8"]))
            followers = [follower(number, deployment, ledger, chance, client) for number in range(CLIENTS)]
            following = [asyncio.create_task(each.run(), name=each.name) for each in followers]
            started = time.monotonic()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(publisher.run(), name="publisher")
                await make(faults(redis, deployment, publisher, followers), SECONDS, made, chance=chance)
                await deployment.ready()
                publisher.end()
            took = time.monotonic() - started
            try:
                await everybody_is_there(deployment, followers, ledger)
            finally:
                tell(took, publisher, ledger, made)
            for task in following:
                assert not task.done(), task
                task.cancel()
            await asyncio.wait(following)
            await client.close()
            await deployment.stop()
    finally:
        redis.stop()

    assert ledger.violations == []
    assert ledger.counts["recovered"]


def faults(redis: DurableRedis, deployment: Deployment, publisher: Publisher, followers: list[Follower]) -> list[Fault]:
    """Those that clients feel come more often than once."""
    clients, apps, theirs = ClientFaults(followers), AppFaults(deployment), RedisFaults(redis)
    pubsub = PubSubFaults(redis.url, publisher, CHANNELS)
    chosen: list[Fault] = [
        clients.cut_a_client,
        clients.cut_many_clients,
        clients.cut_many_clients,
        apps.kill_an_app,
        apps.freeze_an_app,
        theirs.kill_redis,
        theirs.freeze_redis,
        theirs.pause_redis,
        pubsub.cut_pubsub,
        pubsub.cut_in_a_burst,
        pubsub.choke_pubsub,
        pubsub.burst,
    ]
    return [*chosen, theirs.freeze_redis_beyond_time_outs] if IS_LONG else chosen


async def everybody_is_there(deployment: Deployment, followers: list[Follower], ledger: Ledger) -> None:
    """Waits until every client has come to where its channels stand, without another publication."""
    tops: dict[str, Place] = {}
    for channel in CHANNELS:
        tops[channel], publications = await deployment.history(channel)
        for place, data in publications:
            ledger.note(channel, place, data)
    behind: list[str] = []
    end = time.monotonic() + PATIENCE
    while True:
        behind = [
            f"{each.name} on {channel} at {trail.place}, subscribed: {trail.is_subscribed}, which is at {tops[channel]}"
            for each in followers
            for channel, trail in each.trails.items()
            if not (trail.is_subscribed and trail.place == tops[channel])
        ]
        if not behind or time.monotonic() > end:
            break
        await asyncio.sleep(0.2)
    for each in behind:
        ledger.violate(f"{each} in the end")


def tell(took: float, publisher: Publisher, ledger: Ledger, made: Counter[str]) -> None:
    """Adds what there is to say of each channel as a whole, and prints the figures."""
    lost = Counter(channel for channel, _ in lost_events(publisher, ledger))
    unseen = 0
    for channel in CHANNELS:
        published = list(ledger.published(channel))
        unseen += published[-1][0].offset - len(published) if published else 0
        if len({place.epoch for place, _ in published}) > 1:
            ledger.violate(f"{channel} began anew, though Redis keeps what it acknowledged")
        check_order(channel, published, ledger)
        if lost[channel] > (published[-1][0].offset - len(published)):
            ledger.violate(f"{lost[channel]} acknowledged events were not published on {channel}")
    figures = {
        "seconds": round(took),
        "acknowledged": dict(publisher.acknowledged),
        "calls repeated": publisher.repeated,
        "publications nobody was there for": unseen,
        **ledger.counts,
        "faults": dict(made),
        "violations": len(ledger.violations),
    }
    print("\n" + ", ".join(f"{name}: {value}" for name, value in figures.items()))  # noqa: T201  with pytest -s


def lost_events(publisher: Publisher, ledger: Ledger) -> list[tuple[str, Any]]:
    """Acknowledged events that nobody has seen on their channel."""
    seen = {
        (channel, said["by"], said["number"])
        for channel in CHANNELS
        for _, data in ledger.published(channel)
        for said in [said_by(data)]
    }
    return [(channel, data) for channel, data in publisher.events if (channel, data["by"], data["number"]) not in seen]


def said_by(data: Any) -> Any:
    """What a publisher published, also as an event, which comes in its envelope."""
    return data["data"] if "specversion" in data else data


def check_order(channel: str, published: list[tuple[Place, Any]], ledger: Ledger) -> None:
    """Each is there once, and those of a publisher are in the order in which they were acknowledged."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for said in (said_by(data) for _, data in published):
        numbers[said["by"]].append(said["number"])
    for who, theirs in numbers.items():
        if len(set(theirs)) < len(theirs):
            ledger.violate(f"{channel} has something of {who} twice")
        if not who.startswith("burst") and theirs != sorted(theirs):
            ledger.violate(f"{channel} has what {who} published in another order")
