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
        logging.getLogger("a library").error("failed too", exc_info=error)
    lines = capsys.readouterr().err.splitlines()
    assert not set("".join(lines)) & {"\x1b", "\u3164"}
    assert len([line for line in lines if "experiment-submitted" in line and "approved" in line]) == 1
    assert not [line for line in lines if line.startswith("2026-01-01")]
    assert [line for line in lines if line.startswith("    | ValueError: Anna")], lines
    assert [line for line in lines if line.startswith("    | 2026-01-01T00:00:00Z [info     ] approved")]


def test_a_plans_traceback_is_lines_below_its_event(configured: None, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info")
    detail = f'Traceback (most recent call last):\n  File "plan.py", line 3, in train\nKeyError: {HOSTILE}\n'
    structlog.get_logger("here").warning("task failed", code="plan-error", detail=detail)
    event, *below = capsys.readouterr().err.splitlines()
    assert event.endswith("task failed                    code=plan-error")
    assert below == [
        "    | Traceback (most recent call last):",
        '    |   File "plan.py", line 3, in train',
        "    | KeyError: Anna",
        "    | 2026-01-01T00:00:00Z [info     ] approved\\x1b[2J\\u3164",
    ]


def test_a_detail_of_one_line_stays_on_its_event(configured: None, capsys: pytest.CaptureFixture[str]) -> None:
    # Loggers write to the stream that was standard error when they were made.
    configure_logs("info")
    structlog.get_logger("here").warning("task failed", detail="it took longer than 3 s\n")
    (line,) = capsys.readouterr().err.splitlines()
    assert "it took longer than 3 s" in line
