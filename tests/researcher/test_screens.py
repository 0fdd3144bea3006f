"""What a log shows of an experiment: a line for each round and each stage, and nothing twice."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from archipel.researcher.progress import Progress, advance
from archipel.researcher.screens import LogScreen


def committed(round_: int, dice: float, own: float | None = None) -> dict[str, Any]:
    own_dice = {} if own is None else {"dice": own}
    validation = {"dice": dice}
    return {
        "round": round_, "state": "committed", "seconds": 2.0, "validation": validation, "model_validation": own_dice
    }  # fmt: skip


def at(round_: int, *rounds: dict[str, Any], state: str = "running", **more: Any) -> Progress:
    return Progress({"experiment": "heart", "state": state, "round": round_, "rounds": 2, **more}, rounds)


def opened(progress: Progress, kind: str, about: str = "", attempt: int = 1) -> Progress:
    body = {"kind": kind, "round": progress.document["round"] + 1, "about": about, "attempt": attempt}
    return advance(progress, {"kind": "round-opened", "body": body})


@pytest.fixture
def written() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def screen(written: io.StringIO) -> LogScreen:
    return LogScreen(Console(file=written, width=40))


def test_an_experiment_is_a_line_for_each_round_and_stage(screen: LogScreen, written: io.StringIO) -> None:
    first, last = committed(1, 0.5), committed(2, 0.6)
    scored = committed(2, 0.6, own=0.7)
    for progress in (
        at(0, state="waiting"),
        at(0),
        opened(at(0), "train"),
        advance(opened(at(0), "train"), {"kind": "task-accepted", "body": {"site": "site-a"}}),
        at(1, first),
        opened(at(1, first), "train"),
        at(2, first, last),
        opened(at(2, first, last), "evaluate"),
        at(2, first, scored),
        opened(at(2, first, scored), "local"),
        at(2, first, scored),
        opened(at(2, first, scored), "evaluate", about="site-a"),
        at(2, first, scored, state="finished"),
    ):
        screen.show(progress)
    assert written.getvalue().splitlines() == [
        "heart · waiting · round 0 of 2",
        "heart · running · round 0 of 2",
        "heart · running · round 1 of 2 · 2 s a round · dice 0.5000",
        "heart · running · round 2 of 2 · 2 s a round · dice 0.6000",
        "heart · validating",
        "heart · running · round 2 of 2 · 2 s a round · dice 0.7000",
        "heart · baselines: each site trains alone",
        "heart · validating site-a",
        "heart · finished · round 2 of 2 · 2 s a round · dice 0.7000",
    ]


def test_another_attempt_a_reason_and_a_notice_are_said(screen: LogScreen, written: io.StringIO) -> None:
    screen.show(opened(at(1, committed(1, 0.5), reason="the disk is full"), "train", attempt=2))
    screen.show(replace(at(1, committed(1, 0.5)), notice="site-b failed"))
    assert written.getvalue().splitlines() == [
        "heart · round 2 is open (attempt 2) · the disk is full",
        "heart · running · round 1 of 2 · 2 s a round · dice 0.5000 · site-b failed",
    ]
