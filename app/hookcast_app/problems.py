"""Errors as RFC 9457 problem documents: one shape for every refusal, from FastAPI or a raw ASGI handler.

`type` is `https://hookcast.dev/problems/<Reason>`; besides the RFC's members there are `reason` (the stable word),
`field` (the path of what is wrong) and, for what we did not expect, `correlation_id`.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from hookcast_core.errors import HookcastError, InvalidInput, Reason, Unavailable

TYPE_BASE = "https://hookcast.dev/problems/"
CORRELATION_KEY = "hookcast.correlation_id"
"""Where the ASGI scope carries the request's correlation id."""
MAX_ERRORS = 20
"""Validation errors that one answer lists."""

_STATUS: Mapping[Reason, int] = {
    Reason.INVALID_REQUEST: 400,
    Reason.INVALID_EVENT: 400,
    Reason.UNAUTHENTICATED: 401,
    Reason.FORBIDDEN: 403,
    Reason.RESERVED_TYPE: 403,
    Reason.NOT_FOUND: 404,
    Reason.METHOD_NOT_ALLOWED: 405,
    Reason.EVENT_ID_REUSED: 409,
    Reason.CONFLICT: 409,
    Reason.READ_ONLY: 409,
    Reason.LIMIT_EXCEEDED: 409,
    Reason.STALE_CONFIGURATION: 409,
    Reason.INVALID_CONFIGURATION: 400,
    Reason.REQUEST_TIMEOUT: 408,
    Reason.TOO_LARGE: 413,
    Reason.UNSUPPORTED_MEDIA_TYPE: 415,
    Reason.UPGRADE_REQUIRED: 426,
    Reason.TOO_MANY_REQUESTS: 429,
    Reason.INTERNAL: 500,
    Reason.UNAVAILABLE: 503,
}
_SPECIFIC = {
    Reason.RESERVED_TYPE,
    Reason.EVENT_ID_REUSED,
    Reason.READ_ONLY,
    Reason.LIMIT_EXCEEDED,
    Reason.INVALID_EVENT,
    Reason.STALE_CONFIGURATION,
    Reason.INVALID_CONFIGURATION,
}
"""Reasons that share their status with a more general one."""
_REASON = {status: reason for reason, status in _STATUS.items() if reason not in _SPECIFIC}
_WORD_START = re.compile(r"(?<=[a-z])(?=[A-Z])")


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """One problem document (RFC 9457, section 3), its status and its headers."""

    reason: Reason
    status: int
    detail: str
    field: str | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    extras: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The members, ready for JSON; `field` only where there is one."""
        document = {
            "type": TYPE_BASE + self.reason,
            "title": _WORD_START.sub(" ", self.reason).capitalize(),
            "status": self.status,
            "detail": self.detail,
            "reason": str(self.reason),
        }
        return document | ({"field": self.field} if self.field else {}) | dict(self.extras)


def status_of(reason: Reason) -> int:
    """The HTTP status for a refusal with `reason`; 422 for content that was read but does not hold."""
    return _STATUS.get(reason, 422)


def problem_response(problem: Problem) -> Response:
    """The answer: a FastAPI handler returns it, a raw ASGI handler awaits it as the app that it is."""
    return Response(
        msgspec.json.encode(problem.document()),
        problem.status,
        headers=dict(problem.headers),
        media_type="application/problem+json",
    )


def problem_for(error: BaseException, correlation_id: str | None = None) -> Problem:
    """What to tell a client about `error`; nothing of one that we did not raise on purpose."""
    if isinstance(error, Unavailable):
        return Problem(Reason.UNAVAILABLE, 503, error.detail, headers={"Retry-After": str(error.retry_after)})
    reason = getattr(error, "reason", None)
    if isinstance(error, HookcastError) and isinstance(reason, Reason):
        where = error.field if isinstance(error, InvalidInput) else None
        return Problem(reason, status_of(reason), str(getattr(error, "detail", error)), where, _HEADERS.get(reason, {}))
    extras = {"correlation_id": correlation_id} if correlation_id else {}
    return Problem(
        Reason.INTERNAL, 500, "something went wrong here; the logs have it by the correlation id", extras=extras
    )


def problem_of_validation(errors: Sequence[Mapping[str, Any]]) -> Problem:
    """FastAPI's validation errors: 422 for a body that does not hold, 400 for what could not be read and parameters."""
    found = [_described(error) for error in errors[:MAX_ERRORS]]
    first = errors[0]
    readable_body = first["loc"][:1] == ("body",) and first["type"] != "json_invalid"
    detail = f"{found[0]['field']}: {found[0]['detail']}" if found[0]["field"] else found[0]["detail"]
    return Problem(
        Reason.INVALID_REQUEST,
        422 if readable_body else 400,
        detail,
        found[0]["field"] or None,
        extras={"errors": found},
    )


def problem_of_http(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Problem:
    """What Starlette refuses by itself: 404, 405 (with its Allow header), and whatever a handler raises as such."""
    reason = _REASON.get(status, Reason.INVALID_REQUEST if status < 500 else Reason.INTERNAL)  # noqa: PLR2004  server errors
    return Problem(reason, status, detail, headers={**(headers or {}), **_HEADERS.get(reason, {})})


_DOCUMENTED: dict[str, Any] = {
    "description": "What is wrong, as a problem document (RFC 9457).",
    "content": {
        "application/problem+json": {
            "schema": {
                "type": "object",
                "required": ["type", "title", "status", "detail", "reason"],
                "properties": {
                    "type": {"type": "string", "format": "uri"},
                    "title": {"type": "string"},
                    "status": {"type": "integer"},
                    "detail": {"type": "string", "description": "What is wrong, and what to do instead."},
                    "reason": {"type": "string", "description": "A stable word."},
                    "field": {"type": "string", "description": "The path of what is wrong."},
                },
            }
        }
    },
}
RESPONSES: dict[int | str, dict[str, Any]] = {"default": _DOCUMENTED, 422: _DOCUMENTED}
"""For the OpenAPI document: what every operation may answer besides."""


def install(app: FastAPI) -> None:
    """Makes every error of `app` a problem document."""

    async def known(request: Request, error: Exception) -> Response:
        return problem_response(problem_for(error, request.scope.get(CORRELATION_KEY)))

    async def invalid(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101  registered for it alone
        return problem_response(problem_of_validation(error.errors()))

    async def http(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101  registered for it alone
        return problem_response(problem_of_http(error.status_code, str(error.detail), error.headers))

    app.add_exception_handler(HookcastError, known)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, known)


_HEADERS: Mapping[Reason, Mapping[str, str]] = {
    Reason.UNAUTHENTICATED: {"WWW-Authenticate": "Bearer"},
    Reason.UPGRADE_REQUIRED: {"Upgrade": "websocket", "Connection": "upgrade"},
    Reason.TOO_MANY_REQUESTS: {"Retry-After": "1"},
}
"""A 401 must say how to authenticate (RFC 9110, 15.5.2), a 426 to what to upgrade (15.5.22 and 7.8)."""


def _described(error: Mapping[str, Any]) -> dict[str, str]:
    """One validation error without its input, which may be a secret."""
    if error["type"] == "json_invalid":
        return {"field": "", "detail": f"the body is not valid JSON: {error.get('ctx', {}).get('error', 'unreadable')}"}
    return {
        "field": ".".join(str(part) for part in error["loc"][1:]),
        "detail": str(error["msg"]).removeprefix("Value error, "),
    }
