"""A lane's bookkeeping: what is fetched, loaded, started and settled, and in which order."""

import pytest

from hookcast_app.delivery.lane import FETCHED, QUEUED, READY_BYTES, RESULTS, Lane
from hookcast_app.delivery.models import Record
from hookcast_app.delivery.ordering import Order
from hookcast_app.delivery.store import Fetched, Loaded, Result, ScriptOutcome, Turn
from hookcast_app.events.encoding import Stored
from hookcast_app.references import reference
from hookcast_core.pace import Pace
from hookcast_core.subscription import Delivery, MaxBacklog

EVENT = Stored(id="1", source="/s", type="a", time="t", accepted_ms=0)


def entries(count: int, first: int = 1) -> list[tuple[bytes, str]]:
    return [(f"{number}-0".encode(), f"ref{number}") for number in range(first, first + count)]


def delivery(name: str = "1-0", size: int = 10) -> Loaded:
    return Loaded(name.encode(), f"ref-{name}", EVENT, b"x" * size, Record())


def result(name: str = "1-0") -> Result:
    return Result(name.encode(), f"ref-{name}", "delivered", 0, Record())


def taken(fetched: int, lane: Lane | None = None) -> Lane:
    lane = lane or Lane("u", limit=2)
    turn = lane.next_turn(0)
    lane.answered(turn, Fetched(None, b"", b"", 0, entries(fetched)), now=10.0)
    return lane


def test_the_first_turn_takes_the_lease_and_the_next_hold_it() -> None:
    """A lane that was not ours is asked for; one that is ours must still be."""
    lane = Lane("u")

    assert lane.next_turn(0) == Turn("u", "take", b"-", FETCHED, results=[])
    lane.answered(Turn("u", "take", b"-", FETCHED), Fetched(None, b"", b"", 0, entries(3)), now=0.0)

    assert lane.next_turn(0) == Turn("u", "hold", b"3-0", FETCHED, results=[])


def test_a_lane_is_caught_up_when_it_got_less_than_it_asked_for() -> None:
    """Only then may it stop asking; a full answer means that there may be more."""
    assert taken(3).caught_up
    assert not taken(FETCHED).caught_up


def test_a_full_queue_asks_for_no_more() -> None:
    """References read ahead are bounded; the lane asks again when half of them are used."""
    lane = taken(FETCHED, taken(FETCHED))
    lane.loaded(delivery())

    assert not lane.wants_turn
    while len(lane.queued) >= QUEUED // 2:
        assert lane.to_load()
    assert lane.wants_turn


def test_loaded_bodies_are_bounded_by_bytes() -> None:
    """Large bodies are loaded few at a time, but always at least one."""
    lane = taken(QUEUED)
    for _ in range(30):
        lane.loaded(delivery(size=300_000))

    assert lane.to_load() == []
    while lane.next(0.0, 0):
        lane.in_flight = 0
    assert 1 <= len(lane.to_load()) <= READY_BYTES // 250_000


def test_no_more_than_the_limit_is_in_flight() -> None:
    """MaxInFlight holds at every moment."""
    lane = taken(3)
    for name in ("1-0", "2-0", "3-0"):
        lane.loaded(delivery(name))

    assert lane.next(0.0, 0) == delivery("1-0")
    assert lane.next(0.0, 0) == delivery("2-0")
    assert lane.next(0.0, 0) is None
    lane.settled(result("1-0"))
    assert lane.next(0.0, 0) == delivery("3-0")


def test_results_go_with_the_next_turn_and_come_back_if_it_fails() -> None:
    """Nothing that was attempted is forgotten when Redis does not answer."""
    lane = taken(1)
    lane.loaded(delivery())
    lane.next(0.0, 0)
    lane.settled(result())

    turn = lane.next_turn(0)
    assert turn.results == [result()]
    assert lane.results == []
    lane.failed(turn)
    assert lane.next_turn(0).results == [result()]


def test_one_turn_settles_a_bounded_number() -> None:
    """The rest goes with the next turns, also when the lane is being left; only the last one releases it."""
    lane = taken(0)
    lane.results = [result(f"{number}-0") for number in range(RESULTS + 1)]
    lane.leave()

    first, last = lane.next_turn(0), lane.next_turn(0)

    assert (len(first.results), first.mode) == (RESULTS, "hold")
    assert (len(last.results), last.mode) == (1, "release")


def test_settling_may_wait_but_fetching_may_not() -> None:
    """Few results wait for others; a lane that has to read, load, leave or settle much does not."""
    lane = taken(0)
    lane.results = [result()]
    assert not lane.is_urgent
    lane.results *= RESULTS
    assert lane.is_urgent
    assert Lane("u").is_urgent
    assert taken(FETCHED).is_urgent
    left = taken(0)
    left.leave()
    assert left.is_urgent


