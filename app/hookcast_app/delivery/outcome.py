"""What becomes of a delivery after one attempt. Pure.

Follows Standard Webhooks, "Deliverability and reliability": 2xx is success, 410 disables, redirects are failures,
`Retry-After` of RFC 9110, 10.2.3 is honoured up to a day.
"""

from collections.abc import Callable
from dataclasses import dataclass

from hookcast_app.outgoing import Answer, AttemptFailed
from hookcast_core.errors import Reason
from hookcast_core.schedule import delay_before, parse_retry_after
from hookcast_core.subscription import Retry

RETRIED_STATUSES = frozenset({408, 425, 429})
NOT_RETRIED_REASONS = frozenset({Reason.EGRESS_DENIED})


@dataclass(frozen=True, slots=True)
class Delivered:
    """The endpoint has it."""


@dataclass(frozen=True, slots=True)
class Later:
    """To be attempted again in `delay_ms`."""

    reason: Reason
    delay_ms: int


@dataclass(frozen=True, slots=True)
class Dead:
    """No further attempt; `disables` stops the whole subscription until its user enables it."""

    reason: Reason
    disables: bool = False


Outcome = Delivered | Later | Dead


def after_attempt(
    made: int, result: Answer | AttemptFailed, retry: Retry, now_ms: int, random: Callable[[], float]
) -> Outcome:
    """The outcome of attempt number `made` (from 1). Never raises; times are UTC epoch milliseconds."""
    if isinstance(result, AttemptFailed):
        if result.reason in NOT_RETRIED_REASONS:
            return Dead(result.reason)
        return _again(made, result.reason, retry, None, random)
    status = result.status
    if 200 <= status < 300:  # noqa: PLR2004  the class of status codes
        return Delivered()
    if status == 410:  # noqa: PLR2004  Gone
        return Dead(Reason.GONE, disables=True)
    if status in RETRIED_STATUSES or not 400 <= status < 500:  # noqa: PLR2004  client errors are final
        wait = parse_retry_after(result.retry_after, now_ms) if result.retry_after else None
        return _again(made, Reason.BAD_STATUS, retry, wait, random)
    return Dead(Reason.BAD_STATUS)


def _again(made: int, reason: Reason, retry: Retry, wait_ms: int | None, random: Callable[[], float]) -> Outcome:
    delay = delay_before(made + 1, retry, random)
    if delay is None:
        return Dead(Reason.ATTEMPTS_EXHAUSTED)
    return Later(reason, max(delay, wait_ms or 0))
