"""Who comes in, for every transport: how many of one address, by the settings and a clock."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from hookcast_app.realtime.handshake import presented_token
from hookcast_app.realtime.limits import AddressLimits, Clock, Waiting, counted_address, networks
from hookcast_app.realtime.stats import Stats
from hookcast_app.settings import Settings
from hookcast_core.errors import Reason, Refused

Scope = Mapping[str, Any]
"""Of ASGI, for HTTP and WebSocket."""
POSTS_PER_CONNECT = 10
"""Requests with commands of streams that an address may send for each connection that it may open: a stream's client
sends what it does over a WebSocket in a request each, one of them every 25 s at least."""


class Door:
    """Lives as long as the server."""

    def __init__(self, settings: Settings, stats: Stats, clock: Clock = time.monotonic) -> None:
        self._proxies = networks(settings.trusted_proxies)
        self._cookie = settings.jwt_cookie
        self._origins = settings.allowed_origins
        self._stats = stats
        self._limits = AddressLimits(
            connects=settings.connects_per_second, waiting=settings.unauthenticated_connections, clock=clock
        )
        self._posts = AddressLimits(connects=settings.connects_per_second * POSTS_PER_CONNECT, waiting=0, clock=clock)

    def enter(self, scope: Scope) -> Waiting:
        """Counts a connection; its `end` is to be called once it has said who it is, or is gone. Raises Refused."""
        address = self._address(scope)
        if self._limits.is_too_fast(address):
            self._stats.refused_connects += 1
            raise Refused(Reason.TOO_MANY_REQUESTS, "your address opens connections faster than it may")
        if self._limits.is_crowded(address):
            self._stats.refused_waiting += 1
            raise Refused(Reason.TOO_MANY_REQUESTS, "your address has too many connections without an identity")
        return self._limits.enter(address)

    def post(self, scope: Scope) -> None:
        """Counts a request with commands of a stream, or a part of a large one. Raises Refused."""
        if self._posts.is_too_fast(self._address(scope)):
            self._stats.refused_posts += 1
            raise Refused(Reason.TOO_MANY_REQUESTS, "your address sends commands of streams faster than it may")

    def token(self, scope: Scope, subprotocols: Sequence[str] = ()) -> str:
        """The token that a handshake presents, or an empty text."""
        return presented_token(
            scope["headers"],
            scope.get("query_string", b""),
            subprotocols,
            cookie=self._cookie,
            allowed=self._origins,
        )

    def _address(self, scope: Scope) -> str:
        client = scope.get("client")
        if not self._proxies:
            return counted_address(client[0] if client else None)
        forwarded = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
        return counted_address(client[0] if client else None, forwarded, self._proxies)
