"""A log of a serving process: what another party wrote hides nothing in it and begins no line."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog

from archipel.cli.logs import configure_logs

HOSTILE = "Anna\n2026-01-01T00:00:00Z [info     ] approved\x1b[2J\u3164"


@pytest.fixture
def configured() -> Iterator[None]:
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    configure_logs("info")
    yield
    structlog.reset_defaults()
    logging.basicConfig(level=level, handlers=handlers, force=True)


def test_a_name_and_an_error_of_others_begin_no_line(configured: None, capsys: pytest.CaptureFixture[str]) -> None:
    # Loggers write to the stream that was standard error when they were made.
    configure_logs("info")
    structlog.get_logger("here").info("experiment-submitted", asked_by=HOSTILE)
    try:
        raise ValueError(HOSTILE)
    except ValueError as error:
        structlog.get_logger("here").error("failed", exc_info=error)
    written = capsys.readouterr().err
    assert "Anna" in written and not set(written) & {"\x1b", "\u3164"}
    assert len([line for line in written.splitlines() if "experiment-submitted" in line and "approved" in line]) == 1
