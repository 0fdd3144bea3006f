"""Patients who withdraw, and data that changes or goes away, while real processes train on it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from archipel.data import validation_ids
from archipel.site.datasets import catalog
from archipel.site.execution import failures
from archipel.site.withdrawals import withdrawals
from archipel.site.withdrawn.opt_outs import OptOut
from worlds.federation import SITES, World, wait
from worlds.people import ANNA

pytestmark = pytest.mark.processes
IDS = [f"site-a-{number:03d}" for number in range(40)]
TRAINING = sorted(set(IDS) - validation_ids(IDS, 0.2))


def archipel(world: World, *words: str) -> str:
    """A command of people at site-a, in a process of its own."""
    command = [sys.executable, "-c", "from archipel.cli import main; main()", "site", *words]
    environment = {**os.environ, "ARCHIPEL_SITE_STATE": str(world.lab.sites["site-a"].folder)}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


def bodies(world: World, experiment: str, kind: str) -> list[dict[str, object]]:
    return [body for what, body in world.site_lines("site-a", experiment) if what == kind]


def trained_on(world: World, experiment: str) -> list[object]:
    """How many samples each round's update of site-a was trained on."""
    return [body["samples"] for body in bodies(world, experiment, "update-made") if body["kind"] == "train"]


def seen_by_workers(world: World, experiment: str) -> list[object]:
    return [body["subjects"] for body in bodies(world, experiment, "worker-started")]


def at_work(world: World, name: str) -> bool:
    """Whether the plan's worker runs and is at a task."""
    return bool(seen_by_workers(world, name)) and world.seen("site-a", name, "task-accepted")


def test_a_patient_who_withdraws_in_mid_round_is_in_no_update_of_it(world: World) -> None:
    world.submit("leaving", arguments={"pause_s": 5.0}, terms={"rounds": 2})
    held = seen_by_workers(world, "leaving")
    site = world.lab.sites["site-a"].state()
    world.do("leaving", "start")
    wait(lambda: at_work(world, "leaving"), "the worker to be at the first round")
    # Here and not by a command, whose start may take longer than the plan does.
    withdrawals.withdraw(site, [OptOut(TRAINING[0])], reason="changed her mind", by=ANNA)
    assert not world.seen("site-a", "leaving", "update-made")
    site.close()
    world.wait_state("leaving")
    left = len(TRAINING) - 1
    assert trained_on(world, "leaving") == [left, left]
    assert held == [] and seen_by_workers(world, "leaving") == [40, 39]
    assert world.made("site-a", "leaving")["train", 1, ""] == 1
    assert len(bodies(world, "leaving", "approved")) == 1
    assert [one["state"] for one in world.rounds("leaving")] == ["committed", "committed"]
    kinds = [kind for kind, _ in world.site_lines("site-a")]
    assert kinds.count("patient-withdrawn") == 1 and kinds.count("cohort-reduced") >= 1
    assert TRAINING[0] not in str(world.server_lines()) + str(world.site_lines("site-a"))


def test_an_opt_out_list_counts_from_the_next_round_on(world: World) -> None:
    """Nobody wakes the agent: it reads the list before each task."""
    world.submit("listed", terms={"rounds": 2})
    world.do("listed", "step")
    world.wait_state("listed", "paused")
    (before,) = trained_on(world, "listed")
    (world.lab.sites["site-a"].folder / "opt-out.txt").write_text(f"# by letter\n{TRAINING[1]}\n")
    world.do("listed", "resume")
    world.wait_state("listed")
    assert trained_on(world, "listed") == [before, before - 1]


def test_a_withdrawal_while_the_agent_is_away_counts_when_it_is_back(world: World) -> None:
    world.submit("away", terms={"rounds": 2})
    world.do("away", "step")
    world.wait_state("away", "paused")
    (before,) = trained_on(world, "away")
    world.kill_site("site-a")
    said = archipel(world, "cohort", "withdraw", TRAINING[2])
    assert "excluded from the next task on; existing approvals stay valid" in said
    world.start_site("site-a")
    world.lab.wait_connected(set(SITES))
    world.do("away", "resume")
    world.wait_state("away")
    assert trained_on(world, "away") == [before, before - 1]


def test_too_few_patients_left_fail_the_task_with_a_typed_error(world: World) -> None:
    world.submit("few", terms={"rounds": 2, "retries": 0})
    world.do("few", "step")
    world.wait_state("few", "paused")
    site = world.lab.sites["site-a"].state()
    try:
        settings = site.folder / "site.toml"
        text, here = settings.read_text(), catalog.dataset(site.database, "data").subjects
        settings.write_text(text.replace("minimum_subjects = 2", f"minimum_subjects = {here}"))
        world.kill_site("site-a")
        world.start_site("site-a")
        world.lab.wait_connected(set(SITES))
        archipel(world, "cohort", "withdraw", TRAINING[3])
        world.do("few", "resume")
        wait(lambda: world.heard("few", "site-failed", 2, "site-a"), "the failure to be told")
        (told,) = [body for kind, body in world.server_lines("few") if kind == "site-failed"]
        assert told["failure"]["code"] == "bad-data"
        assert "the site's data does not meet the plan's needs" in str(told)
        (known,) = failures.failed(site.database, "few")
        assert f"patients were withdrawn and {here - 1} subjects are left" in known.detail
        settings.write_text(text)
    finally:
        site.close()
    world.kill_site("site-a")
    world.start_site("site-a")
    world.lab.wait_connected(set(SITES))


def data_of(world: World, site: str) -> Path:
    return world.folder / "data" / site


def test_a_folder_that_disappears_between_rounds_is_named_and_training_goes_on_when_it_is_back(world: World) -> None:
    world.submit("gone", terms={"rounds": 2, "retries": 0})
    world.do("gone", "step")
    world.wait_state("gone", "paused")
    data = data_of(world, "site-a")
    data.rename(data.with_name("unmounted"))
    try:
        world.kill_site("site-a")
        world.start_site("site-a")
        world.lab.wait_connected(set(SITES))
        world.do("gone", "resume")
        wait(lambda: world.heard("gone", "site-failed", 2, "site-a"), "the failure to be told")
        world.wait_state("gone", "paused")
        assert "table.npz: is missing, and was there when the cohort was approved" in archipel(
            world, "errors", "show", "gone", "2"
        )
    finally:
        data.with_name("unmounted").rename(data)
    world.do("gone", "resume")
    world.wait_state("gone")
    assert [one["state"] for one in world.rounds("gone")].count("committed") == 2


def test_a_file_that_changed_is_refused_by_its_name_when_a_worker_starts(world: World) -> None:
    world.submit("changed", terms={"rounds": 1, "retries": 0})
    file = data_of(world, "site-a") / "table.npz"
    whole = file.read_bytes()
    with np.load(file) as arrays:
        spoilt = {name: arrays[name] for name in arrays}
    spoilt["x"][5] += 1.0
    np.savez(file, **spoilt)
    try:
        world.do("changed", "start")
        wait(lambda: world.heard("changed", "site-failed", 1, "site-a"), "the failure to be told")
        world.wait_state("changed", "paused")
        (told,) = [body for kind, body in world.server_lines("changed") if kind == "site-failed"]
        assert told["failure"]["code"] == "data-changed"
        assert "table.npz" not in str(told) and "site-a-005" not in str(told)
        said = archipel(world, "errors", "show", "changed", "1").replace("\n| ", "")
        assert "table.npz: has another row for subject site-a-005 than when the cohort was approved" in said
    finally:
        file.write_bytes(whole)
    world.do("changed", "resume")
    world.wait_state("changed")
