"""The checks at a site: each step runs in the real sandbox and says go, or what is to be fixed."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from archipel.cli.site import app
from archipel.data import Cohort, DataMapping, Prepared, PreparedCache, Preprocessing, hex_of
from archipel.data.prepared.source import contents_in
from archipel.governance import job_hash
from archipel.plans.runtime import Outcome
from archipel.site.approval import decisions, offers
from archipel.site.audit import journal
from archipel.site.checks.dry_run import Checks, run_checks
from archipel.site.checks.findings import CheckStep, Sign
from archipel.site.checks.rehearsal import Rehearsal
from archipel.site.cohorts import cohort_versions
from archipel.site.datasets import catalog
from archipel.site.execution import preparation
from archipel.site.sandbox import SandboxedWorker
from archipel.site.services import cohorts, datasets
from archipel.site.state import sample_cache
from archipel.site.state.folder import StateFolder
from archipel.site.withdrawals.withdrawals import withdraw
from archipel.site.withdrawn.opt_outs import OPT_OUT, OptOut
from archipel.vocabulary import NotFound, Refused, ShowProgress, Task
from worlds.data_files import write_pairs, write_rows, write_volume
from worlds.offers import VOXELS, findings, offered
from worlds.people import ANNA, approve
from worlds.site import Terminal

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="the Debian package bubblewrap is not installed"),
]


def shape_is(shape: tuple[int, ...]) -> str:
    """Values of volumes that the plan refuses unless they have this shape."""
    return f"assert all(one.image.shape == {shape} for one in side.volumes()), side[0]\n        {VOXELS}"


def kinds(site: StateFolder) -> list[str]:
    return [line.kind for line in journal.lines(site.database)]


def test_the_dummy_step_trains_on_nobodys_data_and_needs_no_approval(with_table: StateFolder, tmp_path: Path) -> None:
    offered(with_table, tmp_path)
    shutil.rmtree(tmp_path / "data")
    (rung,) = asyncio.run(run_checks(Checks(with_table, "heart", by=ANNA), CheckStep.DUMMY))
    assert rung.go
    assert rung.figures["dummy_round_s"] > 0 and rung.figures["dummy_peak_mib"] > 1
    assert findings(rung, Sign.GO)["initial model"] == "the plan makes the initial model that the job names"
    assert "bubblewrap" in findings(rung, Sign.GO)["sandbox"]
    assert kinds(with_table)[-1] == "checked"
    assert not list(with_table.folder.glob("check-*"))


async def test_a_rehearsal_trains_for_the_very_job_that_is_offered(
    with_table: StateFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered(with_table, tmp_path)
    job = offers.offered(with_table.database, "heart").job
    train, tasks = SandboxedWorker.train, []

    async def seen(worker: SandboxedWorker, task: Task, *more: Any) -> Outcome:
        tasks.append(task)
        return await train(worker, task, *more)

    monkeypatch.setattr(SandboxedWorker, "train", seen)
    (rung,) = await run_checks(Checks(with_table, "heart", by=ANNA), CheckStep.DUMMY)
    assert rung.go and tasks
    assert {task.job_hash for task in tasks} == {job_hash(job)} != {job.initial_model}


def test_generated_volumes_have_the_declared_labels_and_the_datasets_sizes(
    hospital: StateFolder, tmp_path: Path
) -> None:
    datasets.add(hospital, "brains", write_pairs(tmp_path / "brains"), "nifti-pairs", by=ANNA)
    look = (
        "for volume in side.volumes():\n"
        "            assert volume.image.shape == (6, 7, 8), volume.image.shape\n"
        "            assert set(np.unique(volume.label)) == {0, 1, 2}, np.unique(volume.label)\n"
        f"        {VOXELS}"
    )
    offered(
        hospital, tmp_path, dataset="brains", needs='kind="volumes", labels={"1": "a", "2": "b"}', values=look
    )  # fmt: skip
    (rung,) = asyncio.run(run_checks(Checks(hospital, "heart", by=ANNA), CheckStep.DUMMY))
    assert rung.go, rung


@pytest.mark.parametrize("approved", [True, False], ids=["approved", "frozen"])
def test_generated_volumes_have_the_sizes_that_the_cohorts_recipe_gives(
    hospital: StateFolder, tmp_path: Path, approved: bool
) -> None:
    entry = datasets.add(hospital, "brains", write_pairs(tmp_path / "brains"), "nifti-pairs", by=ANNA).dataset
    offered(hospital, tmp_path, dataset="brains", needs='kind="volumes"', values=shape_is((12, 14, 16)))
    recipe = Preprocessing(spacing_mm=(0.5, 0.5, 0.5))
    cohorts.freeze_version(hospital, "brains", recipe=recipe, by=ANNA)
    if approved:
        approve(hospital, "heart", version=1)
        with hospital.database.write() as connection:
            cohort_versions.keep(hospital, connection, cohorts.freeze(hospital, entry, recipe=Preprocessing()), by=ANNA)
    shutil.rmtree(tmp_path / "brains")
    (rung,) = asyncio.run(run_checks(Checks(hospital, "heart", by=ANNA), CheckStep.DUMMY))
    assert rung.go, rung
    assert rung.figures["dummy_voxels"] == 12 * 14 * 16


@pytest.mark.parametrize("approved", [True, False], ids=["approved", "offered"])
def test_generated_volumes_are_turned_as_the_mapping_turns_the_datasets(
    hospital: StateFolder, tmp_path: Path, approved: bool
) -> None:
    draw, lying = np.random.default_rng(0), np.array([[0, 0, -3.0, 90], [0.8, 0, 0, 0], [0, 0.4, 0, 0], [0, 0, 0, 1]])
    for number in range(3):
        for part, values in (("images", draw.normal(9, 2, (6, 7, 8))), ("labels", draw.integers(0, 3, (6, 7, 8)))):
            write_volume(tmp_path / "brains" / part / f"sub-{number}.nii.gz", values.astype(np.uint8), lying)
    turned = DataMapping(orientation="RAS")
    datasets.add(hospital, "brains", tmp_path / "brains", "nifti-pairs", mapping=turned, by=ANNA)
    offered(hospital, tmp_path, dataset="brains", needs='kind="volumes"', values=shape_is((8, 6, 7)))
    if approved:
        approve(hospital, "heart")
        catalog.remap(hospital.database, hospital.cohort_key, "brains", DataMapping(), by=ANNA)
    (rung,) = asyncio.run(run_checks(Checks(hospital, "heart", by=ANNA), CheckStep.DUMMY))
    assert rung.go, rung


def test_a_plan_that_breaks_on_the_dummy_is_named_with_its_line_and_nothing_more_is_tried(
    with_table: StateFolder, tmp_path: Path
) -> None:
    offered(with_table, tmp_path, train="raise KeyError('no such column')")
    rungs = asyncio.run(run_checks(Checks(with_table, "heart", by=ANNA), CheckStep.PREFLIGHT))
    assert [rung.step for rung in rungs] == [CheckStep.DUMMY]
    said = findings(rungs[0], Sign.FIX)["plan"]
    assert "KeyError" in said and "means.py:" in said and "no such column" in said and "heart.check.log" in said


def test_the_local_step_needs_the_approval_or_a_word_that_is_journaled(with_table: StateFolder, tmp_path: Path) -> None:
    offered(with_table, tmp_path)
    with pytest.raises(Refused, match="add --i-have-read-the-plan"):
        asyncio.run(run_checks(Checks(with_table, "heart", by=ANNA), CheckStep.LOCAL))
    assert "checked" not in kinds(with_table)
    terminal, words = Terminal(with_table.folder), ("check", "heart", "--step", "local", "--passes", "2")
    refused = re.search(r"add (--i-have-read-the-plan)$", str(terminal(*words).exception))
    assert refused is not None
    done = terminal(*words, refused[1], "--json")
    assert done.exit_code == 0, done.output
    steps = [(one["step"], one["go"]) for one in json.loads(done.stdout[done.stdout.index("{") :])["steps"]]
    assert steps == [(step, True) for step in CheckStep]
    assert kinds(with_table).count("plan-read-for-a-check") == 1
    assert "worker-started" not in kinds(with_table)


def test_the_local_step_shows_the_metrics_of_this_site_alone(with_table: StateFolder, tmp_path: Path) -> None:
    offered(with_table, tmp_path)
    approve(with_table, "heart")
    rung = asyncio.run(run_checks(Checks(with_table, "heart", by=ANNA), CheckStep.LOCAL, passes=9))[-1]
    assert rung.go and "plan-read-for-a-check" not in kinds(with_table)
    x = np.load(tmp_path / "data/table.npz")["x"].mean(1)
    before, after = rung.figures["distance_before"], rung.figures["distance"]
    assert abs(before - 100) < 3 and abs(after - 12.5) < 3, "three passes, as many as the job has rounds"
    assert findings(rung, Sign.GO)["training"] == f"3 passes over {len(x) - 1} samples"


@pytest.mark.parametrize("approved", [True, False], ids=["approved", "read"])
@pytest.mark.parametrize("listed", [True, False], ids=["by-list", "by-command"])
def test_the_local_step_trains_on_nobody_who_withdrew_while_it_prepared(
    with_table: StateFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, approved: bool, listed: bool
) -> None:
    offered(with_table, tmp_path)
    cohort = cohorts.freeze(with_table, catalog.dataset(with_table.database, "table")).cohort
    gone, prepare = cohort.training[0], preparation.prepared
    if approved:
        approve(with_table, "heart")

    async def overtaken(site: StateFolder, root: Path, asked: Cohort, show: ShowProgress) -> Prepared:
        found = await prepare(site, root, asked, show)
        if gone in asked.subjects and listed:
            (site.folder / OPT_OUT).write_text(f"{gone}\n")
        elif gone in asked.subjects:
            withdraw(site, [OptOut(gone)], by=ANNA)
        return found

    monkeypatch.setattr(preparation, "prepared", overtaken)
    rung = asyncio.run(Checks(with_table, "heart", by=ANNA).local(2, plan_was_read=True))
    assert rung.go, rung
    assert findings(rung, Sign.GO)["training"] == "2 passes over 4 samples"
    sample_cache.wait_for_removals()
    (sample,) = (one for one in cohort.samples if one.subject == gone)
    (path,) = (with_table.folder / "prepared" / "rows").iterdir()
    left = list(hex_of(contents_in(path)))
    assert len(left) == 5 and sample.hash.partition(":")[2] not in left


def test_what_is_prepared_after_a_withdrawal_outlasts_a_removal_that_takes_long(
    with_table: StateFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No cohort of the site has these samples: the removal takes all that was prepared, and must not come too late."""
    offered(with_table, tmp_path)
    (gone, *_), prepare = (
        cohorts.freeze(with_table, catalog.dataset(with_table.database, "table")).cohort.training,
        preparation.prepared,
    )
    forget, prepared_again = PreparedCache.forget, threading.Event()

    def late(cache: PreparedCache, *samples: Any) -> int:
        if threading.current_thread().name == "forget-withdrawn":
            prepared_again.wait(1)
        return forget(cache, *samples)

    async def overtaken(site: StateFolder, root: Path, asked: Cohort, show: ShowProgress) -> Prepared:
        found = await prepare(site, root, asked, show)
        if gone in asked.subjects:
            (site.folder / OPT_OUT).write_text(f"{gone}\n")
        else:
            prepared_again.set()
        return found

    monkeypatch.setattr(PreparedCache, "forget", late)
    monkeypatch.setattr(preparation, "prepared", overtaken)
    rung = asyncio.run(Checks(with_table, "heart", by=ANNA).local(plan_was_read=True))
    assert rung.go and prepared_again.is_set()
    sample_cache.wait_for_removals()
    assert [len(contents_in(path)) for path in (with_table.folder / "prepared" / "rows").iterdir()] == [5]


