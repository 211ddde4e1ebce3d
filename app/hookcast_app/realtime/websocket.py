"""The ASGI application behind `/connection/websocket`; it needs no routing and no framework."""

import uuid
from collections.abc import Collection

import structlog

from hookcast_app.observability import ROUTE_KEY
from hookcast_app.problems import problem_for, problem_response
from hookcast_app.realtime.connection import ClientConnection, Context
from hookcast_app.realtime.handshake import chosen_subprotocol, header, is_allowed_origin
from hookcast_app.realtime.session import Session
from hookcast_app.realtime.transport import AsgiTransport, Message, RawTransport, Receive, Send, Transport
from hookcast_app.realtime.wire import EXTENSION
from hookcast_core.errors import InvalidInput, Reason

PATH = "/connection/websocket"
_UPGRADE = problem_for(
    InvalidInput(Reason.UPGRADE_REQUIRED, None, "this path speaks WebSocket; connect with a ws:// or wss:// URL")
)
_FORBIDDEN, _UNAVAILABLE = 403, 503
_LOGGED_ORIGIN = 256

_log = structlog.get_logger("hookcast.realtime")


class WebSocketEndpoint:
    """Accepts or refuses the handshake, then serves the client until it goes."""

    def __init__(self, context: Context, *, anonymous: bool, version: str, allowed_origins: Collection[str]) -> None:
        self._context = context
        self._anonymous = anonymous
        self._version = version
        self._allowed_origins = allowed_origins

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """ASGI 3, for `websocket` scopes; an `http` one is told to upgrade."""
        scope[ROUTE_KEY] = PATH
        if scope["type"] == "http":
            await problem_response(_UPGRADE)(scope, receive, send)
            return
        await receive()
        status = self._refusal(scope)
        if status is not None:
            await _refuse(scope, send, status)
            return
        await send({"type": "websocket.accept", "subprotocol": chosen_subprotocol(scope["subprotocols"])})
        await ClientConnection(self._session(), self._transport(scope, receive, send), self._context).run()

    def _refusal(self, scope: Message) -> int | None:
        if self._context.is_draining():
            _log.info("websocket refused", reason="the server is draining", status=_UNAVAILABLE)
            return _UNAVAILABLE
        origin, host = header(scope["headers"], b"origin"), header(scope["headers"], b"host")
        if not is_allowed_origin(origin, host, self._allowed_origins):
            self._context.stats.refused += 1
            told = (origin or "")[:_LOGGED_ORIGIN]
            _log.info("websocket refused", reason="its origin is not allowed", status=_FORBIDDEN, origin=told)
            return _FORBIDDEN
        return None

    def _session(self) -> Session:
        return Session(
            str(uuid.uuid4()),
            rules=self._context.rules,
            anonymous=self._anonymous,
            version=self._version,
            ping=max(1, round(self._context.timing.ping)),
        )

    def _transport(self, scope: Message, receive: Receive, send: Send) -> Transport:
        offer = (scope.get("extensions") or {}).get(EXTENSION)
        if offer is None:
            return AsgiTransport(send, receive, self._slow)
        return RawTransport(offer["socket"], receive, self._slow)

    def _slow(self) -> None:
        self._context.stats.slow_closes += 1


async def _refuse(scope: Message, send: Send, status: int) -> None:
    """Answers the handshake with a status where the server can (ASGI's `websocket.http.response`); else it is 403."""
    if "websocket.http.response" in (scope.get("extensions") or {}):
        headers = [(b"content-length", b"0")]
        await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b""})
    else:
        await send({"type": "websocket.close"})
