"""Problem documents: one shape for every refusal, and nothing told that should not be."""

from typing import Annotated, Any

import httpx
import pytest
from fastapi import Body, FastAPI
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from hookcast_app.problems import Problem, install, problem_for, problem_response, status_of
from hookcast_core.errors import EgressDenied, HookcastError, InvalidInput, Reason, Refused, Unavailable


class Thing(BaseModel):
    """A body."""

    size: int = Field(ge=1)
    password: str = Field(max_length=3)


def app(error: Exception | None = None) -> FastAPI:
    """An app with one route of each kind; `/raise` raises `error`."""
    made = FastAPI()
    install(made)

    @made.post("/things")
    async def things(things: Annotated[list[Thing], Body()], limit: int = 1) -> int:
        return len(things) + limit

    @made.get("/raise")
    async def raises() -> None:
        assert error is not None
        raise error

    return made


async def ask(app: FastAPI, method: str, path: str, **options: Any) -> httpx.Response:
    """One request, in process."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.request(method, path, **options)


@pytest.mark.parametrize(
    ("error", "status", "reason", "field"),
    [
        (InvalidInput(Reason.INVALID_EVENT, "data", "is no JSON"), 400, "InvalidEvent", "data"),
        (InvalidInput(Reason.TOO_LARGE, None, "over 256 KiB"), 413, "TooLarge", None),
        (InvalidInput(Reason.EVENT_ID_REUSED, "id", "is another event's"), 409, "EventIdReused", "id"),
        (InvalidInput(Reason.RESERVED_TYPE, "type", "is ours"), 403, "ReservedType", "type"),
        (InvalidInput(Reason.INVALID_FILTER, "events.filter", "1:3"), 422, "InvalidFilter", "events.filter"),
        (EgressDenied("is private"), 422, "EgressDenied", "endpoint.url"),
        (Refused(Reason.UNAUTHENTICATED, "send a key"), 401, "Unauthenticated", None),
        (Refused(Reason.FORBIDDEN, "lacks the scope"), 403, "Forbidden", None),
        (Unavailable("Redis is away", retry_after=7), 503, "Unavailable", None),
        (HTTPException(418, "a teapot"), 418, "InvalidRequest", None),
        (HTTPException(502, "bad gateway"), 502, "Internal", None),
    ],
)
async def test_a_refusal_says_its_reason_field_and_status(
    error: Exception, status: int, reason: str, field: str | None
) -> None:
    """RFC 9457, section 3.1: type, title, status, detail; and ours: reason and field."""
    answer = await ask(app(error), "GET", "/raise")

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["type"] == f"https://hookcast.dev/problems/{reason}"
    assert document["status"] == status
    assert document["reason"] == reason
    assert document.get("field") == field
    assert document["detail"] == getattr(error, "detail", None)
    assert document["title"][0].isupper()


async def test_a_refusal_has_the_headers_that_http_asks_for() -> None:
    """401 says how to authenticate, 503 when to come back, 405 what is allowed."""
    unauthenticated = await ask(app(Refused(Reason.UNAUTHENTICATED, "")), "GET", "/raise")
    unavailable = await ask(app(Unavailable("", retry_after=7)), "GET", "/raise")
    not_allowed = await ask(app(), "PUT", "/things")

    assert unauthenticated.headers["www-authenticate"] == "Bearer"
    assert unavailable.headers["retry-after"] == "7"
    assert not_allowed.status_code == 405
    assert not_allowed.headers["allow"] == "POST"
    assert not_allowed.json()["reason"] == "MethodNotAllowed"


async def test_an_unknown_path_is_a_problem_too() -> None:
    """404 in the same shape."""
    answer = await ask(app(), "GET", "/nowhere")

    assert answer.status_code == 404
    assert answer.json()["title"] == "Not found"


@pytest.mark.parametrize("error", [RuntimeError("hunter2"), HookcastError("hunter2")])
async def test_what_was_not_expected_tells_nothing(error: Exception) -> None:
    """500 without details; the logs have them."""
    answer = await ask(app(error), "GET", "/raise")

    assert answer.status_code == 500
    assert answer.json()["reason"] == "Internal"
    assert "hunter2" not in answer.text


async def test_a_body_that_does_not_hold_names_its_field_and_not_its_value() -> None:
    """422, with every error, the first one in the detail."""
    things = [{"size": 1, "password": "abc"}, {"size": 0, "password": "hunter2"}]

    answer = await ask(app(), "POST", "/things", json=things)

    assert answer.status_code == 422
    document = answer.json()
    assert document["field"] == "1.size"
    assert document["detail"].startswith("1.size: Input should be greater")
    assert [error["field"] for error in document["errors"]] == ["1.size", "1.password"]
    assert "hunter2" not in answer.text


async def test_a_body_that_cannot_be_read_is_400() -> None:
    """JSON that is none, with where it breaks."""
    answer = await ask(
        app(), "POST", "/things", content=b'{"a": hunter2}', headers={"content-type": "application/json"}
    )

    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("the body is not valid JSON: ")
    assert "field" not in answer.json()


async def test_a_parameter_that_does_not_hold_is_400() -> None:
    """What is in the URL is part of how to ask."""
    answer = await ask(app(), "POST", "/things?limit=x", json=[])

    assert answer.status_code == 400
    assert answer.json()["field"] == "limit"


async def test_many_errors_are_cut() -> None:
    """An answer stays small whatever was sent."""
    answer = await ask(app(), "POST", "/things", json=[{}] * 1000)

    assert len(answer.json()["errors"]) == 20


async def test_a_missing_body_is_told_without_an_empty_field() -> None:
    """The body as a whole has no path."""
    answer = await ask(app(), "POST", "/things")

    assert answer.status_code == 422
    assert answer.json()["detail"] == "Field required"
    assert "field" not in answer.json()


async def test_a_raw_handler_sends_the_same_document() -> None:
    """`problem_response` is an ASGI app."""
    response = problem_response(Problem(Reason.TOO_LARGE, 413, "over", "data", extras={"limit": 10}))

    answer = await ask(response, "GET", "/")  # type: ignore[arg-type]

    assert answer.status_code == 413
    assert answer.json()["limit"] == 10


def test_an_unexpected_error_is_found_by_its_correlation_id() -> None:
    """The one thing that a client may quote."""
    assert problem_for(ValueError(), "abc").document()["correlation_id"] == "abc"


def test_every_reason_has_a_status() -> None:
    """Content that was read but does not hold is 422."""
    known = {400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 426, 429, 500, 503}

    assert {status_of(reason) for reason in Reason} <= known
