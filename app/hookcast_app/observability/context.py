"""The correlation id of the request that is being worked on, wherever the code is."""

from contextvars import ContextVar

correlation_id: ContextVar[str | None] = ContextVar("correlation_id", default=None)


def current_correlation_id() -> str | None:
    """The id of the request at hand, or None outside one (a background task sets its own)."""
    return correlation_id.get()
