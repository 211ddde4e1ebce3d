"""The outermost ASGI layer: correlation id, time taken, one log line per request, and the last catch for errors.

It runs around every request, the events endpoint too: what it costs belongs below 10 microseconds.
"""

import asyncio
import logging
import random
import re
import time
from collections.abc import Callable
from typing import NamedTuple

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hookcast_app.observability.context import correlation_id, current_correlation_id
from hookcast_app.observability.metrics import Metrics
from hookcast_app.problems import CORRELATION_KEY, problem_for, problem_response
from hookcast_core.errors import Unavailable

__all__ = ["ROUTE_KEY", "CorrelationMiddleware", "current_correlation_id", "route_of"]

ROUTE_KEY = "hookcast.route"
"""Where a raw ASGI handler says its route's template, in its scope."""
MAX_LOGGED_PATH = 256

_PLAIN_SEGMENT = re.compile(r"[a-z0-9][a-z0-9.-]{0,19}")
_SAFE = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_NO_ANSWER = 499
"""The status told for a client that left before the answer (nginx's number)."""
_SERVER_ERROR = 500
# Seeded by the system; an id must be unique, not secret, and asking the system for each costs 10 µs on some machines.
_random = random.Random()  # noqa: S311

_log = structlog.get_logger("hookcast.http")


def route_of(scope: Scope) -> str | None:
    """The template of the route that took the request (`/api/v1/events/{id}`), or None if none did.

    None too for what is mounted or passes no router, unless its handler puts its template under `ROUTE_KEY`.

    Bounded in number, unlike paths: fit for a metric's label.
    """
    told = scope.get(ROUTE_KEY)
    if told is not None:
        return str(told)
    context = scope.get("fastapi", {}).get("effective_route_context")
    path = getattr(context, "path_format", None) or getattr(scope.get("route"), "path", None)
    return None if path is None else str(path)


def logged_path(path: str) -> str:
    """A path that no route took, for the log: what looks like a word in it stays, `…` stands for all else.

    Whoever asks for the wrong thing may have put a key or a token there.
    """
    segments = path[:MAX_LOGGED_PATH].split("/")
    return "/".join(segment if not segment or _PLAIN_SEGMENT.fullmatch(segment) else "…" for segment in segments)


class CorrelationMiddleware:
    """Wraps an app for its whole life.

    Takes `X-Correlation-ID` (1 to 128 characters of `A-Za-z0-9._-`) or makes one; it is in the scope, in the context
    variable, in the response and in every log line. Paths in `quiet` are logged at debug level while they succeed: a
    line costs more than the rest of this layer. An error that nobody answered becomes a problem document, is logged
    once, and goes no further.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics | None = None,
        quiet: frozenset[str] = frozenset(),
        new_id: Callable[[], str] = lambda: f"{_random.getrandbits(128):032x}",
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._quiet = quiet
        self._new_id = new_id
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        current = _given(scope) or self._new_id()
        scope[CORRELATION_KEY] = current
        token = correlation_id.set(current)
        try:
            if scope["type"] == "http":
                await self._http(_Exchange(scope, current, send, self._clock), receive)
            else:
                await self._app(scope, receive, send)
        finally:
            correlation_id.reset(token)

    async def _http(self, exchange: "_Exchange", receive: Receive) -> None:
        try:
            await self._app(exchange.scope, receive, exchange.send)
        except _ClientGoneError:
            exchange.status = _NO_ANSWER
        except asyncio.CancelledError:  # the server stops, and waits for this request no longer
            if exchange.status is not None:
                raise
            await self._answer(exchange, Unavailable("the server is stopping; send this again"), receive)
        except Exception as error:  # noqa: BLE001  the last catch: answered and logged here
            await self._answer(exchange, error, receive)
        self._tell(exchange.done())

    async def _answer(self, exchange: "_Exchange", error: Exception, receive: Receive) -> None:
        problem = problem_for(error, exchange.current)
        if problem.status == _SERVER_ERROR:
            _log.error("request failed", path=logged_path(exchange.scope["path"]), exc_info=error)
        if exchange.status is None:
            await problem_response(problem)(exchange.scope, receive, exchange.send)

    def _tell(self, request: "_Done") -> None:
        if self._metrics is not None:
            self._metrics.request(request.route, request.method, request.status, request.seconds)
        if request.status >= _SERVER_ERROR:
            level = logging.WARNING
        elif request.status < 400 and request.path in self._quiet:  # noqa: PLR2004  success and redirection
            level = logging.DEBUG
        else:
            level = logging.INFO
        if not _log.is_enabled_for(level):
            return
        _log.log(
            level,
            "request",
            method=request.method,
            path=request.route or logged_path(request.path),
            status=request.status,
            ms=round(request.seconds * 1000, 2),
        )


class _ClientGoneError(Exception):
    """Nobody is there to read the answer."""


class _Done(NamedTuple):
    route: str | None
    path: str
    method: str
    status: int
    seconds: float


class _Exchange:
    """One request on its way: adds the headers to its response and remembers its status."""

    __slots__ = ("_clock", "_send", "_started", "current", "scope", "status")

    def __init__(self, scope: Scope, current: str, send: Send, clock: Callable[[], float]) -> None:
        self.scope = scope
        self.current = current
        self.status: int | None = None
        self._send = send
        self._clock = clock
        self._started = clock()

    async def send(self, message: Message) -> None:
        """ASGI send."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            milliseconds = (self._clock() - self._started) * 1000
            message["headers"] = [
                *message.get("headers", ()),
                (b"x-correlation-id", self.current.encode()),
                (b"x-process-time-ms", b"%.2f" % milliseconds),
            ]
        try:
            await self._send(message)
        except RuntimeError as error:
            if "handler is closed" in str(error):  # uvloop's word for a connection that the client has closed
                raise _ClientGoneError from error
            raise

    def done(self) -> _Done:
        """What there is to tell when the app has returned."""
        scope = self.scope
        return _Done(
            route_of(scope), scope["path"], scope["method"], self.status or _NO_ANSWER, self._clock() - self._started
        )


def _given(scope: Scope) -> str | None:
    """The client's id; None if there is none, or one with characters that could break a log or a header."""
    for name, value in scope["headers"]:
        if name == b"x-correlation-id":
            return value.decode("ascii") if _SAFE.fullmatch(value) else None
    return None
