"""The ASGI application behind `/ws/{client_id}` and `/ws/chat/{room}/{user}`: WebSockets without any library."""

from urllib.parse import quote

from hookcast_app.observability import ROUTE_KEY
from hookcast_app.realtime.claims import Claims
from hookcast_app.realtime.context import Context
from hookcast_app.realtime.door import Door
from hookcast_app.realtime.event_ids import UNKNOWN, read_position
from hookcast_app.realtime.handshake import query_fields
from hookcast_app.realtime.limits import Waiting
from hookcast_app.realtime.plain_admission import Presented
from hookcast_app.realtime.plain_connection import PlainConnection
from hookcast_app.realtime.plain_protocol import OWN_CODES, SLOW, SUBPROTOCOL, Place, place_of
from hookcast_app.realtime.plain_transport import AsgiPlainTransport, PlainTransport, RawPlainTransport
from hookcast_app.realtime.transport import Message, Receive, Send
from hookcast_app.realtime.websocket import accept, judge
from hookcast_app.realtime.writing import offered_socket
from hookcast_app.settings import Settings
from hookcast_core.errors import InvalidInput, Reason

PREFIX = "/ws/"


class PlainEndpoint:
    """Accepts or refuses the handshake, then serves the client until it goes."""

    def __init__(self, context: Context, door: Door, claims: Claims, settings: Settings) -> None:
        self._context = context
        self._door = door
        self._claims = claims
        self._settings = settings

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """ASGI 3, for `websocket` scopes; an `http` one is told to upgrade."""
        place = place_of(_path(scope))
        scope[ROUTE_KEY] = PREFIX if place is None else place.route
        waiting = await accept(scope, receive, send, self._door, lambda: self._judged(scope, place))
        if waiting is None or place is None:
            return
        try:
            await self._connection(place, scope, self._transport(scope, receive, send), waiting).run()
        finally:
            waiting.end()

    def _judged(self, scope: Message, place: Place | None) -> str | None:
        """The subprotocol to answer with. Raises HookcastError."""
        if place is None:
            detail = "there are /ws/{client_id} and /ws/chat/{room}/{user}; an id has 128 of A-Za-z0-9_.:@- at most"
            raise InvalidInput(Reason.NOT_FOUND, None, detail)
        return judge(scope, self._context, self._settings, SUBPROTOCOL)

    def _connection(self, place: Place, scope: Message, transport: PlainTransport, waiting: Waiting) -> PlainConnection:
        return PlainConnection(
            place,
            self._presented(scope),
            transport,
            self._context,
            self._claims,
            anonymous=self._settings.realtime_anonymous,
            messages_per_second=self._settings.messages_per_second,
            on_known=waiting.end,
        )

    def _presented(self, scope: Message) -> Presented:
        query = _query(scope)
        after = query.get("after")
        return Presented(
            self._door.token(scope, scope["subprotocols"]),
            says_token=query.get("auth") == "message",
            since=None if after is None else read_position(after) or UNKNOWN,
        )

    def _transport(self, scope: Message, receive: Receive, send: Send) -> PlainTransport:
        socket = offered_socket(scope)
        if socket is None:
            return AsgiPlainTransport(send, receive, self._slow)
        return RawPlainTransport(socket, receive, self._slow)

    def _slow(self) -> None:
        self._context.stats.slow(SLOW.code, OWN_CODES)


def _path(scope: Message) -> str:
    """As it was sent: a user may have a slash, which is percent-encoded there."""
    raw: bytes | None = scope.get("raw_path")
    return quote(scope["path"]) if raw is None else raw.decode("latin-1").partition("?")[0]


def _query(scope: Message) -> dict[str, str]:
    try:
        return dict(query_fields(scope.get("query_string", b"")))
    except ValueError:
        return {}
