"""When the next attempt is due. Pure: randomness and the time are passed in; all times are milliseconds."""

from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

from hookcast_core.durations import HOUR, SECOND
from hookcast_core.subscription import DEFAULT_SCHEDULE, Retry

JITTER = 0.2
"""Deliveries that failed together come back spread over ±20 % of their wait."""
MAX_RETRY_AFTER = 24 * HOUR
_MAX_DIGITS = 12
_MAX_LENGTH = 64


def delay_before(attempt: int, retry: Retry, random: Callable[[], float]) -> int | None:
    """Milliseconds to wait before attempt number `attempt` (2 is the first retry), or None when there is none left.

    `random` gives numbers in [0, 1). Standard Webhooks, "Deliverability and reliability": retries with jitter.
    """
    wait = _wait_before(attempt, retry)
    return None if wait is None else round(wait * (1 - JITTER + 2 * JITTER * random()))


def _wait_before(attempt: int, retry: Retry) -> float | None:
    retries_before = attempt - 2
    if retry.exponential is None:
        schedule = DEFAULT_SCHEDULE if retry.schedule is None else retry.schedule
        return schedule[retries_before] if 0 <= retries_before < len(schedule) else None
    if not 0 <= retries_before < retry.exponential.attempts - 1:
        return None
    growth: float = retry.exponential.factor**retries_before
    return min(retry.exponential.initial * growth, retry.exponential.max)


def parse_retry_after(value: str, now_ms: int) -> int | None:
    """The wait that `Retry-After` asks for (RFC 9110, 10.2.3: seconds or a date), at most 24 h.

    A date in the past is a wait of 0; None for what cannot be read. Never raises.
    """
    text = value.strip()
    if text.isascii() and text.isdigit():
        seconds = int(text) if len(text) <= _MAX_DIGITS else MAX_RETRY_AFTER
        return min(seconds * SECOND, MAX_RETRY_AFTER)
    date_ms = _parse_date(text)
    return None if date_ms is None else min(max(date_ms - now_ms, 0), MAX_RETRY_AFTER)


def _parse_date(text: str) -> int | None:
    if len(text) > _MAX_LENGTH:
        return None
    try:
        date = parsedate_to_datetime(text)
        # HTTP dates are UTC; the obsolete forms do not say so.
        return round((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
