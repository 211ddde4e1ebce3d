"""Stands before the HTTP endpoints of the protocol: whose pages may ask, by which method, and how a refusal looks."""

from collections.abc import Awaitable, Callable

from hookcast_app.observability import ROUTE_KEY
from hookcast_app.problems import Problem, problem_for, problem_of_http, problem_response
from hookcast_app.realtime.cors import Origins
from hookcast_app.realtime.handshake import header
from hookcast_app.realtime.protocol import MAX_MESSAGE
from hookcast_app.realtime.stats import Stats
from hookcast_app.realtime.transport import Message, Receive, Send
from hookcast_app.request_body import Disconnected, RequestBody
from hookcast_core.errors import HookcastError, Reason, Refused

_METHOD_NOT_ALLOWED = 405

Serve = Callable[[Message, RequestBody, Receive, Send], Awaitable[None]]
"""Answers a request that was let through: its scope, its body, and ASGI's two. Raises HookcastError, Disconnected."""


class Gate:
    """The ASGI application of one path; lives as long as the server. `methods` is what it takes, as `Allow` says it."""

    def __init__(self, path: str, methods: str, serve: Serve, *, origins: Origins, stats: Stats) -> None:
        self._path = path
        self._methods = methods
        self._taken = frozenset(methods.split(", "))
        self._serve = serve
        self._origins = origins
        self._stats = stats

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """ASGI 3, for `http` scopes. Nothing of a body is read here."""
        scope[ROUTE_KEY] = self._path
        body = RequestBody(receive, "this request")
        try:
            if scope["method"] not in self._taken:
                await self._refuse(scope, body, send, self._other_method())
            elif scope["method"] == "OPTIONS":
                await answer_empty(send, self._origins.preflight_headers(scope["headers"], self._methods))
            else:
                self._check_origin(scope)
                await self._serve(scope, body, receive, send)
        except HookcastError as error:
            await self._refuse(scope, body, send, problem_for(error))
        except Disconnected:
            return

    def _other_method(self) -> Problem:
        return problem_of_http(_METHOD_NOT_ALLOWED, f"this path takes {self._methods}", {"Allow": self._methods})

    def _check_origin(self, scope: Message) -> None:
        """Raises Refused."""
        if not self._origins.may_ask(scope["headers"]):
            self._stats.refused += 1
            raise Refused(Reason.FORBIDDEN, "its origin is not allowed")

    async def _refuse(self, scope: Message, body: RequestBody, send: Send, problem: Problem) -> None:
        response = problem_response(problem)
        response.raw_headers.extend(self._origins.answer_headers(scope["headers"]))
        await body.refuse(response, send)


async def read_commands(scope: Message, body: RequestBody, seconds: float) -> bytes:
    """A body of at most MAX_MESSAGE bytes, which may take so many seconds. Raises InvalidInput, Disconnected."""
    return await body.read(header(scope["headers"], b"content-length") or "", MAX_MESSAGE, seconds)


async def answer_empty(send: Send, headers: list[tuple[bytes, bytes]]) -> None:
    """204."""
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
