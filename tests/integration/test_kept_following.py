"""A process follows what is kept by REST change by change, and never loses its place."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from cryptography.fernet import Fernet
from redis.asyncio import Redis

from hookcast_app.configuration import CurrentConfiguration
from hookcast_app.kept import pause, service, state
from hookcast_app.kept.models import entry_of
from hookcast_app.kept.service import KeptSubscriptions
from hookcast_app.kept.store import BATCH, REMEMBERED, KeptStore
from hookcast_app.redis import Keys
from hookcast_core.configuration import Entry
from hookcast_core.egress import EgressPolicy
from hookcast_core.errors import InvalidInput, Reason, Unavailable

KEY, NEWER = (Fernet.generate_key().decode() for _ in range(2))
KEYS = Keys()


class Process:
    """What a process has of what is kept; `opened` counts values that it decrypted, `told` has changed UIDs."""

    def __init__(self, redis: Redis, *keys: str) -> None:
        self.store = KeptStore(redis, KEYS, keys or (KEY,))
        self.configuration = CurrentConfiguration()
        self.kept = KeptSubscriptions(self.store, self.configuration, EgressPolicy([]), lambda: 0)
        self.opened = 0
        self.told: list[frozenset[str]] = []
        self.configuration.listen(self.told.append)
        opening = self.store.open

        def counted(sealed: bytes) -> tuple[bytes | None, bool]:
            self.opened += 1
            return opening(sealed)

        self.store.open = counted  # type: ignore[method-assign]  # counted

    async def create(self, name: str, secret: str | None = None) -> str:
        made, _ = await self.kept.create("default", name, spec(secret))
        return made.uid

    @property
    def names(self) -> list[str]:
        return sorted(entry.name for entry in self.configuration.entries.values())


def spec(secret: str | None = None) -> dict[str, Any]:
    header = {"name": "X-Token", "valueFrom": {"secretKeyRef": {"name": secret, "key": "token"}}}
    headers = {"headers": [header]} if secret else {}
    return {"endpoint": {"url": "https://shop.example/hooks"} | headers, "events": {"types": ["order.*"]}}


@pytest.fixture
def processes(redis: Redis) -> Callable[..., Process]:
    return lambda *keys: Process(redis, *keys)


async def two(made: Callable[..., Process]) -> tuple[Process, Process]:
    one, other = made(), made()
    await one.kept.load()
    await other.kept.load()
    return one, other


async def test_only_what_changed_is_read(processes: Callable[..., Process]) -> None:
    """By who changes it, and by others: however much else is kept."""
    one, other = await two(processes)
    uids = [await one.create(f"s{number}") for number in range(BATCH + 10)]
    await other.kept.load()
    one.opened = other.opened = 0
    one.told.clear()
    other.told.clear()

    await one.kept.replace(uids[3], lambda before: before | {"suspend": True})
    await other.kept.load()
    await other.kept.load()

    assert (one.opened, other.opened) == (1, 1)
    assert one.told == other.told == [frozenset({uids[3]})]
    assert other.configuration.entries[uids[3]].spec.suspend
    await one.kept.delete(uids[4])
    await other.kept.load()
    assert uids[4] not in other.configuration.entries
    assert dict(one.configuration.entries) == dict(other.configuration.entries)


async def test_a_secret_reaches_those_that_name_it(processes: Callable[..., Process]) -> None:
    """And nobody else is looked at."""
    one, other = await two(processes)
    await one.kept.put_secret("shop", {"token": "old"})
    using = [await one.create(f"u{number}", "shop") for number in range(3)]
    await one.create("another")
    await other.kept.load()
    one.told.clear()
    other.told.clear()

    await one.kept.put_secret("shop", {"token": "new"})
    await other.kept.load()

    assert one.told == other.told == [frozenset(using)]
    assert {other.configuration.entries[uid].headers for uid in using} == {(("X-Token", "new"),)}


async def test_who_missed_many_changes_reads_what_is_stored_otherwise(processes: Callable[..., Process]) -> None:
    """More than are remembered: what it knows already is not opened again."""
    one, other = await two(processes)
    uids = [await one.create(f"s{number}") for number in range(20)]
    await other.kept.load()
    other.opened = 0

    for _ in range(REMEMBERED + 1):
        await one.kept.replace(uids[0], lambda before: before)
    await one.kept.delete(uids[1])
    await one.create("late")
    await other.kept.load()

    assert other.opened == 2
    assert dict(other.configuration.entries) == dict(one.configuration.entries)


async def test_what_is_remembered_of_changes_does_not_grow(processes: Callable[..., Process], redis: Redis) -> None:
    """However many there were."""
    one = processes()
    await one.kept.load()
    uid = await one.create("s")
    for _ in range(REMEMBERED + 20):
        await one.kept.rotate(uid, overlap_ms=0)

    assert await redis.hlen(KEYS.kept("changes")) == REMEMBERED


async def test_a_change_by_a_version_that_remembers_none_is_seen(
    processes: Callable[..., Process], redis: Redis
) -> None:
    """While an update is rolled out."""
    one, other = await two(processes)
    uid = await one.create("s")
    await other.kept.load()
    changed = msgspec.json.encode(msgspec.structs.replace(one.kept.kept.subscriptions[uid], name="t", generation=2))
    await redis.hset(KEYS.kept("subscriptions"), uid, one.store.seal(changed).decode())
    await redis.incr(KEYS.kept("version"))

    await one.kept.load()
    await one.create("u")
    await other.kept.load()

    assert one.names == other.names == ["t", "u"]


async def test_another_history_of_the_same_version_is_told_apart(
    processes: Callable[..., Process], redis: Redis
) -> None:
    """After a Redis came back empty, and who knew less wrote it again and went on."""
    one, other = await two(processes)
    await one.create("s")
    await other.kept.load()
    await one.create("only-one-knows")
    await redis.flushall()

    await other.kept.restore()
    await other.create("only-other-knows")
    await one.kept.load()

    assert one.names == other.names == ["only-other-knows", "s"]


async def test_what_is_restored_is_all_of_it(processes: Callable[..., Process], redis: Redis) -> None:
    """Also if it is more than is written at once."""
    one = processes()
    await one.kept.load()
    for number in range(BATCH + 5):
        await one.create(f"s{number}")
    await one.kept.put_secret("shop", {"token": "t"})
    await redis.flushall()

    await one.kept.load()
    other = processes()
    await other.kept.load()

    assert other.names == one.names
    assert other.kept.kept.secrets == {"shop": {"token": "t"}}
    await other.create("after")
    await one.kept.load()
    assert "after" in one.names


async def test_others_have_the_loop_while_much_is_changed(
    processes: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret that many subscriptions name: between any two of them somebody else may run."""
    one, other = await two(processes)
    await one.kept.put_secret("shop", {"token": "old"})
    for number in range(50):
        await one.create(f"u{number}", "shop")
    monkeypatch.setattr(pause, "PIECE_SECONDS", 0.0)
    turns = 0
    resolved: list[int] = []

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def resolve(*arguments: Any) -> Entry:
        resolved.append(turns)
        return entry_of(*arguments)

    for module in (service, state):
        monkeypatch.setattr(module, "entry_of", resolve)
    task = asyncio.create_task(others())
    await one.kept.put_secret("shop", {"token": "new"})
    await other.kept.load()
    task.cancel()

    assert len(resolved) == 150
    assert len(set(resolved)) == 150


