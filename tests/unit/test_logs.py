"""Logs: one shape for every library's lines, and no secret in any of them."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from hookcast_app.observability import configure_logs, redact
from hookcast_app.observability.context import correlation_id


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, uvicorn = root.handlers, root.level, logging.getLogger("uvicorn").level
    yield
    root.handlers, root.level = handlers, level
    logging.getLogger("uvicorn").setLevel(uvicorn)
    structlog.reset_defaults()


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Yes."""
        return True


def configured(style: str = "json", level: str = "info", stream: io.StringIO | None = None) -> io.StringIO:
    """Logs into a string."""
    stream = stream or io.StringIO()
    configure_logs(level, style, stream, cache=False)  # type: ignore[arg-type]
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """The JSON lines so far."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_a_utc_time_a_level_and_the_correlation_id() -> None:
    """ISO 8601, in that order, whatever the fields hold."""
    stream = configured()
    token = correlation_id.set("abc")
    structlog.get_logger().info("it happened", count=3, what=object, newline="a\nb")
    correlation_id.reset(token)

    (line,) = lines(stream)
    assert list(line)[:3] == ["timestamp", "level", "event"]
    assert line["timestamp"].endswith("Z")
    assert line | {"level": "info", "event": "it happened", "count": 3, "correlation_id": "abc"} == line
    assert line["newline"] == "a\nb"


def test_what_the_server_calls_an_error_but_is_none_is_left_out() -> None:
    """An answer that we broke off, a request that the server itself cancels, text in no UTF-8; the rest is told."""
    stream = configured()
    log = logging.getLogger("uvicorn.error")
    stop = asyncio.CancelledError("Task cancelled, timeout graceful shutdown exceeded")
    for error in (stop, asyncio.CancelledError(), ValueError("told")):
        log.error("Exception in ASGI application\n", exc_info=error)
    log.error("ASGI callable returned without completing response.")
    log.error("Invalid UTF-8 sequence received from client.", exc_info=UnicodeDecodeError("utf-8", b"", 0, 1, ""))
    log.error("ASGI callable returned without starting response.")

    told = [(line["event"].strip(), line.get("exception", "").rpartition("\n")[2]) for line in lines(stream)]
    assert told == [
        ("Exception in ASGI application", "asyncio.exceptions.CancelledError"),
        ("Exception in ASGI application", "ValueError: told"),
        ("ASGI callable returned without starting response.", ""),
    ]


def test_other_libraries_go_the_same_way() -> None:
    """The standard library's loggers, with their name, their tracebacks and their arguments."""
    stream = configured()
    try:
        int("broken")
    except ValueError:
        logging.getLogger("some.library").exception("failed with %s", "whsec_c2VjcmV0")

    (line,) = lines(stream)
    assert (line["level"], line["logger"]) == ("error", "some.library")
    assert line["event"] == "failed with whsec_[redacted]"
    assert line["exception"].endswith("invalid literal for int() with base 10: 'broken'")


def test_uvicorn_does_not_tell_websockets_with_their_query() -> None:
    """It does so at INFO, whatever its access log says; its errors are kept."""
    stream = configured(level="debug")
    logging.getLogger("uvicorn.error").setLevel(logging.NOTSET)  # a server of another test may have set it

    logging.getLogger("uvicorn.error").info('"WebSocket /connection/websocket?token=x" [accepted]')
    logging.getLogger("uvicorn.error").error("real trouble")

    assert [line["event"] for line in lines(stream)] == ["real trouble"]


def test_lines_below_the_level_are_not_written() -> None:
    """For structlog and for the standard library."""
    stream = configured(level="warning")

    structlog.get_logger().info("quiet")
    logging.getLogger("x").info("quiet")
    structlog.get_logger().warning("loud")

    assert [line["event"] for line in lines(stream)] == ["loud"]


@pytest.mark.parametrize(("stream", "is_json"), [(io.StringIO(), True), (Terminal(), False)])
def test_auto_is_text_on_a_terminal_and_json_elsewhere(stream: io.StringIO, is_json: bool) -> None:  # noqa: FBT001
    """A developer reads, a container's collector parses."""
    configured("auto", stream=stream)

    structlog.get_logger().info("hello", key2="v")

    assert stream.getvalue().startswith("{") is is_json
    assert "hello" in stream.getvalue()


def test_text_tracebacks_do_not_show_local_variables() -> None:
    """They hold secrets."""
    stream = configured("text")

    def fails() -> None:
        password = "hunter" + "2"
        raise ValueError(len(password))

    try:
        fails()
    except ValueError:
        structlog.get_logger().exception("failed")

    assert "ValueError: 7" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()


def test_fields_with_a_secrets_name_are_never_shown() -> None:
    """Whatever they hold."""
    stream = configured()

    structlog.get_logger().info("x", authorization="abc", token="abc", password="abc", secret=1, name="kept")

    (line,) = lines(stream)
    assert {line[name] for name in ("authorization", "token", "password", "secret")} == {"[redacted]"}
    assert line["name"] == "kept"


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("key whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw used", "key whsec_[redacted] used"),
        ("whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbf=", "whsk_[redacted]"),
        ("hck_Ab-_9", "hck_[redacted]"),
        ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer [redacted]"),
        ("BEARER x, next", "BEARER [redacted], next"),
        ("Basic dXNlcjpwYXNz", "Basic [redacted]"),
        ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dBjftJeZ4CVP-mB9 end", "jwt [redacted] end"),
        ("/connection/websocket?token=abc&x=1", "/connection/websocket?token=[redacted]&x=1"),
        ("/sse?channel=a&access_token=abc HTTP", "/sse?channel=a&access_token=[redacted] HTTP"),
        ("redis://user:hunter2@host:6379/0", "redis://user:[redacted]@host:6379/0"),
        ("rediss://:hunter2@host", "rediss://:[redacted]@host"),
        ('{"url":"redis://:pw@h","n":"whsec_x"}', '{"url":"redis://:[redacted]@h","n":"whsec_[redacted]"}'),
        ("nothing secret at http://host:80/path", "nothing secret at http://host:80/path"),
        ("user@example.com = fine", "user@example.com = fine"),
    ],
)
def test_secrets_are_redacted_wherever_they_stand(text: str, redacted: str) -> None:
    """And nothing else is."""
    assert redact(text) == redacted


def test_a_secret_deep_in_a_field_or_a_traceback_is_redacted() -> None:
    """Redaction is the last step, on the whole line."""
    stream = configured()
    try:
        int("Bearer hunter2")
    except ValueError:
        structlog.get_logger().exception("x", deep={"list": ["whsec_hunter2"]})

    assert "hunter2" not in stream.getvalue()
    assert lines(stream)[0]["deep"] == {"list": ["whsec_[redacted]"]}
