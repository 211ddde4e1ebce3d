"""What one request to the outside ends in: an answer, or the reason why there is none."""

from dataclasses import dataclass

from hookcast_core.errors import HookcastError, Reason


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint answered."""

    status: int
    """200 to 599; redirects are answers like any other."""
    retry_after: str | None
    """The Retry-After header as it was sent."""
    head: bytes
    """The first 9 KiB of the body (64 KiB after a GET), not decoded. It is the endpoint's: may repeat what was sent."""
    duration_ms: float
    """From the call to the end of the answer, with the wait for a connection."""


class AttemptFailed(HookcastError):  # noqa: N818  an attempt's outcome, more than an error of ours
    """A request got no answer; `reason` is stable, `detail` says more and holds no secret."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
