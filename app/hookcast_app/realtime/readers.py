"""Who may read channels by plain HTTP, and from which pages: for event streams and long polls."""

from collections.abc import Sequence

from fastapi import Request

from hookcast_app.auth import ANONYMOUS, ApiKeys, Caller, Grant, Identity, TokenExpired, TokenInvalid
from hookcast_app.realtime.context import Context
from hookcast_app.realtime.cors import Origins
from hookcast_app.realtime.door import Door
from hookcast_app.realtime.session import MAX_SUBSCRIPTIONS
from hookcast_app.settings import Settings
from hookcast_core.channels import NAME_RULE, is_channel_name
from hookcast_core.errors import InvalidInput, Reason, Refused

_SCOPE = "read"
"""What an API key needs to read every channel."""


class Readers:
    """Lives as long as the server."""

    def __init__(self, context: Context, door: Door, origins: Origins, settings: Settings) -> None:
        self._context = context
        self._door = door
        self._origins = origins
        self._anonymous = settings.realtime_anonymous
        self._keys = ApiKeys(settings.api_keys)

    async def admit(
        self, request: Request, channels: Sequence[str], subscription_token: str = "", *, takes_keys: bool = False
    ) -> float | None:
        """Lets a client read these channels, until the time returned (epoch seconds; None is for good).

        `subscription_token` is for the one channel, `takes_keys`: it may be a service.

        Raises InvalidInput, Refused, Unavailable.
        """
        waiting = self._door.enter(request.scope)
        try:
            _check_names(channels)
            if takes_keys and (caller := self._caller(request)):
                self._check_service(caller, channels)
                return None
            identity = await self._identity(request)
            grant = await self._grant(subscription_token, channels[0], identity) if subscription_token else None
        finally:
            waiting.end()
        self._check(channels, identity, grant)
        ends = [each.expires_at for each in (identity, grant) if each is not None and each.expires_at is not None]
        return min(ends, default=None)

    def cross_origin(self, request: Request) -> dict[str, str]:
        """Headers that let pages of the origins that the settings allow read the answer."""
        told = self._origins.answer_headers(request.scope["headers"])
        return {name.decode(): value.decode("latin-1") for name, value in told}

    def _caller(self, request: Request) -> Caller | None:
        """The service that asks. Raises Refused for an unknown key; what may be a token is left to be tried as one."""
        try:
            return self._keys.authenticate(request.scope["headers"])
        except Refused:
            if "x-api-key" in request.headers:
                raise
            return None

    def _check_service(self, caller: Caller, channels: Sequence[str]) -> None:
        if not caller.may(_SCOPE):
            raise Refused(Reason.FORBIDDEN, f"the API key {caller.name!r} lacks the scope {_SCOPE}")
        self._check_rooms(channels)

    async def _identity(self, request: Request) -> Identity:
        scheme, _, credentials = (request.headers.get("authorization") or "").partition(" ")
        presented = credentials.strip() if scheme.lower() == "bearer" else ""
        presented = presented or self._door.token(request.scope)
        if not presented:
            if self._anonymous:
                return ANONYMOUS
            raise Refused(Reason.UNAUTHENTICATED, "send a connection token as `Authorization: Bearer …` or `?token=…`")
        try:
            return await self._context.verify(presented)
        except TokenInvalid as error:
            self._context.stats.refused += 1
            raise Refused(Reason.UNAUTHENTICATED, str(error)) from error

    async def _grant(self, token: str, channel: str, identity: Identity) -> Grant:
        try:
            return await self._context.verify_subscription(token, channel, identity.user)
        except TokenInvalid as error:
            self._context.stats.refused += 1
            reason = Reason.UNAUTHENTICATED if isinstance(error, TokenExpired) else Reason.FORBIDDEN
            raise Refused(reason, f"subscription_token: {error}") from error

    def _check(self, channels: Sequence[str], identity: Identity, grant: Grant | None) -> None:
        for channel in channels:
            if not self._context.rules.may_subscribe(identity, channel, grant):
                raise Refused(Reason.FORBIDDEN, f"you may not listen on {channel}")
        self._check_rooms(channels)

    def _check_rooms(self, channels: Sequence[str]) -> None:
        for channel in channels:
            self._context.check_room(channel)


def _check_names(channels: Sequence[str]) -> None:
    if len(channels) > MAX_SUBSCRIPTIONS:
        raise InvalidInput(
            Reason.INVALID_REQUEST, "channel", f"at most {MAX_SUBSCRIPTIONS} channels can be listened to"
        )
    if not all(map(is_channel_name, channels)):
        raise InvalidInput(Reason.INVALID_REQUEST, "channel", NAME_RULE)