def test_a_lane_is_idle_when_nothing_is_in_hand() -> None:
    """Neither queued, loaded, in flight nor unsettled."""
    lane = taken(1)
    assert not lane.idle
    lane.to_load()
    lane.loaded(delivery())
    lane.next(0.0, 0)
    assert not lane.idle
    lane.settled(result())
    assert not lane.idle
    lane.next_turn(0)
    assert lane.idle


def test_leaving_lets_attempts_end_and_then_gives_back() -> None:
    """What is in flight is settled under the lease; the last turn releases it."""
    lane = taken(2)
    lane.to_load()
    lane.loaded(delivery("1-0"))
    lane.loaded(delivery("2-0"))
    lane.next(0.0, 0)

    lane.leave(park_ms=5)

    assert lane.next(0.0, 0) is None
    assert not lane.wants_turn
    lane.settled(result("1-0"))
    assert lane.wants_turn
    turn = lane.next_turn(0)
    assert (turn.mode, turn.want, turn.park_ms, len(turn.results)) == ("release", 0, 5, 1)


def test_a_lane_wakes_for_what_comes_first() -> None:
    """What becomes due, or what may start; neither means no timer."""
    lane = taken(0)
    assert lane.wake_at(0.0) is None
    lane.due_at = 5.0
    assert lane.wake_at(0.0) == 5.0
    lane.loaded(delivery())
    lane.not_before = 3.0
    assert lane.wake_at(0.0) == 3.0
    assert lane.wake_at(6.0) is None


def test_a_pace_allows_a_burst_and_then_spreads() -> None:
    """Ten a second: ten at once, then one every 100 ms."""
    pace = Pace(10, 1_000)

    assert sum(pace.take(100.0) for _ in range(50)) == 10
    assert pace.next_at == pytest.approx(100.1)
    assert not pace.take(100.09)
    assert pace.take(100.1001)
    assert sum(pace.take(200.0) for _ in range(50)) == 10


@pytest.mark.parametrize("start", [0.0, 0.1, 100.0, 123_456.7])
@pytest.mark.parametrize("requests", [1, 3, 5, 7, 100, 999])
def test_a_burst_has_all_of_its_requests(requests: int, start: float) -> None:
    """Whatever the numbers, rounding costs none and adds none."""
    pace = Pace(requests, 2_000)

    assert sum(pace.take(start) for _ in range(requests * 2)) == requests


def test_a_paced_lane_waits_for_its_time() -> None:
    """The rate limit consumes no attempt; the lane says when it may go on."""
    lane = taken(2, Lane("u", limit=5, pace=Pace(1, 1_000)))
    lane.loaded(delivery("1-0"))
    lane.loaded(delivery("2-0"))

    assert lane.next(100.0, 0) is not None
    assert lane.next(100.5, 0) is None
    assert lane.wake_at(100.5) == pytest.approx(101.0)
    assert lane.next(101.001, 0) is not None


# FIFO


def fifo(*keys: str) -> Lane:
    """A lane that has read a delivery of each key, in this order."""
    lane = Lane("u", order=Order(), limit=5)
    found = [(f"{number}-0".encode(), reference(f"ref{number}", key)) for number, key in enumerate(keys, 1)]
    lane.answered(lane.next_turn(0), Fetched(None, b"", b"", 0, found), now=10.0)
    return lane


def load(lane: Lane, due_in: float = 0.0) -> list[bytes]:
    """Loads what is to be loaded, and says what."""
    wanted = lane.to_load()
    for entry, ref in wanted:
        lane.loaded(Loaded(entry, ref, EVENT, b"x", Record()), due_in, 10.0)
    return [entry for entry, _ in wanted]


def end(lane: Lane, outcome: ScriptOutcome, delay_ms: int = 0, now: float = 10.0) -> None:
    """Its next delivery is attempted, and Redis has the result."""
    delivery = lane.next(now, 0)
    assert delivery is not None
    lane.settled(Result(delivery.entry, delivery.ref, outcome, delay_ms, Record(made=1)))
    lane.answered(lane.next_turn(0), Fetched(None, b"", b"", 0, []), now)


