"""How a serving process logs: one line per event on standard error, for its own events and those of its libraries.

A traceback shows the code's lines and never the values of variables, which may be secrets or people's data. What
another party wrote can hide nothing and begins no line: a text of several lines, such as a plan's traceback, is below
its event, and each of its lines begins with a bar.
"""

from __future__ import annotations

import io
import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from archipel.vocabulary.visible import escape_hidden, quote_lines

_TEXT = "detail"
"""The key of an event's text of several lines; what any other key has is shown on the event's own line."""
_INDENT = "    "


def configure_logs(level: str) -> None:
    """Log from ``level`` (debug, info, warning, error) on; libraries from warning on."""
    steps: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render = _Renderer(colors=sys.stderr.isatty())
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


class _Renderer:
    """An event on one line, with its text of several lines and its traceback below it."""

    def __init__(self, colors: bool) -> None:
        self._line = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=_quoted_traceback)

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> str:
        below = event.pop(_TEXT) if "\n" in str(event.get(_TEXT, "")).strip() else None
        shown = {key: escape_hidden(value) if isinstance(value, str) else value for key, value in event.items()}
        line = self._line(logger, method, shown)
        return line if below is None else f"{line}\n{_quoted(str(below))}"


def _quoted_traceback(stream: TextIO, error: ExcInfo) -> None:
    written = io.StringIO()
    structlog.dev.plain_traceback(written, error)
    stream.write(_quoted(written.getvalue()))


def _quoted(text: str) -> str:
    return "\n".join(f"{_INDENT}{line}" for line in quote_lines(text.strip("\n")).split("\n"))
