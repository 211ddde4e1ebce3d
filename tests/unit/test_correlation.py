"""The outermost layer: ids, times, one line per request, and the last catch."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.testing import capture_logs
from structlog.typing import EventDict

from hookcast_app.observability import CorrelationMiddleware, Metrics, current_correlation_id
from hookcast_app.observability.correlation import ROUTE_KEY
from hookcast_app.problems import install
from hookcast_core.errors import InvalidInput, Reason

Headers = list[tuple[bytes, bytes]]


class Answer:
    """What a client of the ASGI app got, and what was logged meanwhile."""

    def __init__(self, sent: list[MutableMapping[str, Any]], logs: list[EventDict]) -> None:
        self.sent = sent
        self.logs = logs

    @property
    def headers(self) -> dict[bytes, bytes]:
        """Of the response."""
        return dict(self.sent[0]["headers"])

    @property
    def status(self) -> int:
        """Of the response."""
        return int(self.sent[0]["status"])


async def ask(app: ASGIApp, path: str = "/", method: str = "GET", headers: Headers | None = None) -> Answer:
    """One request."""
    sent: list[MutableMapping[str, Any]] = []
    scope: Scope = {
        "type": "http", "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode(),
        "query_string": b"token=secret", "headers": headers or [], "root_path": "", "scheme": "http",
        "server": ("test", 80), "client": ("test", 1),
    }  # fmt: skip

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    with capture_logs() as logs:
        await app(scope, receive, send)
    return Answer(sent, logs)


async def ok(scope: Scope, _receive: Receive, send: Send) -> None:
    """Answers with the correlation id that code deep down sees."""
    scope[ROUTE_KEY] = "/ok"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"own", b"kept")]})
    await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": str(current_correlation_id()).encode()})


async def test_an_id_is_made_where_there_is_none() -> None:
    """Another for each request, the same everywhere within one, and gone after it."""
    app = CorrelationMiddleware(ok)

    first, second = await asyncio.gather(ask(app), ask(app))

    assert first.headers[b"x-correlation-id"] == first.sent[1]["body"]
    assert len(first.headers[b"x-correlation-id"]) == 32
    assert first.headers[b"x-correlation-id"] != second.headers[b"x-correlation-id"]
    assert first.headers[b"own"] == b"kept"
    assert current_correlation_id() is None


@pytest.mark.parametrize("given", [b"a", b"A-z_0.9", b"x" * 128])
async def test_a_safe_id_is_taken(given: bytes) -> None:
    """The caller's, so that its logs and ours meet."""
    answer = await ask(CorrelationMiddleware(ok), headers=[(b"x-correlation-id", given)])

    assert answer.headers[b"x-correlation-id"] == given


@pytest.mark.parametrize("given", [b"", b"x" * 129, b"a b", b'"', b"\xff", b"a\n", b"{}", b"a;b"])
async def test_an_unsafe_id_is_replaced(given: bytes) -> None:
    """Nothing of a client's choice that could break a log line, a header or a key."""
    answer = await ask(CorrelationMiddleware(ok, new_id=lambda: "ours"), headers=[(b"x-correlation-id", given)])

    assert answer.headers[b"x-correlation-id"] == b"ours"


async def test_the_time_taken_is_told_in_milliseconds() -> None:
    """To the response's start for the client, to its end for the log."""
    ticks = iter([1.0, 1.5, 2.0])

    answer = await ask(CorrelationMiddleware(ok, clock=lambda: next(ticks)))

    assert answer.headers[b"x-process-time-ms"] == b"500.00"
    assert answer.logs == [
        {"event": "request", "log_level": "info", "method": "GET", "path": "/ok", "status": 200, "ms": 1000.0}
    ]


