"""How a serving process logs: one line per event on standard error, for its own events and those of its libraries.

A traceback shows the code's lines and never the values of variables, which may be secrets or people's data. What
another party wrote can hide nothing and begins no line.
"""

from __future__ import annotations

import io
import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from archipel.vocabulary.visible import escape_hidden, escape_hidden_lines


def configure_logs(level: str) -> None:
    """Log from ``level`` (debug, info, warning, error) on; libraries from warning on."""
    steps: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _visible,
    ]
    render = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_visible_traceback)
    structlog.configure(
        processors=[*steps, render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    libraries = logging.StreamHandler()
    libraries.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*steps, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[libraries], force=True)


def _visible(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {key: escape_hidden(value) if isinstance(value, str) else value for key, value in event.items()}


def _visible_traceback(stream: TextIO, error: ExcInfo) -> None:
    written = io.StringIO()
    structlog.dev.plain_traceback(written, error)
    stream.write(escape_hidden_lines(written.getvalue()))
