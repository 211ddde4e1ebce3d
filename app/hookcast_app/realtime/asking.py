"""What a client's commands need of others: of tokens' keys, of Redis, of the application's own functions."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import structlog

from hookcast_app.auth import TokenExpired, TokenInvalid
from hookcast_app.realtime import effects, protocol
from hookcast_app.realtime.context import Context
from hookcast_app.realtime.effects import Effect
from hookcast_app.realtime.hub import Connection
from hookcast_app.realtime.membership import failed
from hookcast_app.realtime.positions import Caught
from hookcast_app.realtime.protocol import Failure
from hookcast_app.realtime.session import Session
from hookcast_app.realtime.streams import EpochGone, read_history
from hookcast_app.rpc import Call, CallError, Function
from hookcast_core.errors import Refused, Unavailable

Token = (
    effects.Authenticate
    | effects.AuthenticateAgain
    | effects.AuthenticateSubscription
    | effects.AuthenticateSubscriptionAgain
)
Question = effects.Publish | effects.Present | effects.History
Listen = effects.Connect | effects.Subscribe | effects.SubscribeAsTold
Application = effects.Call | effects.Message | effects.Greet

_log = structlog.get_logger("hookcast.realtime")


class Asking:
    """One client's; lives as long as its connection. Each method gives what follows, and raises nothing.

    It does not know the connection, so that both are freed as soon as that ends.
    """

    __slots__ = ("_context", "_send", "_session")

    def __init__(self, session: Session, context: Context, send: Callable[[bytes], None]) -> None:
        self._session = session
        self._context = context
        self._send = send

    # Tokens

    async def verified(self, effect: Token) -> list[Effect]:
        """A token is looked at."""
        number = effect.command_id
        try:
            return await self._verified(effect)
        except TokenExpired:
            self._context.stats.refused += 1
            return self._expired(effect)
        except TokenInvalid:
            self._context.stats.refused += 1
            if isinstance(effect, effects.Authenticate | effects.AuthenticateAgain):
                return [effects.Close(protocol.INVALID_TOKEN)]
            return failed(number, protocol.PERMISSION_DENIED)
        except Unavailable:
            return self._refused(effect, protocol.INTERNAL)

    async def _verified(self, effect: Token) -> list[Effect]:
        session, context, number = self._session, self._context, effect.command_id
        match effect:
            case effects.Authenticate():
                return session.authenticated(number, await context.verify(effect.token))
            case effects.AuthenticateAgain():
                return session.refreshed(number, await context.verify(effect.token))
            case effects.AuthenticateSubscription():
                request = effect.request
                grant = await context.verify_subscription(request.token, request.channel, effect.user)
                return session.granted(number, request, grant)
            case effects.AuthenticateSubscriptionAgain():
                grant = await context.verify_subscription(effect.token, effect.channel, effect.user)
                return session.regranted(number, effect.channel, grant)

    def _expired(self, effect: Token) -> list[Effect]:
        is_first = isinstance(effect, effects.Authenticate | effects.AuthenticateSubscription)
        return self._refused(effect, protocol.EXPIRED_TOKEN if is_first else protocol.EXPIRED_REFRESH)

    def _refused(self, effect: Token, failure: Failure) -> list[Effect]:
        if isinstance(effect, effects.Authenticate):
            return self._session.refused(effect.command_id, failure)
        return failed(effect.command_id, failure)

    # Redis

    async def answered(self, effect: Question) -> list[Effect]:
        """Something is published, or read."""
        try:
            async with self._context.time_limit():
                return await self._answered(effect)
        except Unavailable:
            return failed(effect.command_id, protocol.INTERNAL)

    async def _answered(self, effect: Question) -> list[Effect]:
        context, number = self._context, effect.command_id
        match effect:
            case effects.Publish():
                position = await context.broker.publish(effect.channel, effect.publication)
                context.stats.client_publications += 1
                if effect.channel in self._session.held:
                    # Whoever publishes sees its publication before the answer.
                    await context.broker.reached(effect.channel, position)
                    context.hub.flush()
                return self._session.published(number)
            case effects.Present():
                return self._session.present(effect, await context.presence.present(effect.channel))
            case effects.History():
                try:
                    return self._session.history(number, await read_history(context.streams, effect.request))
                except EpochGone:
                    return failed(number, protocol.UNRECOVERABLE)

    # Channels

    async def listened(self, effect: Listen, connection: Connection) -> list[Effect]:
        """Channels are listened to by a connection, and what was missed there is known.

        For a single channel what follows goes out before the hub's next write: publications come after it, and none is
        left out. With several, whoever calls holds the hub's writes back.
        """
        try:
            match effect:
                case effects.Connect():
                    missed = await self._listen_to_all(effect.listenings, connection)
                    return self._session.connected(effect.command_id, effect.listenings, missed)
                case effects.Subscribe():
                    return self._session.subscribed(effect, await self._listen(effect.listening, connection))
                case effects.SubscribeAsTold(listening=told, is_new=True):
                    return self._session.subscribed_as_told(effect, await self._listen(told, connection))
                case effects.SubscribeAsTold(listening=told):
                    return self._session.subscribed_as_told(
                        effect, await self._context.catch_up(told.channel, told.since)
                    )
        except Refused:
            return self._not_listened(effect, protocol.LIMIT_EXCEEDED)
        except Unavailable:
            return self._not_listened(effect, protocol.INTERNAL)

    async def _listen_to_all(
        self, listenings: Sequence[effects.Listening], connection: Connection
    ) -> dict[str, Caught]:
        # All have ended when this goes on: whatever is listened to then can be left.
        listening = [self._listen(each, connection) for each in listenings]
        found = await asyncio.gather(*listening, return_exceptions=True)
        for each in found:
            if isinstance(each, BaseException):
                raise each
        return {each.channel: caught for each, caught in zip(listenings, found, strict=True)}  # type: ignore[misc]

    async def _listen(self, listening: effects.Listening, connection: Connection) -> Caught:
        context, channel, client = self._context, listening.channel, self._session.client
        context.check_room(channel)
        try:
            if listening.info is not None:
                async with context.time_limit():
                    await context.presence.enter(channel, client, listening.info)
            caught = await context.listen(channel, connection, listening.since)
        except BaseException:
            context.presence.leave(channel, client)
            raise
        if listening.since is not None:
            context.stats.came_back(is_all=caught.is_all)
        return caught

    def _not_listened(self, effect: Listen, failure: Failure) -> list[Effect]:
        if isinstance(effect, effects.Connect):
            return self._session.refused(effect.command_id, failure)
        return self._session.subscribe_failed(effect, failure)

    # The application

    async def called(self, effect: Application) -> list[Effect]:
        """A function of the application's own has run."""
        match effect:
            case effects.Message():
                await self._run("message", self._context.methods.message, effect.data)
                return []
            case effects.Greet():
                greeting = await self._run("connecting", self._context.methods.connecting, effect.data)
                if isinstance(greeting, Failure):
                    return self._session.refused(effect.command_id, greeting)
                return self._session.greeted(effect.command_id, greeting)
            case effects.Call():
                found = await self._run(effect.method, self._context.methods.methods.get(effect.method), effect.data)
                if isinstance(found, Failure):
                    return failed(effect.command_id, found)
                return self._session.called(effect.command_id, found)

    async def _run(self, name: str, function: Function | None, data: bytes) -> bytes | Failure:
        """What a function gives, as JSON, or why it gave nothing."""
        if function is None:
            return protocol.METHOD_NOT_FOUND
        identity = self._session.identity
        try:
            call = Call(identity.user, self._session.client, identity.info, _parsed(data), self._tell)
            async with asyncio.timeout(self._context.timing.call):
                return msgspec.json.encode(await function(call))
        except CallError as error:
            return Failure(error.code, error.message)
        except Exception:  # noqa: BLE001
            # It is not our code: the client is told that it failed, the log why, and the connection goes on.
            _log.exception("rpc.failed", method=name)
            return protocol.INTERNAL

    def _tell(self, data: Any) -> None:
        self._send(protocol.push("message", {"data": data}))


def _parsed(data: bytes) -> Any:
    return msgspec.json.decode(data) if data else None