async def test_a_quiet_path_is_loud_when_it_fails() -> None:
    """Success at debug level, for a line costs more than the rest; refusals and failures as everywhere."""

    async def answers(scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": int(scope["method"])})

    app = CorrelationMiddleware(answers, quiet=frozenset({"/quiet"}))

    async def level(path: str, status: str) -> str:
        answer = await ask(app, path, method=status)
        return str(answer.logs[0]["log_level"])

    assert [await level("/quiet", status) for status in ("202", "422", "503")] == ["debug", "info", "warning"]
    assert await level("/other", "202") == "info"


def routed() -> FastAPI:
    """Routes in every way that they can be declared."""
    router = APIRouter(prefix="/inner")

    @router.get("/{thing}")
    async def inner(thing: str) -> str:
        return thing

    async def plain(scope: Scope, receive: Receive, send: Send) -> None:
        await ok(dict(scope), receive, send)

    app = FastAPI()
    app.include_router(router, prefix="/outer")
    app.add_api_route("/direct/{thing}", inner)
    app.mount("/raw", plain)

    @app.get("/boom")
    async def boom() -> None:
        raise RuntimeError("hunter2")

    install(app)
    return app


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/outer/inner/1", "/outer/inner/{thing}"),
        ("/direct/1", "/direct/{thing}"),
        ("/nowhere/1", None),
        ("/raw/any/path", None),
        ("/boom", "/boom"),
    ],
)
async def test_the_template_is_told_and_counted_instead_of_the_path(path: str, template: str | None) -> None:
    """So that labels are few; a path that no route took is one label, and in the log without its query."""
    metrics = Metrics()

    answer = await ask(CorrelationMiddleware(routed(), metrics=metrics), path)

    assert answer.logs[-1]["path"] == (template or path)
    assert "secret" not in str(answer.logs)
    count = metrics.registry.get_sample_value(
        "hookcast_http_requests_total",
        {"route": template or "unmatched", "method": "GET", "status": str(answer.status)},
    )
    assert count == 1


async def test_a_long_path_is_cut() -> None:
    """A log line stays a line."""
    answer = await ask(CorrelationMiddleware(FastAPI()), "/x" * 10_000)

    assert len(answer.logs[0]["path"]) == 256


@pytest.mark.parametrize(
    ("path", "logged"),
    [
        ("/api/v2/events", "/api/v2/events"),
        ("/wp-login.php", "/wp-login.php"),
        ("/api/v1/deliveries/some/Tok3n_of-somebody", "/api/v1/deliveries/some/…"),
        ("/api/v1/0123456789abcdef01234567", "/api/v1/…"),
        ("/é/a b", "/…/…"),
        ("/", "/"),
        ("", ""),
    ],
)
async def test_of_a_path_that_no_route_took_words_alone_are_logged(path: str, logged: str) -> None:
    """Whoever asks for the wrong thing may have put a key there."""
    answer = await ask(CorrelationMiddleware(FastAPI()), path)

    assert answer.logs[0]["path"] == logged


async def test_an_unexpected_error_is_answered_logged_once_and_goes_no_further() -> None:
    """Also behind FastAPI, which passes it on after its own answer."""
    answer = await ask(CorrelationMiddleware(routed(), new_id=lambda: "ours"), "/boom")

    assert answer.status == 500
    assert b'"correlation_id":"ours"' in answer.sent[1]["body"]
    assert answer.headers[b"x-correlation-id"] == b"ours"
    assert b"hunter2" not in answer.sent[1]["body"]
    failures = [line for line in answer.logs if line["event"] == "request failed"]
    assert len(failures) == 1
    assert isinstance(failures[0]["exc_info"], RuntimeError)


async def test_a_raw_handler_may_just_raise() -> None:
    """A refusal becomes its problem document, without a traceback in the log."""

    async def refuses(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise InvalidInput(Reason.TOO_LARGE, "data", "is over 256 KiB")

    answer = await ask(CorrelationMiddleware(refuses))

    assert answer.status == 413
    assert [line["event"] for line in answer.logs] == ["request"]


async def test_an_error_in_mid_answer_is_logged_and_not_answered_again() -> None:
    """The status is gone already; the server then closes the connection."""

    async def breaks(scope: Scope, receive: Receive, send: Send) -> None:
        await ok(scope, receive, send)
        raise RuntimeError("late")

    answer = await ask(CorrelationMiddleware(breaks))

    assert len(answer.sent) == 2
    assert [line["event"] for line in answer.logs] == ["request failed", "request"]


async def test_a_client_that_left_is_told_as_such() -> None:
    """499, as nginx has it: no answer of ours."""

    async def leaves(_scope: Scope, _receive: Receive, _send: Send) -> None:
        return

    answer = await ask(CorrelationMiddleware(leaves))

    assert answer.logs[0]["status"] == 499


async def test_a_websocket_has_an_id_too_and_a_lifespan_none() -> None:
    """Its messages pass untouched: the fast path must not be wrapped."""
    seen: list[object] = []

    async def keeps(_scope: Scope, _receive: Receive, send: Send) -> None:
        seen.append((current_correlation_id(), send))

    async def receive() -> MutableMapping[str, Any]:
        return {}

    async def send(_message: MutableMapping[str, Any]) -> None:
        return

    app = CorrelationMiddleware(keeps, new_id=lambda: "ours")
    await app({"type": "websocket", "headers": []}, receive, send)
    await app({"type": "lifespan"}, receive, send)

    assert seen == [("ours", send), (None, send)]
