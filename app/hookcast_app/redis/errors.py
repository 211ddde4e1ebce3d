"""Foreign errors become ours here, once.

Whatever Redis cannot do *now* is `Unavailable`; the rest is a mistake of ours and stays what it is.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from redis import exceptions as foreign

from hookcast_core.errors import Unavailable


class ClusterChanged(foreign.ConnectionError):
    """What was asked is another server's by now: it was not carried out."""


_REASONS: tuple[tuple[type[Exception], str], ...] = (  # the first that fits: some are subclasses of later ones
    (ClusterChanged, "the cluster is being changed"),
    (foreign.TimeoutError, "it did not answer in time"),
    (foreign.MaxConnectionsError, "all connections are in use"),
    (foreign.OutOfMemoryError, "it is out of memory"),
    (foreign.ReadOnlyError, "it is a read-only replica"),
    (foreign.ClusterDownError, "the cluster is being changed"),
    (foreign.TryAgainError, "the cluster is being changed"),
    (foreign.BusyLoadingError, "it is loading its data"),
    (foreign.InvalidResponse, "what answers there is no Redis"),
    (foreign.ConnectionError, "it cannot be reached"),
    (OSError, "it cannot be reached"),
)
_PASSING = frozenset({"LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "OOM", "READONLY", "BUSY", "CLUSTERDOWN"})
"""Codes that Redis answers with for what passes by itself or by its operator's hand."""
MOVED_CODE = "HOOKCASTMOVED"
"""What our own scripts answer on a Redis that is marked: see moving.py."""


@contextmanager
def translated(operation: str) -> Iterator[None]:
    """Around every call of Redis. Raises Unavailable, naming `operation`; what became of a write is then unknown.

    Errors of our own making (WRONGTYPE, a script's mistake) pass through unchanged. A cancellation meanwhile is raised
    whatever the call gave: redis-py waits with `asyncio.wait_for`, which on Python 3.11 may swallow one.
    """
    before = _cancellations()
    try:
        yield
        heed_cancellation(before)
    except (foreign.RedisError, OSError) as error:
        heed_cancellation(before)
        why = why_unavailable(error)
        if why is None:
            raise
        raise Unavailable(f"Redis cannot {operation} now: {why}") from error


def heed_cancellation(before: int = 0) -> None:
    """Raises CancelledError if this task was cancelled more than `before` times: a library may have swallowed that."""
    if _cancellations() > before:
        raise asyncio.CancelledError


def _cancellations() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


@asynccontextmanager
async def time_limit(seconds: float) -> AsyncIterator[None]:
    """For what waits for Redis. Raises Unavailable if it takes longer."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise Unavailable("Redis does not answer") from error


def why_unavailable(error: Exception) -> str | None:
    """Why Redis cannot answer now, without addresses or credentials; None if waiting would not help."""
    if (why := _why_untrusted(error)) is not None:
        return why
    for kind, why in _REASONS:
        if isinstance(error, kind):
            return why
    code = str(error).split(" ", 1)[0]
    if code == MOVED_CODE:
        return "its data are being moved to another Redis, or were (health/ready says more)"
    return f"it says {code}" if isinstance(error, foreign.ResponseError) and code in _PASSING else None


_ANOTHER_HOST = frozenset({62, 64})
"""X509_V_ERR_HOSTNAME_MISMATCH and ..._IP_ADDRESS_MISMATCH; OpenSSL's texts for them have the address."""


def _why_untrusted(error: Exception) -> str | None:
    """What is wrong with TLS, if that is it: redis-py says so only in a text that has the address."""
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        why = "it is for another host" if cause.verify_code in _ANOTHER_HOST else cause.verify_message
        return f"its certificate does not hold: {why}"
    return f"TLS failed: {cause.reason}" if isinstance(cause, ssl.SSLError) and cause.reason else None
