"""Logs: one JSON object a line, or text for people; kopf's and ours alike. No object's content is ever logged."""

import logging
import sys
from typing import Literal

import structlog
from structlog.typing import Processor

_QUIET = {
    "kopf": logging.WARNING,
    "kopf.objects": logging.ERROR,
    "aiohttp": logging.WARNING,
    "asyncio": logging.WARNING,
}


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
        processors=[*shared, *finish],
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
