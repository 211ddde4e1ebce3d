"""When an endpoint is left alone, when it is tried again, and what is remembered of it."""

from hookcast_app.delivery.breaker import KEEP_AFTER_MS, Breaker, Failing
from hookcast_core.subscription import CircuitBreaker

LIMITS = CircuitBreaker.model_validate({"failures": 3, "window": "10s", "open": "30s"})
T = 1_000_000


def opened(at: int = T) -> Breaker:
    breaker = Breaker(LIMITS, "spec")
    for _ in range(3):
        breaker.failed(at)
    return breaker


def test_failures_in_a_row_open_it() -> None:
    """And nothing may start until its time is over."""
    breaker = Breaker(LIMITS)
    breaker.failed(T)
    breaker.failed(T + 5_000)
    assert breaker.wait_ms(T + 5_000) == 0

    breaker.failed(T + 10_000)

    assert breaker.is_open
    assert breaker.wait_ms(T + 10_000) == 30_000
    assert breaker.wait_ms(T + 39_999) == 1


def test_failures_further_apart_than_the_window_do_not() -> None:
    """Three within eleven seconds are not three within ten; the window moves on with them."""
    breaker = Breaker(LIMITS)
    for at in (T, T + 5_000, T + 10_001):
        breaker.failed(at)
    assert not breaker.is_open

    breaker.failed(T + 15_000)

    assert breaker.is_open


def test_an_answer_between_them_starts_the_count_anew() -> None:
    """A delivery that was taken does, and one that was refused for good does as well."""
    breaker = Breaker(LIMITS)
    for between in (breaker.delivered, lambda: breaker.refused(T)):
        breaker.failed(T)
        breaker.failed(T)
        between()
    breaker.failed(T)
    breaker.failed(T)

    assert not breaker.is_open


def test_one_attempt_tries_the_endpoint_and_closes_it() -> None:
    """Others wait for what becomes of it."""
    breaker = opened()

    assert breaker.wait_ms(T + 30_000) == 0
    breaker.begin()
    assert breaker.wait_ms(T + 30_001) is None
    breaker.delivered()

    assert breaker.wait_ms(T + 30_002) == 0
    breaker.begin()
    assert breaker.wait_ms(T + 30_002) == 0


def test_one_attempt_tries_the_endpoint_and_opens_it_again() -> None:
    """One failure is enough then, and the time begins anew."""
    breaker = opened()
    breaker.begin()

    breaker.failed(T + 31_000)

    assert breaker.wait_ms(T + 31_000) == 30_000
    assert breaker.wait_ms(T + 61_000) == 0


def test_an_attempt_that_was_not_made_lets_another_try() -> None:
    """Else nobody would, for ever."""
    breaker = opened()
    breaker.begin()

    breaker.end()

    assert breaker.wait_ms(T + 30_000) == 0


def test_attempts_that_began_before_it_opened_tell_nothing_new() -> None:
    """Their failures do not keep it open longer; a success among them closes it."""
    breaker = opened()
    breaker.failed(T + 20_000)
    assert breaker.wait_ms(T + 20_000) == 10_000

    breaker.delivered()

    assert breaker.wait_ms(T + 20_000) == 0


def test_a_clock_that_was_set_back_does_not_hold_it_open() -> None:
    """At most for its own time from then on."""
    breaker = opened()

    assert breaker.wait_ms(T - 3_600_000) == 30_000
    assert breaker.wait_ms(T - 3_600_000 + 30_000) == 0


def test_what_is_remembered_goes_on_elsewhere() -> None:
    """Open until then, failing since then; a closed one that fails is remembered too."""
    failing = opened().failing(T, leaving=False)
    successor = Breaker(LIMITS, "spec")
    assert failing is not None

    successor.restore(failing)

    assert (successor.failing_since, successor.wait_ms(T + 1)) == (T, 29_999)
    assert successor.failing(T + 1, leaving=False) == failing


def test_a_short_failure_is_remembered_only_when_the_lane_is_given_back() -> None:
    """Writing each one down would cost as much as the attempts."""
    breaker = Breaker(LIMITS, "spec")
    breaker.failed(T)

    assert breaker.failing(T + KEEP_AFTER_MS - 1, leaving=False) is None
    assert breaker.failing(T + KEEP_AFTER_MS, leaving=False) == Failing("spec", T)
    assert breaker.failing(T, leaving=True) == Failing("spec", T)
    breaker.delivered()
    assert breaker.failing(T, leaving=True) is None


def test_a_refusal_is_a_failure_of_the_endpoint() -> None:
    """It does not open the breaker, but one that refuses everything for days has failed for days."""
    breaker = Breaker(LIMITS)
    breaker.refused(T)

    assert breaker.failing_since == T


def test_another_specification_begins_anew() -> None:
    """A corrected URL need not wait for the old one's breaker, here or after a restart."""
    breaker = opened()
    failing = breaker.failing(T, leaving=True)
    assert failing is not None

    breaker.follow(LIMITS, "corrected")
    assert (breaker.is_open, breaker.failing_since) == (False, None)
    breaker.restore(failing)
    assert not breaker.is_open


def test_the_same_specification_keeps_what_was_seen() -> None:
    """A configuration that is swapped in again changes nothing."""
    breaker = opened()

    breaker.follow(LIMITS, "spec")

    assert breaker.is_open