async def test_who_is_cancelled_in_mid_way_has_lost_nothing(
    processes: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was stored is in force after the next look."""
    one, _ = await two(processes)
    await one.kept.put_secret("shop", {"token": "old"})
    for number in range(20):
        await one.create(f"u{number}", "shop")
    monkeypatch.setattr(pause, "PIECE_SECONDS", 0.0)
    for turns in range(5, 80, 5):
        task = asyncio.create_task(one.kept.put_secret("shop", {"token": f"new{turns}"}))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        await one.kept.load()
        anew = processes()
        await anew.kept.load()

        assert one.configuration.entries == anew.configuration.entries


async def test_a_redis_that_takes_nothing_keeps_nobody_from_starting(
    processes: Callable[..., Process], redis: Redis
) -> None:
    """What is to be sealed anew is, once it can be; meanwhile everything is in force."""
    one = processes()
    await one.kept.load()
    await one.kept.put_secret("shop", {"token": "t"})
    for number in range(BATCH + 5):
        await one.create(f"s{number}", "shop")
    await redis.config_set("maxmemory", 1)

    rotated = processes(NEWER, KEY)
    await rotated.kept.load()

    assert rotated.names == one.names
    with pytest.raises(Unavailable):
        await rotated.create("another")
    await redis.config_set("maxmemory", 0)
    await rotated.kept.load()
    alone = processes(NEWER)
    await alone.kept.load()
    assert alone.names == one.names
    assert not alone.configuration.problems


async def test_sealing_anew_changes_nothing_for_others(processes: Callable[..., Process]) -> None:
    """Nobody is told of a change; what both seal is sealed once."""
    one, other = await two(processes)
    for number in range(BATCH * 2):
        await one.create(f"s{number}")
    await other.kept.load()
    other.told.clear()

    rotated = [processes(NEWER, KEY) for _ in range(2)]
    await asyncio.gather(*(each.kept.load() for each in rotated))
    for each in (*rotated, processes(NEWER)):
        await each.kept.load()
        assert each.names == one.names
    follower = processes(KEY, NEWER)
    await follower.kept.load()
    follower.told.clear()
    await follower.kept.load()

    assert follower.told == []


async def test_what_cannot_be_opened_stays_until_it_is_deleted_or_can_be(processes: Callable[..., Process]) -> None:
    """Subscription and secret alike; who cannot open them follows all else and changes nothing."""
    one, _ = await two(processes)
    await one.kept.put_secret("shop", {"token": "old"})
    uid = await one.create("s", "shop")
    other = processes()
    await other.kept.load()
    newer = processes(NEWER, KEY)
    await newer.kept.load()
    await newer.kept.put_secret("shop", {"token": "new"})

    await other.kept.load()
    assert other.names == ["s"]
    assert other.configuration.entries[uid].headers == (("X-Token", "old"),)
    assert "HOOKCAST_ENCRYPTION_KEYS" in other.configuration.problems[-1]
    with pytest.raises(InvalidInput) as refused:
        await other.create("t")
    assert refused.value.reason is Reason.CONFLICT

    await newer.kept.delete(uid)
    await newer.kept.delete_secret("shop")
    await other.kept.load()
    assert other.names == []
    assert other.configuration.problems == ()
    await other.create("t")
