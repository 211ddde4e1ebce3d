"""`POST /api/v1/events`: a raw ASGI handler, since an empty FastAPI route alone costs more than publishing does."""

from collections.abc import Callable
from typing import Any

import msgspec
from fastapi import APIRouter, Response
from starlette.types import Receive, Scope, Send

from hookcast_app.auth import ApiKeys, Caller
from hookcast_app.events.cloudevents import Batch, Context, read_events
from hookcast_app.events.models import Accepted, Event
from hookcast_app.events.openapi import PUBLISH
from hookcast_app.events.service import Events
from hookcast_app.observability import ROUTE_KEY, Metrics, current_correlation_id
from hookcast_app.problems import problem_for, problem_response
from hookcast_app.request_body import Disconnected, RequestBody
from hookcast_core.errors import HookcastError, InvalidInput, Reason

PATH = "/api/v1/events"
BATCH_FACTOR = 16
"""A batch's body may be so many times as large as an event."""
_MAX_IDEMPOTENCY_KEY = 255


class EventsEndpoint:
    """Takes events from services that hold the scope `events:write`; lives as long as the app."""

    def __init__(
        self, events: Events, keys: ApiKeys, metrics: Metrics, *, max_bytes: int, clock: Callable[[], int]
    ) -> None:
        self._events = events
        self._keys = keys
        self._metrics = metrics
        self._max_bytes = max_bytes
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: answers 202, or a problem."""
        scope[ROUTE_KEY] = PATH
        body = RequestBody(receive, "an event")
        try:
            status, content = await self._answer(scope, body)
        except HookcastError as error:
            problem = problem_for(error)
            self._metrics.event("refused", problem.reason)
            await body.refuse(problem_response(problem), send)
        except Disconnected:
            return
        else:
            headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": content})

    def router(self) -> APIRouter:
        """The same as a FastAPI route, so that it is in the OpenAPI."""
        router = APIRouter(tags=["events"])

        async def publish() -> Response:
            return _Raw(self)

        router.add_api_route(PATH, publish, methods=["POST"], status_code=202, openapi_extra=PUBLISH, summary="Publish")
        return router

    async def _answer(self, scope: Scope, request_body: RequestBody) -> tuple[int, bytes]:
        caller = self._keys.authorize(scope["headers"], "events:write")
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        content_type = headers.get("content-type", "")
        if headers.get("content-encoding", "identity") != "identity":
            raise InvalidInput(
                Reason.UNSUPPORTED_MEDIA_TYPE, "content-encoding", "send the body as it is, not compressed"
            )
        body = await request_body.read(headers.get("content-length", ""), self._limit(content_type))
        read = read_events(content_type, headers, body, self._context(caller, headers))
        if isinstance(read, Event):
            return await self._publish_one(read)
        return await self._publish_batch(read)

    def _limit(self, content_type: str) -> int:
        kind = content_type.partition(";")[0].strip().lower()
        many = kind in {"application/cloudevents-batch+json", "application/json"}
        return self._max_bytes * (BATCH_FACTOR if many else 1)

    def _context(self, caller: Caller, headers: dict[str, str]) -> Context:
        return Context(
            caller=caller.name,
            now_ms=self._clock(),
            max_bytes=self._max_bytes,
            idempotency_key=_idempotency_key(headers),
            hops=_hops(headers.get("x-hookcast-hops")),
        )

    async def _publish_one(self, event: Event) -> tuple[int, bytes]:
        (answer,) = await self._events.publish([event], current_correlation_id() or "")
        if isinstance(answer, InvalidInput):
            raise answer
        return 202, _encode(answer)

    async def _publish_batch(self, batch: Batch) -> tuple[int, bytes]:
        events = [entry for entry in batch.entries if isinstance(entry, Event)]
        answers = iter(await self._events.publish(events, current_correlation_id() or ""))
        entries = [next(answers) if isinstance(entry, Event) else entry for entry in batch.entries]
        accepted = any(isinstance(entry, Accepted) for entry in entries)
        return 202 if accepted else 400, _encode([_shown(entry) for entry in entries])


class _Raw(Response):
    """A response that lets an ASGI handler answer."""

    def __init__(self, handler: EventsEndpoint) -> None:
        super().__init__()
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._handler(scope, receive, send)


def _idempotency_key(headers: dict[str, str]) -> str | None:
    key = headers.get("idempotency-key", headers.get("x-idempotency-key"))
    if key is None:
        return None
    key = key.removeprefix('"').removesuffix('"')
    if not 1 <= len(key) <= _MAX_IDEMPOTENCY_KEY:
        raise InvalidInput(Reason.INVALID_REQUEST, "idempotency-key", "must have 1 to 255 characters")
    return key


def _hops(value: str | None) -> int:
    if value is None:
        return 0
    if not value.isdecimal() or len(value) > 4:  # noqa: PLR2004  far above what is accepted
        raise InvalidInput(Reason.INVALID_REQUEST, "x-hookcast-hops", "must be a small whole number, or be left out")
    return int(value)


def _shown(entry: Accepted | InvalidInput) -> Any:
    return entry if isinstance(entry, Accepted) else {"error": problem_for(entry).document()}


_encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode
