"""A lane's bookkeeping: what is fetched, loaded, started and settled, and in which order."""

import pytest

from hookcast_app.delivery.lane import FETCHED, QUEUED, READY_BYTES, RESULTS, Lane
from hookcast_app.delivery.models import Record
from hookcast_app.delivery.pace import Pace
from hookcast_app.delivery.store import Fetched, Loaded, Result, Turn
from hookcast_app.events.encoding import Stored

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
    lane.answered(turn, Fetched(None, b"", entries(fetched)), now=10.0)
    return lane


def test_the_first_turn_takes_the_lease_and_the_next_hold_it() -> None:
    """A lane that was not ours is asked for; one that is ours must still be."""
    lane = Lane("u")

    assert lane.next_turn(0) == Turn("u", "take", b"-", FETCHED, results=[])
    lane.answered(Turn("u", "take", b"-", FETCHED), Fetched(None, b"", entries(3)), now=0.0)

    assert lane.next_turn(0) == Turn("u", "hold", b"3-0", FETCHED, results=[])


def test_a_lane_is_caught_up_when_it_got_less_than_it_asked_for() -> None:
    """Only then may it stop asking; a full answer means that there may be more."""
    assert taken(3).caught_up
    assert not taken(FETCHED).caught_up


def test_a_full_queue_asks_for_no_more() -> None:
    """References read ahead are bounded; the lane asks again when half of them are used."""
    lane = taken(FETCHED, taken(FETCHED))

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
    while lane.next(0.0):
        lane.in_flight = 0
    assert 1 <= len(lane.to_load()) <= READY_BYTES // 250_000


def test_no_more_than_the_limit_is_in_flight() -> None:
    """MaxInFlight holds at every moment."""
    lane = taken(3)
    for name in ("1-0", "2-0", "3-0"):
        lane.loaded(delivery(name))

    assert lane.next(0.0) == delivery("1-0")
    assert lane.next(0.0) == delivery("2-0")
    assert lane.next(0.0) is None
    lane.settled(result("1-0"))
    assert lane.next(0.0) == delivery("3-0")


def test_results_go_with_the_next_turn_and_come_back_if_it_fails() -> None:
    """Nothing that was attempted is forgotten when Redis does not answer."""
    lane = taken(1)
    lane.loaded(delivery())
    lane.next(0.0)
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
    lane.next(0.0)
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
    lane.next(0.0)

    lane.leave(park_ms=5)

    assert lane.next(0.0) is None
    assert not lane.wants_turn
    lane.settled(result("1-0"))
    assert lane.wants_turn
    turn = lane.next_turn(0)
    assert (turn.mode, turn.want, turn.park_ms, len(turn.results)) == ("release", 0, 5, 1)


def test_a_held_head_keeps_its_place_and_its_time() -> None:
    """FIFO: nothing overtakes the head while it waits for its next attempt."""
    lane = taken(2, Lane("u", fifo=True, limit=1))
    first, second = delivery("1-0"), delivery("2-0")
    lane.loaded(first)
    lane.loaded(second)
    lane.next(10.0)

    lane.held(first, Result(b"1-0", first.ref, "held", 2_000, Record(made=1)), now=10.0)

    assert lane.next(11.9) is None
    assert lane.wake_at(11.9) == pytest.approx(12.0)
    again = lane.next(12.0)
    assert again is not None
    assert (again.entry, again.record.made) == (b"1-0", 1)


def test_a_held_head_of_a_lane_being_left_is_settled_only() -> None:
    """Whoever comes next reads it from the stream again."""
    lane = taken(1, Lane("u", fifo=True, limit=1))
    lane.loaded(delivery())
    lane.next(0.0)
    lane.leave()

    lane.held(delivery(), Result(b"1-0", "r", "held", 2_000, Record(made=1)), now=10.0)

    assert not lane.ready
    assert len(lane.next_turn(0).results) == 1


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


def test_a_paced_lane_waits_for_its_time() -> None:
    """The rate limit consumes no attempt; the lane says when it may go on."""
    lane = taken(2, Lane("u", limit=5, pace=Pace(1, 1_000)))
    lane.loaded(delivery("1-0"))
    lane.loaded(delivery("2-0"))

    assert lane.next(100.0) is not None
    assert lane.next(100.5) is None
    assert lane.wake_at(100.5) == pytest.approx(101.0)
    assert lane.next(101.001) is not None
