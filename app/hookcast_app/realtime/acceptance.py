"""A client that was let in becomes a connection, whatever its transport is."""

import uuid

from hookcast_app.realtime.connection import ClientConnection
from hookcast_app.realtime.context import Context
from hookcast_app.realtime.limits import Waiting
from hookcast_app.realtime.session import Session
from hookcast_app.realtime.transport import Transport
from hookcast_app.settings import Settings


class Acceptance:
    """Lives as long as the server. `version` is what clients are told of it."""

    def __init__(self, context: Context, settings: Settings, *, version: str) -> None:
        self._context = context
        self._settings = settings
        self._version = version

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
            str(uuid.uuid4()),
            rules=self._context.rules,
            anonymous=self._settings.realtime_anonymous,
            version=self._version,
            ping=max(1, round(self._context.timing.ping)),
            clock=self._context.clock,
            presented=presented,
            extra=extra,
            methods=self._context.methods,
        )
