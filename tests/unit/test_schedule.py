"""Retry times and Retry-After."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from fractions import Fraction

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


# Any schedule

WEEK = 168 * HOUR
RANDOM = st.floats(min_value=0, max_value=1, exclude_max=True)
SCHEDULES = st.lists(st.integers(0, WEEK), max_size=32).map(lambda waits: Retry(schedule=tuple(waits)))
EXPONENTIALS = st.builds(
    Exponential,
    initial=st.integers(100, 24 * HOUR),
    factor=st.floats(1, 10),
    max=st.integers(100, WEEK),
    attempts=st.integers(1, 100),
).map(lambda exponential: Retry(exponential=exponential))
RETRIES = st.one_of(SCHEDULES, EXPONENTIALS, st.just(Retry()))


def waits(retry: Retry) -> list[Fraction]:
    """The wait before each retry, exactly, as the documentation of the two ways has it."""
    if retry.exponential is None:
        return list(map(Fraction, DEFAULT_SCHEDULE if retry.schedule is None else retry.schedule))
    exponential = retry.exponential
    factor, most = Fraction(exponential.factor), Fraction(exponential.max)
    return [min(exponential.initial * factor**place, most) for place in range(exponential.attempts - 1)]


@given(RETRIES, RANDOM)
def test_every_retry_of_any_schedule_waits_its_turn_within_a_fifth(retry: Retry, random: float) -> None:
    """Never less than nothing, in whole milliseconds, and as far from the wait as the random number says."""
    for number, wait in enumerate(waits(retry), 2):
        delay = delay_before(number, retry, lambda: random)

        assert isinstance(delay, int)
        assert delay >= 0
        assert wait * 4 / 5 - 1 <= delay <= wait * 6 / 5 + 1
        assert abs(delay - wait * (Fraction(4, 5) + Fraction(2, 5) * Fraction(random))) <= 1


@given(RETRIES, RANDOM)
def test_attempts_are_exhausted_exactly_after_the_last_wait(retry: Retry, random: float) -> None:
    """There is a wait before attempt 2 and each later one that the schedule has, and before no other."""
    last = len(waits(retry)) + 1

    having = [number for number in range(-2, last + 4) if delay_before(number, retry, lambda: random) is not None]

    assert having == list(range(2, last + 1))


@given(EXPONENTIALS)
def test_exponential_waits_never_shrink_and_never_pass_the_longest(retry: Retry) -> None:
    """Without jitter; the first is the initial one, unless even that is too long."""
    assert retry.exponential is not None
    delays = [delay_before(number, retry, middle) or 0 for number in range(2, retry.exponential.attempts + 1)]

    assert delays == sorted(delays)
    assert all(delay <= retry.exponential.max for delay in delays)
    assert not delays or delays[0] == min(retry.exponential.initial, retry.exponential.max)


@given(st.integers(0, 10**30), st.sampled_from(["{}", " {} ", "0{}"]))
def test_any_number_of_seconds_is_waited_up_to_a_day(seconds: int, form: str) -> None:
    """However many digits there are."""
    assert parse_retry_after(form.format(seconds), NOW) == min(seconds * 1_000, 24 * HOUR)


@given(
    st.integers(-10_000_000, 10_000_000),
    st.integers(0, 999),
    st.sampled_from(["{imf}", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y", "{numeric}"]),
)
def test_a_date_is_waited_for_up_to_a_day(seconds: int, milliseconds: int, form: str) -> None:
    """In each form that a date has in HTTP, and with a zone as mail has it; what has passed is no wait."""
    now_ms = NOW + milliseconds
    date = datetime.fromtimestamp(NOW // 1_000, UTC) + timedelta(seconds=seconds)
    text = date.strftime(form).format(imf=format_datetime(date, usegmt=True), numeric=format_datetime(date))

    assert parse_retry_after(text, now_ms) == min(max(seconds * 1_000 - milliseconds, 0), 24 * HOUR)


DATE_LIKE = st.from_regex(
    r"([A-Z][a-z]{2,8}, ?)?\d{1,3}[ -][A-Z][a-z]{2}[ -]-?\d{1,6} "
    r"\d{1,3}:\d{1,3}(:\d{1,3})?( ([+-]\d{1,6}|[A-Z]{1,4}))?",
    fullmatch=True,
)


@given(DATE_LIKE)
def test_nothing_that_looks_like_a_date_raises(value: str) -> None:
    """Days, years, hours and zones that there are not are no wait at all."""
    wait = parse_retry_after(value, NOW)

    assert wait is None or 0 <= wait <= 24 * HOUR
