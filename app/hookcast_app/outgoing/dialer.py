"""New connections: resolve, judge every address, connect to a judged one, secure it. The only way out.

Nothing here hands a name to the operating system but the resolver: sockets get addresses.
"""

import asyncio
import os
import ssl
from collections.abc import Callable, Sequence

from hookcast_app.outgoing.answer import AttemptFailed
from hookcast_app.outgoing.connection import Connection
from hookcast_app.outgoing.resolver import Resolve
from hookcast_app.outgoing.tls import Contexts, SessionContext, Tls, describe
from hookcast_core.egress import EgressPolicy, Url
from hookcast_core.errors import EgressDenied, Reason

MAX_CONNECT_SECONDS = 10.0
"""For name, TCP and TLS together, within the attempt's own time-out."""
MAX_ADDRESSES = 4
"""Addresses tried; all are judged."""
_NO_TLS = Tls()


class Dialer:
    """Opens connections for one client; holds the TLS contexts and their sessions."""

    def __init__(self, policy: EgressPolicy, resolve: Resolve) -> None:
        self._policy = policy
        self._resolve = resolve
        self._contexts = Contexts()

    async def dial(
        self, url: Url, tls: Tls | None, deadline: float, on_lost: Callable[[Connection], None]
    ) -> Connection:
        """Open a connection to `url`'s host before `deadline` (loop time, seconds). Raises AttemptFailed."""
        loop = asyncio.get_running_loop()
        deadline = min(deadline, loop.time() + MAX_CONNECT_SECONDS)
        context = self._context(url, tls or _NO_TLS)
        addresses = await self._addresses(url, deadline)
        connection = await _connect(lambda: Connection(loop, on_lost), addresses, url.port, deadline)
        if context is not None:
            await _secured(connection, context, url.host, deadline)
        return connection

    def keep_session(self, url: Url, tls: Tls | None, connection: Connection) -> None:
        """Keep the TLS session of a connection that has given an answer, for the next one to the same name."""
        transport = connection.transport
        secured = transport.get_extra_info("ssl_object") if transport is not None else None
        if secured is not None and secured.session is not None:
            self._contexts.get(tls or _NO_TLS).keep_session(url.host, secured.session)

    def _context(self, url: Url, tls: Tls) -> SessionContext | None:
        if url.scheme == "http":
            return None
        try:
            return self._contexts.get(tls)
        except ssl.SSLError as error:
            detail = f"the endpoint's CA or client certificate is unusable: {describe(error)}"
            raise AttemptFailed(Reason.TLS_FAILED, detail) from None

    async def _addresses(self, url: Url, deadline: float) -> Sequence[str]:
        """Find the addresses of the URL's host, every one of them allowed."""
        try:
            self._policy.check_url(url)
            addresses = [url.host] if url.is_literal else await _resolved(self._resolve, url.host, deadline)
            for address in addresses:
                self._policy.check_address(url, address)
        except EgressDenied as error:
            raise AttemptFailed(Reason.EGRESS_DENIED, error.detail) from None
        return addresses


async def _resolved(resolve: Resolve, host: str, deadline: float) -> Sequence[str]:
    try:
        async with asyncio.timeout_at(deadline):
            addresses = await resolve(host)
    except TimeoutError:
        raise AttemptFailed(Reason.NAME_NOT_RESOLVED, f"{host}: no answer from the resolver in time") from None
    except OSError as error:
        raise AttemptFailed(Reason.NAME_NOT_RESOLVED, f"{host}: {error.strerror or 'not resolved'}") from None
    if not addresses:
        raise AttemptFailed(Reason.NAME_NOT_RESOLVED, f"{host}: no addresses")
    return addresses


async def _connect(make: Callable[[], Connection], addresses: Sequence[str], port: int, deadline: float) -> Connection:
    """Connect to the first address that takes us; each gets its share of the time that is left."""
    loop = asyncio.get_running_loop()
    *others, last = addresses[:MAX_ADDRESSES]
    for place, address in enumerate(others):
        try:
            return await _connect_to(make(), address, port, (deadline - loop.time()) / (len(others) + 1 - place))
        except AttemptFailed:
            continue
    return await _connect_to(make(), last, port, deadline - loop.time())


async def _connect_to(connection: Connection, address: str, port: int, seconds: float) -> Connection:
    """Connect to an address; whatever comes in between, no socket stays."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            await asyncio.get_running_loop().create_connection(lambda: connection, address, port)
    except OSError as error:
        connection.abort()
        raise _connect_failure(error, timed_out=limit.expired()) from None
    except BaseException:
        connection.abort()
        raise
    return connection


def _connect_failure(error: OSError, *, timed_out: bool) -> AttemptFailed:
    if timed_out:
        return AttemptFailed(Reason.CONNECT_TIMEOUT, "no TCP connection in time")
    return AttemptFailed(Reason.CONNECT_FAILED, _errno_text(error))


def _errno_text(error: OSError) -> str:
    # Not the exception's own text: asyncio's holds the address.
    return os.strerror(error.errno) if error.errno else "no TCP connection"


async def _secured(connection: Connection, context: SessionContext, host: str, deadline: float) -> None:
    try:
        await _secure(connection, context, host, deadline)
    except BaseException:
        connection.abort()
        raise


async def _secure(connection: Connection, context: SessionContext, host: str, deadline: float) -> None:
    """Do the TLS handshake, which verifies certificate and name."""
    loop = asyncio.get_running_loop()
    if connection.transport is None:
        raise AttemptFailed(Reason.TLS_FAILED, "closed before the TLS handshake")
    limit = asyncio.timeout_at(deadline)
    try:
        async with limit:
            transport = await loop.start_tls(connection.transport, connection, context, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        raise AttemptFailed(Reason.TLS_FAILED, f"certificate not accepted: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise AttemptFailed(Reason.TLS_FAILED, describe(error)) from None
    except OSError:
        if limit.expired():
            raise AttemptFailed(Reason.CONNECT_TIMEOUT, "no TLS handshake in time") from None
        raise AttemptFailed(Reason.TLS_FAILED, "closed in the TLS handshake") from None
    if transport is None:
        raise AttemptFailed(Reason.TLS_FAILED, "closed after the TLS handshake")
    connection.secured(transport)
