"""One attempt: from a loaded delivery to the result that is settled."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from hookcast_app.delivery.models import Attempt, Place, delivery_id
from hookcast_app.delivery.outcome import Dead, Delivered, Later, Outcome, after_attempt
from hookcast_app.delivery.request import Endpoint, content, request_headers
from hookcast_app.delivery.store import Loaded, Result
from hookcast_app.outgoing import Answer, AttemptFailed, HttpClient, Tls
from hookcast_core.configuration import Entry
from hookcast_core.errors import Reason
from hookcast_core.subscription import Retry

_log = structlog.get_logger("hookcast.delivery")


@dataclass(frozen=True, slots=True)
class Attempted:
    """What an attempt led to: the outcome, the result to settle, and how long the endpoint took."""

    outcome: Outcome
    attempt: Attempt
    result: Result


@dataclass(frozen=True, slots=True)
class Target:
    """A subscription prepared for attempts under one configuration."""

    entry: Entry
    endpoint: Endpoint
    tls: Tls | None

    @property
    def retry(self) -> Retry:
        """The subscription's schedule."""
        return self.entry.spec.delivery.retry


class Attempts:
    """Makes attempts; lives as long as the dispatcher."""

    def __init__(self, client: HttpClient, clock: Callable[[], int], random: Callable[[], float]) -> None:
        self._client = client
        self._clock = clock
        self._random = random

    async def make(self, target: Target, delivery: Loaded, now_ms: int) -> Attempted:
        """Sends one request, signed at `now_ms`, and decides what follows. Never raises but on cancellation."""
        number = delivery.record.made + 1
        started = time.perf_counter()
        answer = await self._send(target, delivery, number, now_ms)
        duration_ms = round((time.perf_counter() - started) * 1000)
        outcome = after_attempt(number, answer, target.retry, self._clock(), self._random)
        attempt = _line(target.endpoint, number, now_ms, duration_ms, answer)
        return Attempted(outcome, attempt, _result(target, delivery, attempt, outcome, self._clock()))

    async def _send(self, target: Target, delivery: Loaded, number: int, now_ms: int) -> Answer | AttemptFailed:
        endpoint = target.endpoint
        try:
            payload, media_type = content(endpoint, delivery.event, delivery.body)
            name = delivery_id(delivery.ref, endpoint.uid)
            headers = request_headers(endpoint, delivery.event, name, number, now_ms, media_type, payload)
            return await self._client.post(
                endpoint.url, headers, payload, timeout_ms=endpoint.timeout_ms, tls=target.tls, pool=endpoint.uid
            )
        except AttemptFailed as failure:
            return failure
        except Exception:  # noqa: BLE001  a defect of ours must not stop other deliveries
            # It is logged whole, and this delivery is tried again.
            _log.exception("attempt.defect", delivery=delivery_id(delivery.ref, endpoint.uid))
            return AttemptFailed(Reason.INTERNAL, "an error of Hookcast's own; see its log")


def _line(endpoint: Endpoint, number: int, at: int, duration_ms: int, answer: Answer | AttemptFailed) -> Attempt:
    if isinstance(answer, AttemptFailed):
        return Attempt(number, at, duration_ms, reason=answer.reason, detail=endpoint.redact(answer.detail.encode()))
    head = endpoint.redact(answer.head) if answer.head else ""
    good = 200 <= answer.status < 300  # noqa: PLR2004  the class of status codes
    reason = None if good else Reason.GONE if answer.status == 410 else Reason.BAD_STATUS  # noqa: PLR2004
    return Attempt(number, at, duration_ms, answer.status, reason, head=head)


def _result(target: Target, delivery: Loaded, attempt: Attempt, outcome: Outcome, now_ms: int) -> Result:
    entry, ref, record = delivery.entry, delivery.ref, delivery.record
    match outcome:
        case Delivered():
            return Result(entry, ref, "delivered", 0, record.after(attempt, Place.DELIVERED, None, None))
        case Dead(reason=reason):
            return Result(entry, ref, "dead", 0, record.after(attempt, Place.DEAD, reason, None))
        case Later(reason=reason, delay_ms=delay):
            after = record.after(attempt, Place.LATER, reason, now_ms + delay)
            fifo = target.entry.spec.delivery.ordering == "FIFO"
            return Result(entry, ref, "held" if fifo else "later", delay, after)
