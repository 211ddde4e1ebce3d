"""A webhook endpoint as a user would write one: raw body, verify, then answer; each request is shown."""

import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hookcast_app.demo import texts
from hookcast_app.demo.screen import Screen
from hookcast_core.errors import InvalidInput
from hookcast_core.signing import Key, verify

KeysFor = Callable[[str], Iterable[Key]]
"""The keys that verify what comes to a path."""


class Receiver:
    """ASGI: 204 for what is verified, 401 for what is not."""

    def __init__(self, keys_for: KeysFor, screen: Screen, clock: Callable[[], int]) -> None:
        self._keys_for = keys_for
        self._screen = screen
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.method != "POST":
            return Response("Webhooks come here, by POST.\n", status_code=405, headers={"Allow": "POST"})
        path, body = request.url.path, await request.body()
        try:
            verify(self._keys_for(path), request.headers, body, self._clock() // 1000)
        except InvalidInput as error:
            self._screen.show(texts.unverified(path, error.detail))
            return Response(status_code=401)
        event_type = request.headers.get("x-hookcast-event", "")
        self._screen.arrived("webhook", texts.webhook(path, event_type, _data(request, body)))
        return Response(status_code=204)


@contextlib.asynccontextmanager
async def serving(receiver: Receiver, listener: socket.socket) -> AsyncIterator[None]:
    """Serves on `listener` for as long as the block lasts; closes it."""
    config = uvicorn.Config(receiver, log_config=None, access_log=False, lifespan="off", ws="none", server_header=False)
    config.timeout_graceful_shutdown = 1
    server = _Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[listener])
    try:
        yield
    finally:
        await server.shutdown(sockets=[listener])


class _Server(uvicorn.Server):
    """Leaves the signals to the server that is demonstrated."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _data(request: Request, body: bytes) -> Any:
    """What the event says; the body is the whole event, or with `format: Data` the data alone."""
    if not body:
        return None
    try:
        content = json.loads(body)
    except ValueError:
        return body.decode(errors="replace")
    is_whole = request.headers.get("content-type", "").startswith("application/cloudevents+json")
    return content.get("data", content.get("data_base64")) if is_whole else content
