"""Proves over a whole Redis that every delivery is in exactly one place, and that what is counted is what is there.

For a deployment at rest: what moves while it is read may be seen twice, or not at all.
"""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import NamedTuple, cast

from redis.asyncio import Redis

from hookcast_app.delivery.models import ENDED, Place, State, states_of
from hookcast_app.redis import Keys, Partition, Partitions, Servers, translated
from hookcast_app.references import ref_of

PAGE = 1_000
_STREAMS = (Place.WAITING, Place.DELIVERED, Place.DEAD, Place.DISCARDED)


class Violation(NamedTuple):
    """What does not hold of an event or of one of its deliveries (`uid` empty: of the event)."""

    ref: str
    uid: str
    what: str

    def __str__(self) -> str:
        return f"{self.ref}{'.' if self.uid else ''}{self.uid}: {self.what}"


class Report(NamedTuple):
    """How many events and deliveries there are, the deliveries by place, and all that is wrong."""

    events: int
    places: Counter[Place]
    violations: list[Violation]


class _Event(NamedTuple):
    ref: str
    states: dict[str, State]
    open: int
    dead: int


async def check_deployment(url: str) -> Report:
    """Reads everything behind a Redis' URL. Raises InvalidInput (field `redis_url`), Unavailable."""
    servers = Servers(url)
    try:
        partitions = Partitions(servers)
        await partitions.learn()
        return await check_all(partitions.all)
    finally:
        await servers.aclose()


async def check_all(partitions: Iterable[Partition]) -> Report:
    """Reads everything of all partitions. Raises Unavailable."""
    reports = [await check(partition.redis, partition.keys) for partition in partitions]
    return Report(
        sum(report.events for report in reports),
        sum((report.places for report in reports), Counter()),
        [violation for report in reports for violation in report.violations],
    )


async def check(redis: Redis, keys: Keys) -> Report:
    """Reads everything of one partition. Raises Unavailable."""
    with translated("check deliveries"):
        found = await _places(redis, keys)
        events = 0
        places: Counter[Place] = Counter()
        violations: list[Violation] = []
        known: set[tuple[str, str]] = set()
        async for event in _events(redis, keys):
            events += 1
            known.update((event.ref, uid) for uid in event.states)
            places.update(state.record.place for state in event.states.values())
            violations += judge(event, found)
    violations += (
        Violation(ref, uid, f"is {_told(where)}, and its event is not there")
        for (ref, uid), where in found.items()
        if (ref, uid) not in known and not ENDED.issuperset(where)
    )
    return Report(events, places, violations)


def judge(event: _Event, found: dict[tuple[str, str], list[Place]]) -> Iterator[Violation]:
    """What is wrong with one event, from where its deliveries were found."""
    still_open = dead = 0
    for uid, state in event.states.items():
        where, place = found.get((event.ref, uid), []), state.record.place
        has_ended = place in ENDED and bool(state.entry)
        still_open += not has_ended
        dead += place is Place.DEAD
        if len(where) > 1:
            yield Violation(event.ref, uid, f"is in {len(where)} places: {_told(where)}")
        elif has_ended and where not in ([], [place]):  # a list of what has ended is cut before its events expire
            yield Violation(event.ref, uid, f"is {_told(where)}, and its record says {place}")
        elif not has_ended and (not where or where[0] in ENDED):
            yield Violation(event.ref, uid, f"has not ended, and is {_told(where) or 'nowhere'}")
    if still_open != event.open:
        yield Violation(event.ref, "", f"{event.open} deliveries are counted as open, and {still_open} are")
    if dead != event.dead:
        yield Violation(event.ref, "", f"{event.dead} deliveries are counted as dead, and {dead} are")


async def _places(redis: Redis, keys: Keys) -> dict[tuple[str, str], list[Place]]:
    """Where every delivery is, by ref and UID."""
    found: dict[tuple[str, str], list[Place]] = defaultdict(list)
    prefix = keys.lane("", "").rstrip(":")
    async for key in redis.scan_iter(match=f"{prefix}:*", count=PAGE):
        uid, _, part = key.decode().removeprefix(f"{prefix}:").rpartition(":")
        if part == Place.LATER:
            for member in cast("list[bytes]", await redis.zrange(key, 0, -1)):
                found[ref_of(member.decode()), uid].append(Place.LATER)
        elif part in _STREAMS:
            async for reference in _stream(redis, key):
                found[ref_of(reference), uid].append(Place(part))
    return found


async def _stream(redis: Redis, key: bytes) -> AsyncIterator[str]:
    after = "-"
    while page := cast("list[tuple[bytes, dict[bytes, bytes]]]", await redis.xrange(key, after, "+", count=PAGE)):
        for _, fields in page:
            yield fields[b"e"].decode()
        after = f"({page[-1][0].decode()}"


async def _events(redis: Redis, keys: Keys) -> AsyncIterator[_Event]:
    prefix = keys.event("")
    async for key in redis.scan_iter(match=f"{prefix}*", count=PAGE):
        fields = cast("dict[bytes, bytes]", await redis.hgetall(key))
        if b"m" not in fields:  # it expired meanwhile
            continue
        ref = key.decode().removeprefix(prefix)
        yield _Event(ref, states_of(fields), int(fields.get(b"n", 0)), int(fields.get(b"x", 0)))


def _told(where: list[Place]) -> str:
    return ", ".join(sorted(where))
