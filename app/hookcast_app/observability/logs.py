"""Structured logs: JSON lines in a container, readable lines on a terminal, the same way for every library.

Everything passes one redaction at the very end, on the finished line, so that no field, traceback or foreign message
is left out.
"""

import logging
import re
import sys
from asyncio import CancelledError
from typing import Any, Literal, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from hookcast_app.observability.context import correlation_id

REDACTED = "[redacted]"
SECRET_NAMES = frozenset(
    {"api_key", "authorization", "cookie", "key", "password", "secret", "set-cookie", "token", "x-api-key"}
)

_SECRET = re.compile(
    r"""(?P<key>whsec_|whsk_|hck_)[A-Za-z0-9+/=_-]+
    | (?P<scheme>\b(?:bearer|basic)\s+)[^\s"',;\\]+
    | \beyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?
    | (?P<query>[?&](?:access_token|api_key|key|secret|token)=)[^&\s"'\\]+
    | (?P<url>://[^\s/:@"']*:)[^\s/@"']+(?=@)""",
    re.VERBOSE | re.IGNORECASE,
)
_MARKS = ("whs", "hck_", "bearer", "basic", "eyj", "=", "@")
"""One of them is in every text that `_SECRET` can match: most lines are passed by these alone, far cheaper."""

_BROKEN_OFF = "ASGI callable returned without completing response."
_NO_TEXT = "Invalid UTF-8 sequence received from client."
_STOPPED = "Task cancelled, timeout graceful shutdown exceeded"
"""uvicorn's words (0.54)."""

_encode = msgspec.json.Encoder(enc_hook=str).encode


def redact(text: str) -> str:
    """`text` without signing keys, our API keys, credentials, JWTs, `?token=` and passwords in URLs."""
    lowered = text.lower()
    if not any(mark in lowered for mark in _MARKS):
        return text
    return _SECRET.sub(lambda match: next((kept for kept in match.groups() if kept), "") + REDACTED, text)


def configure_logs(
    level: Literal["debug", "info", "warning", "error"],
    style: Literal["auto", "json", "text"],
    stream: TextIO | None = None,
    *,
    cache: bool = True,
) -> None:
    """Sends structlog and the standard library's loggers to `stream` (stderr by default).

    `auto` is text on a terminal and JSON elsewhere. Called once, before the first line; with `cache` a logger keeps
    what was configured when it first spoke.
    """
    stream = stream or sys.stderr
    is_text = style == "text" or (style == "auto" and stream.isatty())
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        _correlation,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _redact_names,
    ]
    finish: list[Processor] = [*_renderers(is_text, stream), _redact_line]
    structlog.configure(
        processors=[*shared, *finish],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=cache,
    )
    _configure_stdlib(threshold, stream, shared, finish)


def _configure_stdlib(threshold: int, stream: TextIO, shared: list[Processor], finish: list[Processor]) -> None:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *finish],
        )
    )
    logging.root.handlers = [handler]
    logging.root.setLevel(threshold)
    # uvicorn tells each WebSocket with its query string, and its own life in lines that repeat ours.
    logging.getLogger("uvicorn").setLevel(max(threshold, logging.WARNING))
    logging.getLogger("uvicorn.error").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether uvicorn tells something that we do not: three of its errors are none.

    An answer that broke off was ended by us, and whoever did so said why. A request that the server cancels at its
    own end is counted in uvicorn's line before; its traceback says nothing more. A client whose text is no UTF-8 is
    told so itself.
    """
    error = record.exc_info[1] if record.exc_info else None
    is_stopped = isinstance(error, CancelledError) and error.args == (_STOPPED,)
    return not is_stopped and record.msg not in {_BROKEN_OFF, _NO_TEXT}


def _renderers(is_text: bool, stream: TextIO) -> list[Processor]:  # noqa: FBT001
    if is_text:
        # Never the rich traceback: it prints local variables, secrets among them.
        return [
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
            )
        ]
    return [structlog.processors.format_exc_info, _render_json]


def _correlation(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    current = correlation_id.get()
    if current is not None:
        event.setdefault("correlation_id", current)
    return event


def _redact_names(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    if not SECRET_NAMES.isdisjoint(event):
        for name in SECRET_NAMES & event.keys():
            event[name] = REDACTED
    return event


def _render_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    line: dict[str, Any] = {name: event.pop(name, None) for name in ("timestamp", "level", "event")}
    line.update(event)
    return _encode(line).decode()


def _redact_line(_logger: WrappedLogger, _method: str, line: EventDict) -> str:
    return redact(str(line))
