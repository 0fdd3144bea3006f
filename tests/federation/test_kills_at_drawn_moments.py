"""kill -9 at moments that a seed draws: each run ends with the same model, and no reason names what was not done."""

from __future__ import annotations

import random
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from archipel.cli import bench


@pytest.fixture(scope="module")
def kills() -> ModuleType:
    return bench._benchmark("bench_kills")


@pytest.fixture(scope="module")
def judged(kills: ModuleType) -> Any:
    return bench._benchmark("kills_watch").judged


def test_a_seed_draws_the_same_kills_and_in_time_every_kind_at_every_phase(kills: ModuleType) -> None:
    first, second = (kills.draw_kills(random.Random(5), 400) for _ in range(2))
    assert first == second != kills.draw_kills(random.Random(6), 400)
    assert {(kill.victim, kill.phase) for kill in first} == {
        (victim, phase) for victim in kills.VICTIMS for phase in kills.LATEST_S
    }
    assert [kill.round for kill in first] == sorted(kill.round for kill in first)


def failed(site: str, code: str = "crashed") -> tuple[str, dict[str, Any]]:
    return "site-failed", {"site": site, "round": 1, "failure": {"code": code}}


@pytest.mark.parametrize(
    ("lines", "victims", "false"),
    [
        ([("round-closed", {})], ["worker"], 0),
        ([failed("site-a")], ["worker", "first process of the sandbox"], 0),
        ([failed("site-a")], ["worker"], 1),
        ([failed("site-a")], ["server", "agent"], 1),
        ([failed("site-b")], ["worker", "worker"], 1),
        ([failed("site-a"), failed("site-a")], ["worker", "worker", "worker"], 1),
        ([failed("site-a", "sandbox")], ["worker", "worker"], 1),
        ([failed("site-a", "plan-error")], ["worker", "worker"], 1),
        ([("experiment-paused", {"reason": "the quorum"})], ["worker", "worker"], 1),
    ],
)
def test_a_reason_is_true_of_what_was_killed_or_is_listed(
    kills: ModuleType, judged: Any, lines: list[Any], victims: list[str], false: int
) -> None:
    made = [kills.Kill(victim, "site-a", "training", 1, 0.0) for victim in victims]
    told, untrue = judged(lines, made)
    assert len(told) == sum(kind != "round-closed" for kind, _ in lines) and len(untrue) == false


@pytest.mark.processes
def test_a_few_kills_change_no_bit_and_give_no_false_reason(kills: ModuleType, tmp_path: Path) -> None:
    found = kills.bench_kills(kills.TRIED, 4, 4, tmp_path)
    assert found["kills"] >= 3 and found["runs"] == 1
    wrong = ("runs_not_finished", "runs_that_differ", "false_reasons", "sandboxes_left")
    assert not any(found[name] for name in wrong), found