def test_fifo_has_one_of_each_key_under_way() -> None:
    """Keys do not wait for each other; within one the next goes once Redis has the result of the one before."""
    lane = fifo("a", "a", "b")

    assert load(lane) == [b"1-0", b"3-0"]
    first = lane.next(10.0, 0)
    assert first is not None
    lane.settled(Result(first.entry, first.ref, "delivered", 0, Record()))
    assert load(lane) == []
    assert lane.is_urgent
    lane.answered(lane.next_turn(0), Fetched(None, b"", b"", 0, []), 10.0)
    assert load(lane) == [b"2-0"]


def test_a_dead_head_lets_the_next_of_its_key_go() -> None:
    """Any end does."""
    lane = fifo("a", "a")
    load(lane)

    end(lane, "dead")

    assert load(lane) == [b"2-0"]


def test_a_failed_head_keeps_its_place_and_its_time() -> None:
    """Nothing of its key overtakes it while it waits for its next attempt, and others go on."""
    lane = fifo("a", "a", "b")
    load(lane)

    end(lane, "held", delay_ms=2_000)
    end(lane, "delivered")

    assert load(lane) == []
    assert not lane.idle
    assert lane.wake_at(11.9) == pytest.approx(12.0)
    lane.ring(11.9)
    assert load(lane) == []
    lane.ring(12.0)
    assert load(lane) == [b"1-0"]


def test_a_failed_head_is_not_loaded_before_redis_has_its_result() -> None:
    """Else it would be attempted as if it had not been."""
    lane = fifo("a")
    load(lane)
    delivery = lane.next(10.0, 0)
    assert delivery is not None
    lane.settled(Result(delivery.entry, delivery.ref, "held", 0, Record(made=1)))
    turn = lane.next_turn(0)
    lane.failed(turn)

    lane.ring(20.0)

    assert load(lane) == []


def test_a_head_that_is_not_due_yet_waits_after_a_restart() -> None:
    """What was read from the stream anew keeps the time of its next attempt."""
    lane = fifo("a", "b")

    load(lane, due_in=5.0)

    assert lane.next(10.0, 0) is None
    assert lane.wake_at(10.0) == pytest.approx(15.0)


def test_a_lane_with_too_many_behind_reads_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory is bounded; when the key goes on, so does the reading."""
    monkeypatch.setattr("hookcast_app.delivery.lane.BEHIND", 3)
    lane = fifo("a", "a", "a", "a")
    lane.wake()
    load(lane)

    assert lane.next_turn(0).want == 0
    assert not lane.wants_turn
    end(lane, "delivered")
    assert lane.next_turn(0).want > 0


def test_another_ordering_needs_the_lane_to_be_taken_anew() -> None:
    """What is in hand was read by the other one's rules."""
    lane = fifo("a")

    assert lane.may_deliver(Delivery(ordering="FIFO"))
    assert not lane.may_deliver(Delivery(ordering="Unordered"))
    assert Lane("u").may_deliver(Delivery(ordering="FIFO"))


# The breaker


def test_an_open_breaker_stops_a_lane_and_wakes_it_in_time() -> None:
    """What is loaded waits; then one delivery tries the endpoint, and the others wait for it."""
    lane = taken(3, Lane("u", limit=5))
    for name in ("1-0", "2-0", "3-0"):
        lane.loaded(delivery(name))
    for _ in range(10):
        lane.breaker.failed(0)

    assert lane.next(10.0, 0) is None
    assert lane.wake_at(10.0) == pytest.approx(40.0)
    assert lane.next(40.0, 30_000) is not None
    assert lane.next(40.0, 30_000) is None
    lane.breaker.delivered()
    assert lane.next(40.0, 30_000) is not None
    assert lane.next(40.0, 30_000) is not None


def test_an_answer_ends_an_open_breaker_s_wait() -> None:
    """An attempt that began before it opened succeeds: nothing waits for the breaker's time any more."""
    lane = taken(2, Lane("u", limit=5))
    for name in ("1-0", "2-0"):
        lane.loaded(delivery(name))
    assert lane.next(10.0, 0) is not None
    for _ in range(10):
        lane.breaker.failed(0)
    assert lane.next(10.0, 0) is None

    lane.breaker.delivered()

    assert lane.next(10.1, 100) is not None


def test_another_pace_ends_the_wait_for_the_one_of_before() -> None:
    """One a day, and then a thousand a second."""
    lane = taken(2, Lane("u", limit=5, pace=Pace(1, 86_400_000)))
    for name in ("1-0", "2-0"):
        lane.loaded(delivery(name))
    lane.next(10.0, 0)
    assert lane.next(10.0, 0) is None

    lane.pace = Pace(1_000, 1_000)

    assert lane.next(10.1, 0) is not None


