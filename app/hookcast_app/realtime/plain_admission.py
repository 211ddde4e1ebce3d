"""Who a client of typed messages is, and whether it may be where it wants to be."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from hookcast_app.auth import ANONYMOUS, Identity, TokenExpired, TokenInvalid
from hookcast_app.realtime import plain_protocol
from hookcast_app.realtime.context import Context
from hookcast_app.realtime.plain_protocol import Place, Said
from hookcast_app.realtime.positions import Position
from hookcast_app.realtime.protocol import Disconnect
from hookcast_app.realtime.transport import Message
from hookcast_core.errors import InvalidInput, Unavailable


class Presented(NamedTuple):
    """What a client's handshake says: a token, that it is in the first message, where the client was last."""

    token: str = ""
    says_token: bool = False
    since: Position | None = None


class TurnedAway(Exception):  # noqa: N818  it is what happens to the client
    """A client is not let in, and is told why by the close of its connection."""

    def __init__(self, disconnect: Disconnect) -> None:
        super().__init__(disconnect.reason)
        self.disconnect = disconnect


class Admission:
    """Lives as long as its connection, which it does not know."""

    def __init__(self, place: Place, presented: Presented, context: Context, *, anonymous: bool) -> None:
        self._place = place
        self._presented = presented
        self._context = context
        self._anonymous = anonymous

    async def identity(self, next_message: Callable[[], Awaitable[Message | None]]) -> Identity | None:
        """Who it is, or None if it has gone. Raises TurnedAway.

        `next_message` gives what the client sends, and None once it has gone.
        """
        token = self._presented.token
        if not token and self._anonymous and not self._presented.says_token:
            return ANONYMOUS
        token = token or _token_of(await next_message())
        return await self._verified(token) if token else None

    async def _verified(self, token: str) -> Identity:
        try:
            return await self._context.verify(token)
        except TokenExpired as error:
            raise self._refused(plain_protocol.EXPIRED) from error
        except TokenInvalid as error:
            raise self._refused(plain_protocol.INVALID_TOKEN) from error
        except Unavailable as error:
            raise TurnedAway(plain_protocol.UNAVAILABLE) from error

    def check(self, identity: Identity) -> None:
        """Whether it may be there. Raises TurnedAway."""
        is_anybody = self._anonymous and not identity.user
        if self._place.user and self._place.user != identity.user and not is_anybody:
            raise self._refused(plain_protocol.WRONG_USER)
        if not self._context.rules.may_subscribe(identity, self._place.channel):
            raise self._refused(plain_protocol.FORBIDDEN)

    def _refused(self, disconnect: Disconnect) -> TurnedAway:
        self._context.stats.refused += 1
        return TurnedAway(disconnect)


def _token_of(message: Message | None) -> str:
    """That of the first message; empty if the client has gone. Raises TurnedAway."""
    if message is None:
        return ""
    text = message.get("text")
    if text is None:
        raise TurnedAway(plain_protocol.UNSUPPORTED)
    try:
        said = plain_protocol.parse(text)
    except InvalidInput:
        said = Said("")
    if said.type != "auth" or not said.token:
        raise TurnedAway(plain_protocol.NO_TOKEN)
    return said.token
