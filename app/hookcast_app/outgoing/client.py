"""The one HTTP client of the app: a request in, an answer or the reason for none out."""

import asyncio
from collections.abc import Hashable

from hookcast_app.outgoing.answer import Answer, AttemptFailed
from hookcast_app.outgoing.connection import Connection
from hookcast_app.outgoing.dialer import Dialer
from hookcast_app.outgoing.pool import Pool
from hookcast_app.outgoing.resolver import Resolve, SystemResolver
from hookcast_app.outgoing.response import HEAD_BYTES, MAX_BODY_BYTES
from hookcast_app.outgoing.tls import Tls
from hookcast_core.egress import EgressPolicy, Url

CONNECTIONS_PER_ENDPOINT = 128
IDLE_SECONDS = 15.0
"""Kept-alive connections: long enough for a steady trickle, shorter than most servers keep theirs."""
MAX_AGE_SECONDS = 60.0
"""After which a connection is not used again, so that a name's new addresses are found and judged."""

_Key = tuple[Url, Tls | None, Hashable]
_GET = object()
"""Keeps the pools of the two methods apart, whose requests begin differently."""


class HttpClient:
    """Lives from the app's start to its stop, on one event loop.

    A pool is that of one URL with one TLS configuration; `pool` keeps those of several users of a URL apart.
    """

    def __init__(
        self,
        policy: EgressPolicy,
        *,
        resolve: Resolve | None = None,
        connections_per_endpoint: int = CONNECTIONS_PER_ENDPOINT,
        idle_seconds: float = IDLE_SECONDS,
        max_age_seconds: float = MAX_AGE_SECONDS,
    ) -> None:
        self._own_resolver = SystemResolver() if resolve is None else None
        self._dialer = Dialer(policy, resolve or self._own_resolver or SystemResolver())
        self._limit = connections_per_endpoint
        self._idle_seconds = idle_seconds
        self._max_age = max_age_seconds
        self._pools: dict[_Key, Pool] = {}
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._closed = False

    async def post(
        self,
        url: Url,
        headers: bytes,
        body: bytes,
        *,
        timeout_ms: int,
        tls: Tls | None = None,
        pool: Hashable = None,
    ) -> Answer:
        r"""POST `body` and wait for the answer, at most `timeout_ms` in all. Raises AttemptFailed.

        `headers` are whole lines (`name: value\r\n`, ASCII) that the caller has vetted; request line, Host and
        Content-Length are added. At least once: where a kept connection turns out to have been closed before any
        byte of an answer, the same request is sent once more, on a new connection.
        """
        key = url, tls, pool
        endpoint = self._pools.get(key) or self._new_pool(key, b"POST")
        length = b"content-length: %d\r\n\r\n" % len(body)
        request = b"".join((endpoint.request_head, headers, length, body))
        return await self._exchange(key, endpoint, request, timeout_ms, HEAD_BYTES)

    async def get(self, url: Url, headers: bytes, *, timeout_ms: int) -> Answer:
        """GET `url`, as `post` otherwise; `Answer.head` is up to 64 KiB of the body."""
        key = url, None, _GET
        endpoint = self._pools.get(key) or self._new_pool(key, b"GET")
        request = b"".join((endpoint.request_head, headers, b"\r\n"))
        return await self._exchange(key, endpoint, request, timeout_ms, MAX_BODY_BYTES)

    async def _exchange(self, key: _Key, endpoint: Pool, request: bytes, timeout_ms: int, kept: int) -> Answer:
        url, tls, _ = key
        loop = asyncio.get_running_loop()
        start = loop.time()
        deadline = start + timeout_ms / 1000
        connection = endpoint.take() or await endpoint.open(deadline)
        try:
            await connection.exchange(request, deadline, kept)
        except BaseException as error:
            if not (isinstance(error, AttemptFailed) and connection.is_stale):
                endpoint.drop(connection)
                raise
            connection = await self._again(endpoint, connection, request, deadline, kept)
        end = loop.time()
        reader = connection.reader
        answer = Answer(reader.status, reader.retry_after, reader.head, (end - start) * 1000)
        if connection.answered == 1 and url.scheme == "https":
            self._dialer.keep_session(url, tls, connection)
        endpoint.give_back(connection, end)
        return answer

    async def close(self) -> None:
        """Close all connections; requests on the way fail with ConnectionLost, later ones are refused."""
        self._closed = True
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()
        if self._own_resolver is not None:
            self._own_resolver.close()

    async def _again(self, endpoint: Pool, stale: Connection, request: bytes, deadline: float, kept: int) -> Connection:
        """Send a request on a new connection, in the place of the one that was found closed."""
        connection = await endpoint.reopen(stale, deadline)
        try:
            await connection.exchange(request, deadline, kept)
        except BaseException:
            endpoint.drop(connection)
            raise
        return connection

    def _new_pool(self, key: _Key, method: bytes) -> Pool:
        if self._closed:
            raise RuntimeError("the HTTP client is closed")
        url, tls, _ = key
        pool = self._pools[key] = Pool(
            lambda deadline, on_lost: self._dialer.dial(url, tls, deadline, on_lost),
            limit=self._limit,
            max_age_seconds=self._max_age,
            request_head=b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (method, url.target.encode(), url.authority.encode()),
        )
        if self._sweep_timer is None:
            self._plan_sweep()
        return pool

    def _plan_sweep(self) -> None:
        self._sweep_timer = asyncio.get_running_loop().call_later(self._idle_seconds / 2, self._sweep)

    def _sweep(self) -> None:
        """Close what has long been idle, and forget the pools that are empty."""
        self._sweep_timer = None
        before = asyncio.get_running_loop().time() - self._idle_seconds
        for key, pool in list(self._pools.items()):
            pool.close_idle(before)
            if pool.size == 0:
                del self._pools[key]
        if self._pools:
            self._plan_sweep()
