"""Names to addresses, by the system's resolver, off the loop."""

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""All addresses of a host name, at least one; raises OSError when there is none. It judges nothing."""

TTL_SECONDS = 5.0
"""How long an answer is used again: short, as records are changed to move traffic away."""
MAX_ENTRIES = 10_000
THREADS = 32
"""Look-ups at a time: a name server that hangs holds a thread for as long as the system's resolver waits."""


class SystemResolver:
    """`getaddrinfo` in threads of its own, each name once at a time, answers kept for some seconds.

    Lives as long as its client. A caller that gives up does not stop the look-up, which others may wait for.
    """

    def __init__(
        self,
        look_up: Callable[[str], Sequence[str]] | None = None,
        *,
        ttl_seconds: float = TTL_SECONDS,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._look_up = look_up or system_addresses
        self._ttl = ttl_seconds
        self._clock = clock
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="resolver")
        self._known: dict[str, tuple[float, Sequence[str]]] = {}
        self._pending: dict[str, asyncio.Future[Sequence[str]]] = {}

    async def __call__(self, host: str) -> Sequence[str]:
        """All addresses of an ASCII host name, in the system's order of preference (RFC 6724). Raises OSError."""
        known = self._known.get(host)
        if known is not None and self._now() < known[0]:
            return known[1]
        pending = self._pending.get(host)
        if pending is None:
            pending = asyncio.get_running_loop().run_in_executor(self._threads, self._look_up, host)
            self._pending[host] = pending
            pending.add_done_callback(lambda done: self._keep(host, done))
        try:
            return await asyncio.shield(pending)
        except asyncio.CancelledError:
            if pending.cancelled():
                # Nobody cancelled the caller: its look-up will not be made.
                raise OSError(errno.ECANCELED, "the resolver is closed") from None
            raise

    def close(self) -> None:
        """Start no more look-ups: those that wait fail, those that run end in their threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _keep(self, host: str, done: asyncio.Future[Sequence[str]]) -> None:
        del self._pending[host]
        if done.cancelled() or done.exception() is not None:
            return
        if len(self._known) >= MAX_ENTRIES:
            self._known.pop(next(iter(self._known)))
        self._known.pop(host, None)
        self._known[host] = (self._now() + self._ttl, done.result())

    def _now(self) -> float:
        return self._clock() if self._clock else asyncio.get_running_loop().time()


def system_addresses(host: str) -> Sequence[str]:
    """Ask the system, blocking; zones (`fe80::1%eth0`) stay on the addresses that have one. Raises OSError."""
    found = socket.getaddrinfo(host.encode("ascii"), None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))
