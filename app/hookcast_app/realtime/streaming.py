"""What is behind `/connection/sse` and `/connection/http_stream`; it needs no routing and no framework."""

import secrets
from dataclasses import dataclass

from starlette.responses import Response

from hookcast_app.http_wire import ABORT
from hookcast_app.realtime.acceptance import Acceptance
from hookcast_app.realtime.context import Context
from hookcast_app.realtime.cors import Origins, RawHeaders
from hookcast_app.realtime.door import Door
from hookcast_app.realtime.emulated import EmulatedTransport, disconnect_push
from hookcast_app.realtime.framing import PUSHES, Encoding
from hookcast_app.realtime.gate import Gate, read_commands
from hookcast_app.realtime.handshake import MAX_FIELDS, query_fields
from hookcast_app.realtime.limits import Waiting
from hookcast_app.realtime.protocol import OWN_CODES, SHUTDOWN, SLOW, Disconnect
from hookcast_app.realtime.transport import Message, Receive, Send
from hookcast_app.request_body import RequestBody
from hookcast_core.errors import InvalidInput, Reason

SESSION_BYTES = 16
"""Nobody can guess a session: whoever knows it can send commands in its client's name."""
_HEADERS: RawHeaders = [
    (b"cache-control", b"private, no-cache, no-store, must-revalidate, max-age=0"),
    (b"pragma", b"no-cache"),
    (b"expires", b"0"),
    # nginx would otherwise hold everything back until its buffer is full.
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]


@dataclass(frozen=True, slots=True)
class Kind:
    """One of the two ways down. `name` is its metric's label."""

    name: str
    path: str
    methods: str
    encoding: Encoding
    content_type: bytes
    opening: bytes
    """Sent at once, so that every proxy sees that the stream is open; it means nothing."""


SSE = Kind(
    "protocol_sse",
    "/connection/sse",
    "GET, POST, OPTIONS",
    Encoding.LINE_EVENTS,
    b"text/event-stream; charset=utf-8",
    b"\r\n",
)
HTTP_STREAM = Kind(
    "http_stream", "/connection/http_stream", "POST, OPTIONS", Encoding.LINES, b"text/plain; charset=utf-8", b""
)


class StreamingEndpoint:
    """Lets a client in or refuses it, then serves it until it goes; `node` is how others find this process."""

    def __init__(
        self, kind: Kind, context: Context, door: Door, acceptance: Acceptance, origins: Origins, *, node: str
    ) -> None:
        self._kind = kind
        self._context = context
        self._door = door
        self._acceptance = acceptance
        self._origins = origins
        self._node = node

    def application(self) -> Gate:
        """For ASGI."""
        kind = self._kind
        return Gate(kind.path, kind.methods, self._serve, origins=self._origins, stats=self._context.stats)

    async def _serve(self, scope: Message, body: RequestBody, receive: Receive, send: Send) -> None:
        if self._context.is_draining():
            await body.refuse(self._shutdown(scope), send)
            return
        waiting = self._door.enter(scope)
        try:
            commands = await self._commands(scope, body)
            await self._stream(scope, receive, send, commands, waiting)
        finally:
            waiting.end()

    def _shutdown(self, scope: Message) -> Response:
        """The stock client comes back by what a stream says; after another status it would try another transport."""
        content = self._kind.opening + PUSHES[self._kind.encoding](disconnect_push(SHUTDOWN))
        response = Response(content)
        response.raw_headers.extend(self._headers(scope))
        return response

    def _headers(self, scope: Message) -> RawHeaders:
        return [
            (b"content-type", self._kind.content_type),
            *_HEADERS,
            *self._origins.answer_headers(scope["headers"]),
        ]

    async def _commands(self, scope: Message, body: RequestBody) -> bytes:
        """What the client says first. Raises InvalidInput, Disconnected."""
        if scope["method"] == "GET":
            commands = _asked(scope["query_string"])
        else:
            commands = await read_commands(scope, body, self._context.timing.connect)
        if not commands:
            detail = "begin with the connect command, as ?cf_connect=… of a GET or as the body of a POST"
            raise InvalidInput(Reason.INVALID_REQUEST, None, detail)
        return commands

    async def _stream(self, scope: Message, receive: Receive, send: Send, commands: bytes, waiting: Waiting) -> None:
        session = secrets.token_urlsafe(SESSION_BYTES)
        # Another server than ours keeps what a peer does not read.
        offer = (scope.get("extensions") or {}).get(ABORT)
        transport = EmulatedTransport(
            self._kind.name,
            self._kind.encoding,
            receive,
            send,
            headers=self._headers(scope),
            opening=self._kind.opening,
            first=commands,
            on_excess=self._exceeded,
            abort=None if offer is None else offer["abort"],
        )
        presented = self._door.token(scope)
        connection = self._acceptance.connection(presented, transport, waiting, session=session, node=self._node)
        sessions = self._context.clients.sessions
        sessions[session] = transport.take
        try:
            await connection.run()
        finally:
            del sessions[session]

    def _exceeded(self, disconnect: Disconnect) -> None:
        stats = self._context.stats
        stats.slow_closes += disconnect == SLOW
        stats.closed(disconnect.code, OWN_CODES)


def _asked(query: bytes) -> bytes:
    """The commands of a query. Raises InvalidInput."""
    try:
        fields = query_fields(query)
    except ValueError as error:
        raise InvalidInput(Reason.INVALID_REQUEST, None, f"a query has at most {MAX_FIELDS} fields") from error
    return next((value.encode() for name, value in fields if name == "cf_connect"), b"")
