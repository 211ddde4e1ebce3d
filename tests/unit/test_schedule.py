"""Retry times and Retry-After."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookcast_core.durations import HOUR
from hookcast_core.schedule import delay_before, parse_retry_after
from hookcast_core.subscription import DEFAULT_SCHEDULE, Exponential, Retry

NOW = 1_800_000_000_000


def middle() -> float:
    """No jitter."""
    return 0.5


def test_each_retry_waits_its_turn_of_the_schedule() -> None:
    """Attempt 2 waits the first entry, the last retry the last, and then there is none."""
    retry = Retry(schedule=(1_000, 2_000))

    assert [delay_before(attempt, retry, middle) for attempt in (1, 2, 3, 4)] == [None, 1_000, 2_000, None]


def test_without_a_schedule_the_default_applies() -> None:
    """An empty `retry` is the schedule that Standard Webhooks recommends: seven retries."""
    delays = [delay_before(attempt, Retry(), middle) for attempt in range(2, 10)]

    assert delays == [*DEFAULT_SCHEDULE, None]


def test_an_empty_schedule_means_one_attempt() -> None:
    """No entry, no retry."""
    assert delay_before(2, Retry(schedule=()), middle) is None


def test_exponential_waits_grow_to_the_longest() -> None:
    """Each wait is the last times the factor, at most `max`; `attempts` counts the first one too."""
    retry = Retry(exponential=Exponential(initial=1_000, factor=3, max=5_000, attempts=4))

    assert [delay_before(attempt, retry, middle) for attempt in (1, 2, 3, 4, 5)] == [None, 1_000, 3_000, 5_000, None]


def test_the_steepest_exponential_stays_finite() -> None:
    """100 attempts at factor 10 end at `max`, not in an overflow."""
    retry = Retry(exponential=Exponential(initial=1_000, factor=10, max=HOUR, attempts=100))

    assert delay_before(100, retry, middle) == HOUR


@given(st.floats(min_value=0, max_value=1, exclude_max=True), st.integers(min_value=2, max_value=8))
def test_jitter_stays_within_a_fifth(random: float, attempt: int) -> None:
    """Every wait is within ±20 % of its entry."""
    wait = DEFAULT_SCHEDULE[attempt - 2]

    delay = delay_before(attempt, Retry(), lambda: random)

    assert delay is not None
    assert round(wait * 0.8) <= delay <= round(wait * 1.2)


def test_jitter_reaches_both_ends() -> None:
    """The smallest and the largest random number give -20 % and nearly +20 %."""
    retry = Retry(schedule=(1_000_000,))

    assert delay_before(2, retry, lambda: 0.0) == 800_000
    assert delay_before(2, retry, lambda: 1 - 1e-9) == 1_200_000


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("120", 120_000),
        (" 0 ", 0),
        ("86400", 24 * HOUR),
        ("86401", 24 * HOUR),
        ("9" * 5_000, 24 * HOUR),
        ("Fri, 15 Jan 2027 08:01:00 GMT", 60_000),
        ("Friday, 15-Jan-27 08:01:00 GMT", 60_000),
        ("Fri Jan 15 08:01:00 2027", 60_000),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0),
        ("Fri, 15 Jan 2037 08:00:00 GMT", 24 * HOUR),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, wait: int) -> None:
    """RFC 9110, 10.2.3: seconds or any of the three HTTP dates; a past date is no wait, a far one is 24 h."""
    assert parse_retry_after(value, NOW) == wait


@pytest.mark.parametrize(
    "value",
    ["", "-5", "1.5", "soon", "²", "٣", "Fri, 99 Jan 2027 08:00:00 GMT", "Fri, 15 Jan 99999999 08:00:00 GMT", "x" * 99],
)
def test_unreadable_retry_after_is_none(value: str) -> None:
    """What is neither is not guessed at."""
    assert parse_retry_after(value, NOW) is None


@given(st.text(max_size=70))
def test_no_retry_after_raises(value: str) -> None:
    """An endpoint's header cannot break a dispatcher, nor make it wait longer than a day."""
    wait = parse_retry_after(value, NOW)

    assert wait is None or 0 <= wait <= 24 * HOUR
