"""Calls of Centrifugo's methods: who may make them, and how they are answered, one at a time and in batches."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from hookcast_app.auth import Caller
from hookcast_app.realtime import Position, history_result, presence_result, presence_stats_result
from hookcast_app.server_api import models
from hookcast_app.server_api.failures import api_error
from hookcast_app.server_api.models import (
    REQUESTS,
    ApiError,
    BroadcastRequest,
    BroadcastResult,
    PublishRequest,
    PublishResponse,
    PublishResult,
    Request,
    Result,
)
from hookcast_app.server_api.service import Published, ServerApi
from hookcast_core.errors import HookcastError, InvalidInput, Reason, Refused

PUBLISH_SCOPE, READ_SCOPE, ADMIN_SCOPE = "realtime:publish", "read", "admin"
MAX_CALLS = 1_000
"""Of a batch."""
MAX_PUBLICATIONS = 10_000
"""Of a batch: each of its calls publishes once for each channel."""
_AT_ONCE = 16
"""Calls of a parallel batch that wait for Redis at the same time."""
_SCOPES = {
    "publish": PUBLISH_SCOPE,
    "broadcast": PUBLISH_SCOPE,
    "presence": READ_SCOPE,
    "presence_stats": READ_SCOPE,
    "history": READ_SCOPE,
    "channels": READ_SCOPE,
    "info": READ_SCOPE,
}
"""What a method needs; the others need ADMIN_SCOPE."""

Call = tuple[str, Request]
"""A method by its name, and what is asked of it."""
Answer = Result | ApiError


class Calls:
    """Lives as long as the app."""

    def __init__(self, api: ServerApi) -> None:
        self._api = api
        self._methods: dict[str, Callable[[Any], Awaitable[Result]]] = {
            "subscribe": self._order,
            "unsubscribe": self._order,
            "disconnect": self._order,
            "refresh": self._order,
            "presence": self._presence,
            "presence_stats": self._presence_stats,
            "history": self._history,
            "history_remove": self._history_remove,
            "channels": self._channels,
            "info": self._info,
        }

    async def answer(self, call: Call, caller: Caller) -> Answer:
        """Makes one call."""
        (answer,) = await self.answer_all([call], caller)
        return answer

    async def answer_all(
        self, calls: Sequence[Call | HookcastError], caller: Caller, *, parallel: bool = False
    ) -> list[Answer]:
        """Makes calls, one after the other unless they may be `parallel`; publications that follow one another at once.

        An error stands for a call that could not be read. Raises InvalidInput for too many.
        """
        _check_number(calls)
        checked = [_permitted(call, caller) for call in calls]
        steps = _steps(checked, parallel=parallel)
        parts = [[checked[at] for at in step] for step in steps]
        taken = await self._take_together(parts) if parallel else [await self._take(part) for part in parts]
        answers = {
            at: answer for step, some in zip(steps, taken, strict=True) for at, answer in zip(step, some, strict=True)
        }
        return [answers[at] for at in range(len(calls))]

    async def _take_together(self, parts: Sequence[Sequence[Call | HookcastError]]) -> list[list[Answer]]:
        free = asyncio.Semaphore(_AT_ONCE)

        async def take(part: Sequence[Call | HookcastError]) -> list[Answer]:
            async with free:
                return await self._take(part)

        return await asyncio.gather(*map(take, parts))

    async def _take(self, part: Sequence[Call | HookcastError]) -> list[Answer]:
        """Makes calls that are publications, or only one."""
        first = part[0]
        if isinstance(first, HookcastError):
            return [api_error(first)]
        if isinstance(first[1], PublishRequest | BroadcastRequest):
            requests: list[Any] = [call[1] for call in part if not isinstance(call, HookcastError)]
            return list(map(_published, requests, await self._api.publish_all(requests)))
        try:
            return [await self._methods[first[0]](first[1])]
        except HookcastError as error:
            return [api_error(error)]

    async def _order(self, request: Any) -> Result:
        await self._api.order(request)
        return {}

    async def _presence(self, request: models.PresenceRequest) -> Result:
        return presence_result(await self._api.presence(request.channel))

    async def _presence_stats(self, request: models.PresenceStatsRequest) -> Result:
        return {**presence_stats_result(await self._api.presence(request.channel))}

    async def _history(self, request: models.HistoryRequest) -> Result:
        return history_result(await self._api.history(request))

    async def _history_remove(self, request: models.HistoryRemoveRequest) -> Result:
        await self._api.remove_history(request.channel)
        return {}

    async def _channels(self, request: models.ChannelsRequest) -> Result:
        found = await self._api.channels(request.pattern or "")
        shown = {"channels": {channel: {"num_clients": count} for channel, count in found.subscribers.items()}}
        return shown if found.is_complete else {**shown, "truncated": True}

    async def _info(self, _request: models.InfoRequest) -> Result:
        return {"nodes": await self._api.nodes()}


def unknown_method(name: str) -> InvalidInput:
    """The refusal of a method that there is not."""
    return InvalidInput(Reason.METHOD_NOT_ALLOWED, "method", f"{name[:32]!r} is none of {', '.join(REQUESTS)}")


def _check_number(calls: Sequence[Call | HookcastError]) -> None:
    if len(calls) > MAX_CALLS:
        raise InvalidInput(
            Reason.LIMIT_EXCEEDED, "commands", f"has {len(calls)} commands; at most {MAX_CALLS} are taken"
        )
    if sum(_publications(call) for call in calls) > MAX_PUBLICATIONS:
        raise InvalidInput(
            Reason.LIMIT_EXCEEDED, "commands", f"publish more than {MAX_PUBLICATIONS} times, once for each channel"
        )


def _publications(call: Call | HookcastError) -> int:
    if isinstance(call, HookcastError):
        return 0
    return len(call[1].channels) if isinstance(call[1], BroadcastRequest) else 1


def _permitted(call: Call | HookcastError, caller: Caller) -> Call | HookcastError:
    if isinstance(call, HookcastError):
        return call
    scope = _SCOPES.get(call[0], ADMIN_SCOPE)
    if caller.may(scope):
        return call
    return Refused(Reason.FORBIDDEN, f"the API key {caller.name!r} lacks the scope {scope}")


def _steps(calls: Sequence[Call | HookcastError], *, parallel: bool) -> list[list[int]]:
    """Places of calls that are made together: publications that follow one another, or all where order is free."""
    steps: list[list[int]] = []
    publishing: list[int] | None = None
    for at, call in enumerate(calls):
        if isinstance(call, HookcastError) or not isinstance(call[1], PublishRequest | BroadcastRequest):
            steps.append([at])
            publishing = publishing if parallel else None
        elif publishing is None:
            publishing = [at]
            steps.append(publishing)
        else:
            publishing.append(at)
    return steps


def _published(request: PublishRequest | BroadcastRequest, published: Sequence[Published] | HookcastError) -> Answer:
    if isinstance(published, HookcastError):
        return api_error(published)
    if isinstance(request, BroadcastRequest):
        return BroadcastResult([_response(each) for each in published])
    (answer,) = published
    return _result(answer) if isinstance(answer, Position) else api_error(answer)


def _response(answer: Published) -> PublishResponse:
    if isinstance(answer, Position):
        return PublishResponse(result=_result(answer))
    return PublishResponse(error=api_error(answer))


def _result(position: Position) -> PublishResult:
    return PublishResult(offset=position.offset, epoch=position.epoch)
