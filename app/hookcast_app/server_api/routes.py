"""Centrifugo's HTTP API (`POST /api/publish` and the like) as a raw ASGI handler, for its stock clients.

What is answered is 401 to strangers, and 200 to all others: `{"result": …}`, or `{"error": {"code", "message"}}`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hookcast_app.auth import ApiKeys, Caller
from hookcast_app.observability import ROUTE_KEY
from hookcast_app.problems import Problem, problem_for, problem_response
from hookcast_app.request_body import Disconnected, RequestBody
from hookcast_app.server_api.calls import Answer, Call, Calls, unknown_method
from hookcast_app.server_api.failures import api_error
from hookcast_app.server_api.models import REQUESTS, ApiError, BatchRequest, NamedCommand, decoded
from hookcast_app.server_api.service import ServerApi
from hookcast_core.errors import HookcastError, InvalidInput, Reason, Refused

PATH = "/api"
MIN_BODY_BYTES = 1_048_576
"""A body may have so much at least: a broadcast's names alone may have a quarter of it."""
BASE64_FACTOR = 2
"""A body may be so many times as large as a publication, which in base64 takes 4/3 of itself."""
BATCH_FACTOR = 8
"""A batch's body may be so many times as large as another one."""
_BATCH = "batch"

_encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode
_batches = msgspec.json.Decoder(BatchRequest)
_commands = msgspec.json.Decoder(list[NamedCommand])
_requests: dict[str, Any] = {name: msgspec.json.Decoder(kind) for name, kind in REQUESTS.items()}
_NOT_POST = Problem(Reason.METHOD_NOT_ALLOWED, 405, "send a POST with a JSON body", headers={"Allow": "POST"})


class ServerApiEndpoint:
    """Lives as long as the app. `paths` are those that it answers; of a body it reads what they need."""

    paths = frozenset({PATH, *(f"{PATH}/{name}" for name in (*REQUESTS, _BATCH))})

    def __init__(self, api: ServerApi, keys: ApiKeys, *, max_bytes: int) -> None:
        self._calls = Calls(api)
        self._keys = keys
        self._max_body = max(MIN_BODY_BYTES, max_bytes * BASE64_FACTOR)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI, for a path in `paths`."""
        scope[ROUTE_KEY] = scope["path"]
        body = RequestBody(receive, "the body of this request")
        if scope["method"] != "POST":
            await body.refuse(problem_response(_NOT_POST), send)
            return
        try:
            content = await self._answer(scope, body)
        except HookcastError as error:
            await body.refuse(_refusal(error), send)
        except Disconnected:
            return
        else:
            headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": content})

    async def _answer(self, scope: Scope, body: RequestBody) -> bytes:
        caller = self._keys.authenticate(scope["headers"])
        name = scope["path"][len(PATH) + 1 :]
        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        many = name in {"", _BATCH}
        content = await body.read(announced.decode("latin-1"), self._max_body * (BATCH_FACTOR if many else 1))
        if name == _BATCH:
            return await self._batch(content, caller)
        if not name:
            return await self._named(content, caller)
        answer = await self._calls.answer((name, decoded(_requests[name], content or b"{}")), caller)
        return b'{"%b":%b}' % (_kind(answer), _encode(answer))

    async def _batch(self, content: bytes, caller: Caller) -> bytes:
        request = decoded(_batches, content)
        calls: list[Call | HookcastError] = [each.call or _no_method() for each in request.commands]
        answers = await self._calls.answer_all(calls, caller, parallel=request.parallel or False)
        return _encode({"replies": [_reply(call, answer) for call, answer in zip(calls, answers, strict=True)]})

    async def _named(self, content: bytes, caller: Caller) -> bytes:
        """Commands that name their method, one on each line; so are the answers."""
        commands = _decoded_lines(content)
        answers = await self._calls.answer_all([_call(each) for each in commands], caller)
        return b"\n".join(_line(command, answer) for command, answer in zip(commands, answers, strict=True))


def _decoded_lines(content: bytes) -> Sequence[NamedCommand]:
    lines = [line for line in content.split(b"\n") if line.strip()]
    return decoded(_commands, b"[%b]" % b",".join(lines))


def _call(command: NamedCommand) -> Call | HookcastError:
    decoder = _requests.get(command.method)
    if decoder is None:
        return unknown_method(command.method)
    try:
        return command.method, decoded(decoder, bytes(command.params))
    except InvalidInput as error:
        return error


def _line(command: NamedCommand, answer: Answer) -> bytes:
    number = {} if command.id is None else {"id": command.id}
    return _encode({**number, _kind(answer).decode(): answer})


def _kind(answer: Answer) -> bytes:
    return b"error" if isinstance(answer, ApiError) else b"result"


def _reply(call: Call | HookcastError, answer: Answer) -> dict[str, Answer]:
    """An answer is under the name of its method."""
    return {"error": answer} if isinstance(answer, ApiError) or isinstance(call, HookcastError) else {call[0]: answer}


def _no_method() -> InvalidInput:
    return InvalidInput(Reason.METHOD_NOT_ALLOWED, None, f"name one of {', '.join(REQUESTS)}")


def _refusal(error: HookcastError) -> Response:
    if isinstance(error, Refused):
        return problem_response(problem_for(error))
    return Response(_encode({"error": api_error(error)}), media_type="application/json")
