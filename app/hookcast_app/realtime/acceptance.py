"""A client that was let in becomes a connection, whatever its transport is."""

import os
from collections.abc import Callable, Iterator

from hookcast_app.realtime.connection import ClientConnection
from hookcast_app.realtime.context import Context
from hookcast_app.realtime.limits import Waiting
from hookcast_app.realtime.session import Session
from hookcast_app.realtime.transport import Transport
from hookcast_app.settings import Settings

_DRAWN = 256
"""Ids whose bits are asked of the system at once: each question costs as much as ten ids."""


class Acceptance:
    """Lives as long as the server. `version` is what clients are told of it."""

    def __init__(self, context: Context, settings: Settings, *, version: str) -> None:
        self._context = context
        self._settings = settings
        self._version = version
        self._ids = client_ids()

    def connection(
        self, presented: str, transport: Transport, waiting: Waiting, *, session: str = "", node: str = ""
    ) -> ClientConnection:
        """A new connection, to be `run`.

        `presented` is the token of its handshake, if any. `waiting` ends when it is known who the client is. `session`
        and `node` are what a client needs for its way up, where its transport has none.
        """
        return ClientConnection(
            self._session(presented, {"session": session, "node": node} if session else {}),
            transport,
            self._context,
            session=session,
            messages_per_second=self._settings.messages_per_second,
            on_connected=waiting.end,
        )

    def _session(self, presented: str, extra: dict[str, str]) -> Session:
        return Session(
            next(self._ids),
            rules=self._context.rules,
            anonymous=self._settings.realtime_anonymous,
            version=self._version,
            ping=max(1, round(self._context.timing.ping)),
            clock=self._context.clock,
            presented=presented,
            extra=extra,
            methods=self._context.methods,
        )


def client_ids(random: Callable[[int], bytes] = os.urandom) -> Iterator[str]:
    """Version 4 UUIDs (RFC 9562, 5.4) of bytes that `random` gives so many of; without an end."""
    while True:
        drawn = random(16 * _DRAWN).hex()
        for at in range(0, len(drawn), 32):
            bits = drawn[at : at + 32]
            variant = "89ab"[int(bits[16], 16) & 3]
            yield f"{bits[:8]}-{bits[8:12]}-4{bits[13:16]}-{variant}{bits[17:20]}-{bits[20:]}"
