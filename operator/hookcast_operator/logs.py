"""Logs: one JSON object a line, or text for people; kopf's and ours alike. No object's content is ever logged."""

import logging
import sys
import time
from collections.abc import Callable
from typing import Literal

import structlog
from structlog.typing import EventDict, Processor

_QUIET = {
    "kopf": logging.WARNING,
    "kopf.objects": logging.ERROR,
    "aiohttp": logging.WARNING,
    "asyncio": logging.WARNING,
}
REPEAT_SECONDS = 60.0
_REMEMBERED = 1_000


class Repeats:
    """Drops a line that was written less than a minute ago: what is tried every second also fails every second.

    The next one says as `repeated` how many were left out.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._written: dict[str, tuple[float, int]] = {}
        """When each line was written last, and how often it was left out since."""

    def __call__(self, _logger: object, _method: str, event: EventDict) -> EventDict:
        """Structlog's interface for processors. Raises DropEvent."""
        line, now = repr(event), self._clock()
        written, left_out = self._written.get(line, (-REPEAT_SECONDS, 0))
        if now - written < REPEAT_SECONDS:
            self._written[line] = (written, left_out + 1)
            raise structlog.DropEvent
        if len(self._written) > _REMEMBERED:
            self._written.clear()
        self._written[line] = (now, 0)
        if left_out:
            event["repeated"] = left_out
        return event


def configure_logs(level: Literal["debug", "info", "warning", "error"], style: Literal["json", "text"]) -> None:
    """Sends structlog and the standard library's loggers to standard error; called once."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    finish: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(sort_keys=False)]
        if style == "json"
        else [structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)]
    )
    structlog.configure(
        processors=[Repeats(), *shared, *finish],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *finish],
        )
    )
    logging.root.handlers = [handler]
    logging.root.setLevel(threshold)
    for name, least in _QUIET.items():
        logging.getLogger(name).setLevel(max(threshold, least))
