"""Every delivery is in exactly one place, whatever is done to it and in which order."""

import asyncio
from collections import Counter
from collections.abc import Awaitable
from typing import Any, TypeVar, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from redis.asyncio import Redis

from hookcast_app.delivery.checker import check
from hookcast_app.delivery.history import History
from hookcast_app.delivery.models import Attempt, Place, Record
from hookcast_app.delivery.moves import Moves, again, purge
from hookcast_app.delivery.retention import Retention
from hookcast_app.delivery.store import FAR, Result, ScriptOutcome, Turn
from hookcast_app.redis import create_redis
from tests.support.lanes import KEYS, lane_store, publisher
from tests.support.partitions import home, partitions

T = TypeVar("T")
LANES = ("u", "v")
PLACES: dict[str, Place] = {
    "delivered": Place.DELIVERED,
    "dead": Place.DEAD,
    "discarded": Place.DISCARDED,
    "later": Place.LATER,
    "held": Place.LATER,
}


class Deliveries(RuleBasedStateMachine):
    """Publishers, two dispatchers that take over from each other, users who retry, cancel and purge, a janitor."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.redis: Redis = create_redis(self.url)
        self.do(self.redis.flushall())
        self.publish_ = publisher(self.redis)
        self.stores = [lane_store(self.redis, token) for token in ("one", "other")]
        self.home = home(self.redis)
        self.history = History(partitions(self.redis))
        self.moves = Moves(retention_seconds=100, dead_letter_retention_seconds=1_000)
        self.published = 0
        self.was_short_of_room = False
        self.unsettled: list[tuple[int, str, bytes, str]] = []

    def teardown(self) -> None:
        self.do(self.redis.aclose())
        self.runner.close()

    def do(self, work: Awaitable[T]) -> T:
        async def done() -> T:
            return await work

        return self.runner.run(done())

    @rule(lanes=st.sampled_from([(), ("u",), ("v",), LANES]), key=st.sampled_from([None, "k"]))
    def publish(self, lanes: tuple[str, ...], key: str | None) -> None:
        self.do(self.publish_(f"r{self.published}", lanes=lanes, ordering_key=key))
        self.published += 1

    @rule(who=st.integers(0, 1), uid=st.sampled_from(LANES), horizon=st.sampled_from([0, FAR]))
    def take(self, who: int, uid: str, horizon: int) -> None:
        (fetched,) = self.do(self.stores[who].turn([Turn(uid, "take", want=100, horizon_ms=horizon)]))
        if fetched is not None:
            self.unsettled += [(who, uid, entry, reference) for entry, reference in fetched.entries]

    @rule(
        data=st.data(),
        outcome=st.sampled_from(["delivered", "dead", "discarded", "later", "held"]),
        release=st.booleans(),
    )
    def settle(self, data: st.DataObject, outcome: ScriptOutcome, *, release: bool) -> None:
        """Perhaps what was settled before, or what another dispatcher has by now."""
        if self.unsettled:
            who, uid, entry, reference = data.draw(st.sampled_from(self.unsettled))
            record = Record(place=PLACES[outcome], made=1, attempts=(Attempt(1, 0, 5, 200),))
            result = Result(entry, reference, outcome, 10**9, record)  # due only where it is wanted
            mode = "release" if release else "hold"
            self.do(self.stores[who].turn([Turn(uid, mode, results=[result])]))  # type: ignore[arg-type]

    @rule(who=st.integers(0, 1), uid=st.sampled_from(LANES))
    def give_back(self, who: int, uid: str) -> None:
        self.do(self.stores[who].turn([Turn(uid, "release")]))

    @rule(number=st.integers(0, 20), uid=st.sampled_from(LANES), what=st.sampled_from(["again", "purge", "cancel"]))
    def move(self, number: int, uid: str, what: str) -> None:
        for found in self.do(self.history.found(self.home, uid, [f"r{number}"])):
            place = found.state.record.place
            if what == "cancel" and place not in {Place.DELIVERED, Place.DEAD, Place.DISCARDED}:
                self.do(self.moves.cancel(found))
            elif what == "purge" and place is Place.DEAD:
                self.do(self.moves.move(self.home, [purge(found)]))
            elif what == "again" and found.state.value and place is not Place.WAITING:
                self.do(self.moves.move(self.home, [again(found)]))

    @rule(most_bytes=st.sampled_from([1, 2_000]))
    def make_room(self, most_bytes: int) -> None:
        self.was_short_of_room = True
        self.do(Retention(self.redis, KEYS, most_bytes=most_bytes, retention_seconds=100).make_room())
        assert self.do(self.redis.xlen(KEYS.events)) <= 1 + most_bytes // 450

    @invariant()
    def each_is_in_one_place(self) -> None:
        report = self.do(check(self.redis, KEYS))
        assert report.violations == []
        assert report.events == self.published or (self.was_short_of_room and report.events < self.published)

    @invariant()
    def no_dead_letter_lost_its_event(self) -> None:
        for uid in LANES:
            for _, fields in cast("Any", self.do(self.redis.xrange(KEYS.lane(uid, "dead")))):
                assert self.do(self.redis.exists(KEYS.event(fields[b"e"].decode())))


@pytest.fixture
def machine(redis_url: str) -> type[Deliveries]:
    Deliveries.url = redis_url
    return Deliveries


def test_every_delivery_is_in_exactly_one_place(machine: type[Deliveries]) -> None:
    """A state machine over a real Redis; the checker looks at all of it after each step."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=200, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


async def test_the_checker_finds_what_is_wrong(redis: Redis) -> None:
    """A delivery that is in two places, in none, in the wrong one, counted wrongly, or left over by its event."""
    publish = publisher(redis)
    await publish("twice", "nowhere", "miscounted", "gone")
    nowhere = cast("Any", await redis.xrange(KEYS.lane("u", "waiting")))[1][0]
    await redis.zadd(KEYS.lane("u", "later"), {"twice": 5})
    await redis.xdel(KEYS.lane("u", "waiting"), nowhere)
    await redis.hset(KEYS.event("miscounted"), "n", "3")
    await redis.delete(KEYS.event("gone"))

    report = await check(redis, KEYS)

    assert sorted(map(str, report.violations)) == [
        "gone.u: is waiting, and its event is not there",
        "miscounted: 3 deliveries are counted as open, and 1 are",
        "nowhere.u: has not ended, and is nowhere",
        "twice.u: is in 2 places: later, waiting",
    ]
    assert report.places == Counter({Place.WAITING: 3})
