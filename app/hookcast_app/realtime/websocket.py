"""The ASGI application behind `/connection/websocket`; it needs no routing and no framework."""

from collections.abc import Callable

import structlog

from hookcast_app.observability import ROUTE_KEY
from hookcast_app.problems import Problem, problem_for, problem_response
from hookcast_app.realtime.acceptance import Acceptance
from hookcast_app.realtime.context import Context
from hookcast_app.realtime.door import Door
from hookcast_app.realtime.handshake import SUBPROTOCOL, chosen_subprotocol, header, is_allowed_origin
from hookcast_app.realtime.limits import Waiting
from hookcast_app.realtime.protocol import OWN_CODES, SLOW
from hookcast_app.realtime.transport import AsgiTransport, Message, RawTransport, Receive, Send, Transport
from hookcast_app.realtime.writing import offered_socket
from hookcast_app.settings import Settings
from hookcast_core.errors import HookcastError, InvalidInput, Reason, Refused, Unavailable

PATH = "/connection/websocket"
_UPGRADE = problem_for(
    InvalidInput(Reason.UPGRADE_REQUIRED, None, "this path speaks WebSocket; connect with a ws:// or wss:// URL")
)
_LOGGED_ORIGIN = 256

_log = structlog.get_logger("hookcast.realtime")


class WebSocketEndpoint:
    """Accepts or refuses the handshake, then serves the client until it goes."""

    def __init__(self, context: Context, door: Door, acceptance: Acceptance, settings: Settings) -> None:
        self._context = context
        self._door = door
        self._acceptance = acceptance
        self._settings = settings

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """ASGI 3, for `websocket` scopes; an `http` one is told to upgrade."""
        scope[ROUTE_KEY] = PATH
        waiting = await accept(scope, receive, send, self._door, lambda: judge(scope, self._context, self._settings))
        if waiting is None:
            return
        try:
            presented = self._door.token(scope, scope["subprotocols"])
            transport = self._transport(scope, receive, send)
            await self._acceptance.connection(presented, transport, waiting).run()
        finally:
            waiting.end()

    def _transport(self, scope: Message, receive: Receive, send: Send) -> Transport:
        socket = offered_socket(scope)
        return AsgiTransport(send, receive, self._slow) if socket is None else RawTransport(socket, receive, self._slow)

    def _slow(self) -> None:
        self._context.stats.slow(SLOW.code, OWN_CODES)


async def accept(
    scope: Message, receive: Receive, send: Send, door: Door, judged: Callable[[], str | None]
) -> Waiting | None:
    """Accepts a handshake; the caller is to `end` what is returned. None if it was refused, or was none.

    `judged` gives the subprotocol to answer with, or raises HookcastError.
    """
    if scope["type"] == "http":
        await problem_response(_UPGRADE)(scope, receive, send)
        return None
    await receive()
    try:
        subprotocol = judged()
        waiting = door.enter(scope)
    except HookcastError as error:
        await _refuse(scope, send, problem_for(error))
        return None
    try:
        await send({"type": "websocket.accept", "subprotocol": subprotocol})
    except BaseException:
        waiting.end()
        raise
    return waiting


def judge(scope: Message, context: Context, settings: Settings, ours: str = SUBPROTOCOL) -> str | None:
    """The subprotocol to answer a handshake with. Raises Unavailable, Refused, InvalidInput."""
    if context.is_draining():
        raise Unavailable("the server is draining")
    origin, host = header(scope["headers"], b"origin"), header(scope["headers"], b"host")
    if not is_allowed_origin(origin, host, settings.allowed_origins):
        context.stats.refused += 1
        raise Refused(Reason.FORBIDDEN, "its origin is not allowed")
    return chosen_subprotocol(scope["subprotocols"], ours)


async def _refuse(scope: Message, send: Send, problem: Problem) -> None:
    """Answers the handshake with a status where the server can (ASGI's `websocket.http.response`); else it is 403."""
    origin = header(scope["headers"], b"origin")
    told = {} if origin is None else {"origin": origin[:_LOGGED_ORIGIN]}
    _log.info("websocket refused", reason=problem.detail, status=problem.status, **told)
    if "websocket.http.response" in (scope.get("extensions") or {}):
        response = problem_response(problem)
        await send({"type": "websocket.http.response.start", "status": problem.status, "headers": response.raw_headers})
        await send({"type": "websocket.http.response.body", "body": response.body})
    else:
        await send({"type": "websocket.close"})
