"""A dispatcher over a real Redis, with the subscriptions that a test needs."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from pydantic import SecretStr
from redis.asyncio import Redis

from hookcast_app.configuration import CurrentConfiguration
from hookcast_app.delivery.attempt import Attempts
from hookcast_app.delivery.balance import Balance
from hookcast_app.delivery.disabling import Disabling, Report
from hookcast_app.delivery.dispatcher import Dispatcher
from hookcast_app.delivery.gates import Gates
from hookcast_app.delivery.store import DisabledStore, LaneStore
from hookcast_app.delivery.targets import Targets
from hookcast_app.outgoing import HttpClient
from hookcast_core.configuration import Configuration, Entry, SigningKey
from hookcast_core.egress import EgressPolicy
from hookcast_core.subscription import Subscription
from tests.support.app import SIGNING_SECRET
from tests.support.lanes import KEYS
from tests.support.partitions import home, partitions

NEVER = {"failures": 10_000}
"""A circuit breaker that stays closed."""


def configuration(url: str, *, uids: Sequence[str] = ("u",), **delivery: object) -> CurrentConfiguration:
    """One subscription for each UID, all alike, to everything."""
    current = CurrentConfiguration()
    content = {"endpoint": {"url": url}, "events": {"types": ["*"]}, "delivery": delivery}
    spec = Subscription.model_validate(content)
    keys = (SigningKey(algorithm="HMAC", secret=SecretStr(SIGNING_SECRET)),)
    entry = Entry(uid="-", generation=1, namespace="d", name="n", source="files", spec=spec, url=url, signing_keys=keys)
    entries = tuple(entry.model_copy(update={"uid": uid}) for uid in uids)
    current.swap(Configuration(sequence=1, entries=entries))
    return current


async def unreported(_type: str, _data: dict[str, object]) -> None:
    """A report that nobody reads."""


@asynccontextmanager
async def dispatching(
    store: LaneStore,
    current: CurrentConfiguration,
    attempts: Attempts | None = None,
    *,
    clock: Callable[[], int] = lambda: 0,
    report: Report = unreported,
    disable_after_seconds: int = 0,
) -> AsyncIterator[Dispatcher]:
    """A dispatcher at work; at the end it is cut off, as if it were killed."""
    client = HttpClient(EgressPolicy(["127.0.0.0/8"]))
    targets = Targets(current, "1", clock, 60)
    made = attempts or Attempts(client, clock, lambda: 0.5)
    redis = store._redis
    disabled = DisabledStore(partitions(redis))
    disabling = Disabling(disabled, current, clock, report, after_seconds=disable_after_seconds)
    gates = Gates(partitions(redis), home(redis), {})
    dispatcher = Dispatcher(store, current, targets, made, disabling, clock, lambda _uid, _attempted: None, gates=gates)
    task = asyncio.create_task(dispatcher.run())
    try:
        yield dispatcher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.close()


@asynccontextmanager
async def sharing(store: LaneStore, current: CurrentConfiguration) -> AsyncIterator[tuple[Dispatcher, Balance]]:
    """As `dispatching`, with what passes lanes on to others."""
    async with dispatching(store, current) as dispatcher:
        balance = Balance(store, current, lambda: [dispatcher])
        task = asyncio.create_task(balance.run())
        try:
            yield dispatcher, balance
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def settled(redis: Redis, count: int) -> None:
    """Until so many deliveries of `u` are delivered."""
    async with asyncio.timeout(15):
        while await redis.xlen(KEYS.lane("u", "delivered")) < count:
            await asyncio.sleep(0.02)