def test_the_local_step_ends_when_the_approval_is_revoked_while_it_prepared(
    with_table: StateFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered(with_table, tmp_path)
    approve(with_table, "heart")
    prepare = preparation.prepared

    async def overtaken(site: StateFolder, root: Path, asked: Cohort, show: ShowProgress) -> Prepared:
        decisions.revoke(site.database, "heart", by=ANNA)
        return await prepare(site, root, asked, show)

    monkeypatch.setattr(preparation, "prepared", overtaken)
    rung = asyncio.run(Checks(with_table, "heart", by=ANNA).local(plan_was_read=True))
    assert "was revoked by this site" in findings(rung, Sign.FIX)["experiment heart"]


@pytest.mark.parametrize("ended_by", ["withdrawal", "revocation"])
def test_the_local_step_ends_when_it_may_not_go_on(
    with_table: StateFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended_by: str
) -> None:
    offered(with_table, tmp_path)
    approve(with_table, "heart")
    train, workers = Rehearsal.train, []

    async def overtaken(run: Rehearsal, *terms: Any, **more: Any) -> Outcome:
        workers.append(Path(f"/proc/{run.worker.main}"))
        assert workers[0].exists()
        if ended_by == "revocation":
            decisions.revoke(with_table.database, "heart", by=ANNA)
        else:
            cohort = cohorts.freeze(with_table, catalog.dataset(with_table.database, "table")).cohort
            withdraw(with_table, [OptOut(cohort.training[0])], by=ANNA)
        await asyncio.Event().wait()
        return await train(run, *terms, **more)

    monkeypatch.setattr(Rehearsal, "train", overtaken)
    rung = asyncio.run(Checks(with_table, "heart", by=ANNA).local())
    said = " ".join(findings(rung, Sign.FIX).values())
    assert ("was revoked by this site" if ended_by == "revocation" else "has withdrawn; run it again") in said
    assert "training" not in findings(rung, Sign.GO)
    # It was killed; the process above it reaps it a moment later.
    until = time.monotonic() + 30
    while workers[0].exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert not workers[0].exists()


def test_a_plan_not_fetched_yet_is_said(with_table: StateFolder, tmp_path: Path) -> None:
    offered(with_table, tmp_path)
    with_table.blobs.sweep(())
    with pytest.raises(NotFound, match="start the agent, which fetches it"):
        Checks(with_table, "heart", by=ANNA)


def test_the_command_prints_each_step_and_its_exit_code_says_whether_to_go_on(
    with_table: StateFolder, tmp_path: Path
) -> None:
    offered(with_table, tmp_path)
    state = str(with_table.folder)
    done = CliRunner().invoke(app, ["check", "heart", "--state", state])
    assert done.exit_code == 0, done.output
    assert "dummy: go" in done.output and "preflight: go" in done.output
    offered(with_table, tmp_path, needs='kind="arrays", minimum_subjects=50')
    done = CliRunner().invoke(app, ["check", "heart", "--state", state, "--json"])
    document = json.loads(done.output)
    assert (done.exit_code, document["go"]) == (1, False)
    assert [one["step"] for one in document["steps"]] == ["dummy", "preflight"]
    assert job_hash(offers.offered(with_table.database, "heart").job)


def test_a_dataset_that_is_named_is_checked_whatever_is_approved(with_table: StateFolder, tmp_path: Path) -> None:
    offered(with_table, tmp_path)
    approve(with_table, "heart")
    datasets.add(with_table, "other", write_rows(tmp_path / "other", 12), "npz", by=ANNA)
    state = str(with_table.folder)

    def checked(*words: str) -> tuple[int, dict[str, Any]]:
        done = CliRunner().invoke(app, ["check", "heart", "--state", state, "--json", *words])
        assert done.output.startswith("{"), (done.output, done.exception)
        steps = json.loads(done.output)["steps"]
        return done.exit_code, {one["step"]: one["figures"] for one in steps}

    code, own = checked()
    other_code, other = checked("--dataset", "other")
    assert (code, other_code) == (0, 0)
    counts = [sum(one["preflight"][f"{side}_samples"] for side in ("training", "validation")) for one in (own, other)]
    assert counts == [6, 12]
    again = checked("--dataset", "table")
    assert sum(again[1]["preflight"][f"{side}_samples"] for side in ("training", "validation")) == 6
    local = CliRunner().invoke(app, ["check", "heart", "--state", state, "--dataset", "other", "--step", "local"])
    assert isinstance(local.exception, Refused) and "is not approved at this site" in str(local.exception)
    shutil.rmtree(tmp_path / "other")
    assert checked("--dataset", "other")[0] == 1