def test_what_is_known_of_a_failing_endpoint_goes_with_a_turn_once() -> None:
    """And again only if that turn's fate is unknown, or if it is forgotten."""
    lane = taken(0)
    for _ in range(10):
        lane.breaker.failed(0)

    turn = lane.next_turn(0)
    assert b'"open_until":30000' in turn.failing
    assert lane.next_turn(0).failing == b""
    lane.failed(turn)
    assert lane.next_turn(0).failing == turn.failing
    lane.breaker.delivered()
    assert lane.next_turn(0).failing == b"-"
    assert lane.next_turn(0).failing == b""


def test_a_lane_takes_what_is_known_of_its_endpoint_with_the_lease() -> None:
    """The first answer only: afterwards it knows better itself."""
    lane = Lane("u")
    known = b'{"of":"","since":5,"open_until":9000}'
    lane.answered(lane.next_turn(0), Fetched(None, b"", known, 0, []), 0.0)

    assert (lane.breaker.failing_since, lane.breaker.wait_ms(0)) == (5, 9_000)
    lane.breaker.delivered()
    lane.answered(lane.next_turn(0), Fetched(None, b"", known, 0, []), 0.0)
    assert not lane.breaker.is_open


# The backlog


def backlog(lane: Lane, waiting: int, count: int) -> Lane:
    """The lane reads `waiting` deliveries of which it may have `count`, and loads them."""
    lane.max_backlog = MaxBacklog(count=count)
    lane.answered(lane.next_turn(0), Fetched(None, b"", b"", waiting, entries(waiting)), 10.0)
    load(lane)
    return lane


def test_the_oldest_beyond_the_backlog_are_doomed() -> None:
    """As many as are too many, whatever the breaker or the rate say."""
    lane = backlog(Lane("u", limit=1, pace=Pace(1, 60_000)), 10, 7)
    for _ in range(10):
        lane.breaker.failed(0)

    assert [each.entry for each in lane.doomed(10.0, 0)] == [b"1-0", b"2-0", b"3-0"]
    assert list(lane.doomed(10.0, 0)) == []


def test_deliveries_that_wait_too_long_are_doomed() -> None:
    """By the time at which their event was accepted."""
    lane = taken(1)
    lane.max_backlog = MaxBacklog.model_validate({"age": "1m"})
    lane.loaded(delivery())

    assert list(lane.doomed(10.0, 59_999)) == []
    assert len(list(lane.doomed(10.0, 60_000))) == 1


def test_a_held_lane_cuts_its_backlog_and_is_given_back() -> None:
    """Suspended or disabled, it attempts nothing; without a limit there is nothing to hold it for."""
    lane = Lane("u")
    lane.max_backlog = MaxBacklog(count=2)
    lane.hold(30_000)
    backlog(lane, 3, 2)

    assert lane.next(10.0, 0) is None
    assert not lane.has_held_enough
    assert len(list(lane.doomed(10.0, 0))) == 1
    assert lane.has_held_enough
    free = Lane("u")
    free.hold(30_000)
    assert free.leaving


def test_a_head_that_is_not_doomed_waits_for_its_time_again() -> None:
    """FIFO: it was loaded because there were too many, and others had to go."""
    lane = fifo("a", "b")
    lane.max_backlog = MaxBacklog(count=10)
    lane.excess = 1
    for entry, ref in lane.to_load():
        lane.loaded(Loaded(entry, ref, EVENT, b"x", Record(due=60_000)), 60.0, 10.0)

    assert [each.entry for each in lane.doomed(10.0, 0)] == [b"1-0"]
    assert lane.next(10.0, 0) is None
    assert lane.wake_at(10.0) == pytest.approx(70.0)


def test_a_delivery_that_is_called_for_is_looked_at_again() -> None:
    """Loaded, or under way and failed then: what was done to it meanwhile counts."""
    lane = fifo("a", "b")
    load(lane)
    first = lane.next(10.0, 0)
    assert first is not None
    second = lane.ready[0]

    lane.wake(first.ref)
    lane.wake(second.ref)

    assert list(lane.queued) == [(second.entry, second.ref)]
    assert not lane.ready
    lane.settled(Result(first.entry, first.ref, "held", 3_600_000, Record(made=1)))
    lane.answered(lane.next_turn(0), Fetched(None, b"", b"", 0, []), 10.0)
    lane.ring(10.0)
    assert (first.entry, first.ref) in lane.queued


def test_a_signal_during_a_turn_is_not_missed() -> None:
    """Redis has told of something new after it read the stream, and the news came before the answer."""
    lane = taken(0)
    turn = lane.next_turn(0)

    lane.wake()
    lane.answered(turn, Fetched(None, b"", b"", 0, []), 0.0)

    assert lane.wants_turn
