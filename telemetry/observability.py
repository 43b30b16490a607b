"""Logs that machines and people can read, and the names every metric starts with."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from .settings import CommonSettings

METRIC_PREFIX = "quantrac_"


def setup_logging(settings: CommonSettings, service: str) -> None:
    """Send our log and the libraries' warnings to stderr: text on a terminal, JSON lines elsewhere."""
    level = getattr(logging, settings.log_level.upper())
    console = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if console
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, renderer]
        if not console
        else [*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    logging.basicConfig(level=max(level, logging.WARNING), stream=sys.stderr, format="%(name)s: %(message)s")
    logging.getLogger("gmqtt").setLevel(logging.ERROR)
    # Said at every loss of a connection, since reconnecting is ours to do.
    logging.getLogger("gmqtt.client").addFilter(lambda record: "max number of failed" not in record.msg)
