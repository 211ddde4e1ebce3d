"""Stands before the REST routes: FastAPI reads a body whole before it asks who sends it, and whether it is too large.

`POST /api/v1/events` does not pass here, since it reads its body itself.
"""

import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hookcast_app.auth import ApiKeys
from hookcast_app.problems import problem_for, problem_response
from hookcast_app.request_body import Disconnected, RequestBody
from hookcast_core.errors import HookcastError

PREFIX = "/api/v1/"
MAX_BODY_BYTES = 65_536
"""A selection of deliveries, which is the largest of the others, has 8 KiB."""
MAX_SUBSCRIPTION_BYTES = 1_048_576
"""32 headers of 4 KiB are most of the largest specification, and JSON may write a character in six."""
MAX_SECRET_BYTES = 1_048_576
"""The values of a secret have 128 KiB at most, and JSON may write a byte in six characters."""
_SUBSCRIPTION = re.compile(r"/api/v1/webhook-subscriptions(/[^/]*)?")
_SECRET = re.compile(r"/api/v1/secrets/[^/]*")
_WITH_DATA = re.compile(r"/api/v1/(webhook-subscriptions/[^/]*/test|channels/[^/]*/publications)")
"""An event's data, or a publication's."""


class BodyGate:
    """Lives as long as the app. Asks for a valid API key before it reads, and reads no more than a route takes."""

    def __init__(self, app: ASGIApp, keys: ApiKeys, max_event_bytes: int) -> None:
        self._app = app
        self._keys = keys
        self._max_event_bytes = max_event_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: lets a request pass, its body already read; or answers 401, 408 or 413 with a problem."""
        headers = scope["headers"]
        announced = next((value for name, value in headers if name == b"content-length"), b"").decode("latin-1")
        if announced in {"", "0"} and all(name != b"transfer-encoding" for name, _ in headers):
            await self._app(scope, receive, send)
            return
        body = RequestBody(receive, "the body of this request")
        try:
            self._keys.authenticate(headers)
            content = await body.read(announced, self._limit(scope["path"]))
        except HookcastError as error:
            await body.refuse(problem_response(problem_for(error)), send)
        except Disconnected:
            return
        else:
            await self._app(scope, _read_already(content, receive), send)

    def _limit(self, path: str) -> int:
        """Bytes that a route takes."""
        if _SUBSCRIPTION.fullmatch(path):
            return MAX_SUBSCRIPTION_BYTES
        if _SECRET.fullmatch(path):
            return MAX_SECRET_BYTES
        return max(self._max_event_bytes, MAX_BODY_BYTES) if _WITH_DATA.fullmatch(path) else MAX_BODY_BYTES


def _read_already(content: bytes, receive: Receive) -> Receive:
    """Gives the body, and then whatever comes after it."""
    messages: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]

    async def next_message() -> Message:
        return messages.pop() if messages else await receive()

    return next_message
