"""What becomes of a delivery after one attempt: the table of outcomes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookcast_app.delivery.outcome import Dead, Delivered, Later, after_attempt
from hookcast_app.outgoing import Answer, AttemptFailed
from hookcast_core.errors import Reason
from hookcast_core.subscription import Retry

RETRY = Retry(schedule=(1_000, 5_000))
NOW = 1_700_000_000_000


def outcome(result: Answer | AttemptFailed, made: int = 1) -> Delivered | Later | Dead:
    return after_attempt(made, result, RETRY, NOW, lambda: 0.5)


def answer(status: int, retry_after: str | None = None) -> Answer:
    return Answer(status=status, retry_after=retry_after, head=b"", duration_ms=1.0)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_is_delivered(status: int) -> None:
    """Any success is success."""
    assert outcome(answer(status)) == Delivered()


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599, 300, 301, 302, 307, 308, 101])
def test_passing_failures_are_tried_again(status: int) -> None:
    """Overload, server errors and redirects (never followed) may pass."""
    assert outcome(answer(status)) == Later(Reason.BAD_STATUS, 1_000)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 422, 499])
def test_other_client_errors_are_final(status: int) -> None:
    """The same request would be refused again."""
    assert outcome(answer(status)) == Dead(Reason.BAD_STATUS)


def test_410_disables_the_subscription() -> None:
    """Standard Webhooks: 410 Gone means that nobody wants these any more."""
    assert outcome(answer(410)) == Dead(Reason.GONE, disables=True)


@pytest.mark.parametrize(
    ("retry_after", "delay"), [("60", 60_000), ("0", 1_000), ("nonsense", 1_000), ("999999", 86_400_000)]
)
def test_retry_after_is_honoured_up_to_a_day(retry_after: str, delay: int) -> None:
    """The longer of the schedule and the endpoint's wish counts; nonsense is ignored."""
    assert outcome(answer(503, retry_after)) == Later(Reason.BAD_STATUS, delay)


@pytest.mark.parametrize(
    "reason",
    [Reason.CONNECT_FAILED, Reason.CONNECT_TIMEOUT, Reason.RESPONSE_TIMEOUT, Reason.TLS_FAILED, Reason.CONNECTION_LOST],
)
def test_no_answer_is_tried_again(reason: Reason) -> None:
    """Time-outs, broken connections and TLS errors keep their reason."""
    assert outcome(AttemptFailed(reason, "no")) == Later(reason, 1_000)


def test_a_refused_target_is_dead() -> None:
    """The egress rules will refuse it again."""
    assert outcome(AttemptFailed(Reason.EGRESS_DENIED, "no")) == Dead(Reason.EGRESS_DENIED)


def test_the_schedule_runs_out() -> None:
    """After the first attempt and one for each wait of the schedule it is dead."""
    assert outcome(answer(500), made=2) == Later(Reason.BAD_STATUS, 5_000)
    assert outcome(answer(500), made=3) == Dead(Reason.ATTEMPTS_EXHAUSTED)


@given(
    st.lists(st.integers(0, 604_800_000), max_size=32),
    st.sampled_from([None, "0", "7", "3600", "86400", "999999999", "Tue, 14 Nov 2023 23:13:20 GMT", "soon"]),
    st.floats(min_value=0, max_value=1, exclude_max=True),
)
def test_a_delivery_that_always_fails_is_attempted_once_and_once_for_each_wait(
    schedule: list[int], retry_after: str | None, random: float
) -> None:
    """Whatever the endpoint wishes: its wish makes a wait longer, up to a day, and never adds or takes an attempt."""
    made, retry = 1, Retry(schedule=tuple(schedule))
    delays = []
    while isinstance(found := after_attempt(made, answer(503, retry_after), retry, NOW, lambda: random), Later):
        delays.append(found.delay_ms)
        made += 1

    assert found == Dead(Reason.ATTEMPTS_EXHAUSTED)
    assert made == 1 + len(schedule)
    wish = {None: 0, "0": 0, "7": 7_000, "3600": 3_600_000, "soon": 0}.get(retry_after, 86_400_000)
    wish = 3_600_000 if retry_after and retry_after.startswith("Tue") else wish
    for wait, delay in zip(schedule, delays, strict=True):
        assert wish <= delay <= max(wish, wait * 1.2 + 1)
        assert delay >= wait * 0.8 - 1
