"""The ladder at a site: each step runs in the real sandbox and says go, or what is to be mended."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from site_world import SERVER, table, volumes
from typer.testing import CliRunner

from archipel.cli.site import app
from archipel.data import Cohort, Prepared
from archipel.data.prepared import keys_in
from archipel.governance import job_hash
from archipel.plans.drafting import draft
from archipel.plans.runtime import Outcome
from archipel.site import approvals, catalog, cohorts, journal, preparing
from archipel.site.checking import Ladder, climb
from archipel.site.findings import Rung, Sign, Step
from archipel.site.opt_outs import OPT_OUT, Optant
from archipel.site.rehearsal import Rehearsal
from archipel.site.state import SiteState
from archipel.site.withdrawals import withdraw
from archipel.vocabulary import NotFound, Refused, RosterEntry, RoundTerms, WorkerLimits

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="the Debian package bubblewrap is not installed"),
]

PLAN = '''
import numpy as np
from archipel.plans import Plan, TrainingResult
from archipel.vocabulary import DataNeeds, MetricSpec, MetricSum

class Means(Plan):
    """Learns the mean of x; each pass goes half of the way."""

    needs = DataNeeds(NEEDS)
    validation = (MetricSpec(name="distance", better="lower"),)

    def initial_model(self, seed):
        return {"w": np.full(1, 100.0)}

    def prepare(self, training, validation, context):
        self.x, self.held = (self.values(side) for side in (training, validation))

    def values(self, side):
        VALUES

    def train(self, model, context):
        TRAIN
        model["w"] += 0.5 * (self.x.mean() - model["w"])
        distance = float(abs(model["w"][0] - self.x.mean()))
        return TrainingResult(len(self.x), {"loss": MetricSum(total=distance, weight=1.0)})

    def evaluate(self, models, context):
        distance = float(abs(models[0]["w"][0] - self.held.mean()))
        return {"distance": MetricSum(total=distance * len(self.held), weight=len(self.held))}
'''
ROWS = "return np.asarray(side.table().x, float).reshape(len(side), -1).mean(1)"
VOXELS = "return np.array([volume.image.mean() for volume in side.volumes()])"


def offered(
    site: SiteState, folder: Path, *, dataset: str = "table", needs: str = 'kind="arrays"', values: str = ROWS,
    train: str = "pass", rounds: int = 3, **terms: float,
) -> None:  # fmt: skip
    """Offer the plan with these parts as experiment ``heart``."""
    file = folder / "means.py"
    file.write_text(PLAN.replace("NEEDS", needs).replace("VALUES", values).replace("TRAIN", train))
    made = draft(
        file,
        experiment="heart",
        roster=[RosterEntry(site=site.name, identity_key=site.identity.public, dataset=dataset)],
        server_key=SERVER.public,
        terms=RoundTerms(rounds=rounds, quorum=1, **terms),
        limits=WorkerLimits(memory_mb=600, cpu_s=60, wall_s=60),
    )
    site.blobs.put(made.plan.source)
    approvals.offer(site, made.job)


def findings(rung: Rung, sign: Sign) -> dict[str, str]:
    return {one.what: one.said for one in rung.findings if one.sign is sign}


def kinds(site: SiteState) -> list[str]:
    return [line.kind for line in journal.lines(site)]


def test_the_dummy_step_trains_on_nobodys_data_and_needs_no_approval(with_table: SiteState, tmp_path: Path) -> None:
    offered(with_table, tmp_path)
    shutil.rmtree(tmp_path / "data")
    (rung,) = climb(Ladder(with_table, "heart"), Step.DUMMY)
    assert rung.go
    assert rung.figures["dummy_round_s"] > 0 and rung.figures["dummy_peak_mib"] > 1
    assert findings(rung, Sign.GO)["initial model"] == "the plan makes here what the job names"
    assert "bubblewrap" in findings(rung, Sign.GO)["sandbox"]
    assert kinds(with_table)[-1] == "checked"
    assert not list(with_table.folder.glob("check-*"))


def test_generated_volumes_have_the_declared_labels_and_the_datasets_sizes(hospital: SiteState, tmp_path: Path) -> None:
    catalog.add(hospital, "brains", volumes(tmp_path / "brains"), "nifti-pairs")
    look = (
        "for volume in side.volumes():\n"
        "            assert volume.image.shape == (6, 7, 8), volume.image.shape\n"
        "            assert set(np.unique(volume.label)) == {0, 1, 2}, np.unique(volume.label)\n"
        f"        {VOXELS}"
    )
    offered(
        hospital, tmp_path, dataset="brains", needs='kind="volumes", labels={"1": "a", "2": "b"}', values=look
    )  # fmt: skip
    (rung,) = climb(Ladder(hospital, "heart"), Step.DUMMY)
    assert rung.go, rung


def test_a_plan_that_breaks_on_the_dummy_is_named_with_its_line_and_nothing_more_is_tried(
    with_table: SiteState, tmp_path: Path
) -> None:
    offered(with_table, tmp_path, train="raise KeyError('no such column')")
    rungs = climb(Ladder(with_table, "heart"), Step.PREFLIGHT)
    assert [rung.step for rung in rungs] == [Step.DUMMY]
    said = findings(rungs[0], Sign.MEND)["plan"]
    assert "KeyError" in said and "line" in said and "no such column" in said and "heart.check.log" in said


def test_preflight_says_of_each_thing_whether_it_is_met(with_table: SiteState, tmp_path: Path) -> None:
    offered(with_table, tmp_path)
    _, rung = climb(Ladder(with_table, "heart"), Step.PREFLIGHT)
    assert rung.go, rung
    said = findings(rung, Sign.GO)
    assert said["split"] == "5 subjects train, 1 validate"
    assert "a round" in said["time"] and "MiB" in said["memory"] and "MiB" in said["disk"]
    assert said["duplicates"] == "no image is on both sides of the split"


def test_preflight_finds_the_same_image_on_both_sides_without_reading_it_again(
    hospital: SiteState, tmp_path: Path
) -> None:
    root = volumes(tmp_path / "brains", 8)
    for part in ("images", "labels"):
        for number in range(1, 8):
            shutil.copy(root / part / "sub-00.nii.gz", root / part / f"sub-{number:02}.nii.gz")
    catalog.add(hospital, "brains", root, "nifti-pairs")
    offered(hospital, tmp_path, dataset="brains", needs='kind="volumes"', values=VOXELS)
    rung = Ladder(hospital, "heart").preflight()
    assert not rung.go
    assert "hold the same image; exclude one of them" in findings(rung, Sign.MEND)["duplicates"]


def test_preflight_names_what_the_dataset_the_policy_and_the_settings_do_not_give(
    hospital: SiteState, tmp_path: Path
) -> None:
    catalog.add(hospital, "table", table(tmp_path / "rows"), "npz")
    offered(hospital, tmp_path, needs='kind="arrays", minimum_subjects=50', rounds=20_000)
    rung = Ladder(hospital, "heart").preflight()
    said = findings(rung, Sign.MEND)
    assert said["at least 50 subjects"] == "not met: it has 6"
    assert "20000 rounds" in said["this site's rules"] or "rounds" in said["this site's rules"]


def test_a_cohort_larger_than_the_cache_is_known_before_it_is_prepared(hospital: SiteState, tmp_path: Path) -> None:
    hospital.settings = hospital.settings.model_copy(update={"cache_mb": 0})
    catalog.add(hospital, "table", table(tmp_path / "rows"), "npz")
    offered(hospital, tmp_path)
    said = findings(Ladder(hospital, "heart").preflight(), Sign.MEND)
    assert "cache_mb in site.toml allows 0; raise it" in said["disk"]


def test_the_local_step_needs_the_approval_or_a_word_that_is_journaled(with_table: SiteState, tmp_path: Path) -> None:
    offered(with_table, tmp_path)
    with pytest.raises(Refused, match="add --i-have-read-the-plan"):
        climb(Ladder(with_table, "heart"), Step.LOCAL)
    assert "checked" not in kinds(with_table)
    rungs = climb(Ladder(with_table, "heart"), Step.LOCAL, plan_was_read=True, passes=2)
    assert [(rung.step, rung.go) for rung in rungs] == [(step, True) for step in Step]
    assert kinds(with_table).count("plan-read-for-a-check") == 1
    assert "worker-started" not in kinds(with_table)


def test_the_local_step_shows_the_metrics_of_this_site_alone(with_table: SiteState, tmp_path: Path) -> None:
    offered(with_table, tmp_path)
    approvals.approve(with_table, "heart")
    rung = climb(Ladder(with_table, "heart"), Step.LOCAL, passes=9)[-1]
    assert rung.go and "plan-read-for-a-check" not in kinds(with_table)
    x = np.load(tmp_path / "data/table.npz")["x"].mean(1)
    before, after = rung.figures["distance_before"], rung.figures["distance"]
    assert abs(before - 100) < 3 and abs(after - 12.5) < 3, "three passes, as many as the job has rounds"
    assert findings(rung, Sign.GO)["training"] == f"3 passes over {len(x) - 1} samples"


@pytest.mark.parametrize("approved", [True, False], ids=["approved", "read"])
@pytest.mark.parametrize("listed", [True, False], ids=["by-list", "by-command"])
def test_the_local_step_trains_on_nobody_who_withdrew_while_it_prepared(
    with_table: SiteState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, approved: bool, listed: bool
) -> None:
    offered(with_table, tmp_path)
    cohort = cohorts.freeze(with_table, catalog.dataset(with_table, "table")).cohort
    gone, prepare = cohort.training[0], preparing.prepared
    if approved:
        approvals.approve(with_table, "heart")

    async def overtaken(site: SiteState, root: Path, asked: Cohort) -> Prepared:
        found = await prepare(site, root, asked)
        if gone in asked.subjects and listed:
            (site.folder / OPT_OUT).write_text(f"{gone}\n")
        elif gone in asked.subjects:
            withdraw(site, [Optant(gone)])
        return found

    monkeypatch.setattr(preparing, "prepared", overtaken)
    rung = asyncio.run(Ladder(with_table, "heart").local(2, plan_was_read=True))
    assert rung.go, rung
    assert findings(rung, Sign.GO)["training"] == "2 passes over 4 samples"
    for thread in threading.enumerate():
        if thread.name == "forget-withdrawn":
            thread.join()
    (sample,) = (one for one in cohort.samples if one.subject == gone)
    left = [key for path in (with_table.folder / "prepared" / "rows").iterdir() for key in keys_in(path)]
    assert len(left) == 5 and not [key for key in left if key.startswith(sample.hash.partition(":")[2])]


def test_the_local_step_ends_when_the_approval_is_revoked_while_it_prepared(
    with_table: SiteState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered(with_table, tmp_path)
    approvals.approve(with_table, "heart")
    prepare = preparing.prepared

    async def overtaken(site: SiteState, root: Path, asked: Cohort) -> Prepared:
        approvals.revoke(site, "heart")
        return await prepare(site, root, asked)

    monkeypatch.setattr(preparing, "prepared", overtaken)
    rung = asyncio.run(Ladder(with_table, "heart").local(plan_was_read=True))
    assert "was revoked by this site" in findings(rung, Sign.MEND)["experiment heart"]


@pytest.mark.parametrize("ended_by", ["withdrawal", "revocation"])
def test_the_local_step_ends_when_it_may_not_go_on(
    with_table: SiteState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended_by: str
) -> None:
    offered(with_table, tmp_path)
    approvals.approve(with_table, "heart")
    train, workers = Rehearsal.train, []

    async def overtaken(run: Rehearsal, *terms: Any, **more: Any) -> Outcome:
        workers.append(Path(f"/proc/{run.worker.main}"))
        assert workers[0].exists()
        if ended_by == "revocation":
            approvals.revoke(with_table, "heart")
        else:
            cohort = cohorts.freeze(with_table, catalog.dataset(with_table, "table")).cohort
            withdraw(with_table, [Optant(cohort.training[0])])
        await asyncio.Event().wait()
        return await train(run, *terms, **more)

    monkeypatch.setattr(Rehearsal, "train", overtaken)
    rung = asyncio.run(Ladder(with_table, "heart").local())
    said = " ".join(findings(rung, Sign.MEND).values())
    assert ("was revoked by this site" if ended_by == "revocation" else "has withdrawn; run it again") in said
    assert "training" not in findings(rung, Sign.GO)
    assert not workers[0].exists()


def test_a_plan_not_fetched_yet_is_said(with_table: SiteState, tmp_path: Path) -> None:
    offered(with_table, tmp_path)
    with_table.blobs.sweep(())
    with pytest.raises(NotFound, match="start the agent, which fetches it"):
        Ladder(with_table, "heart")


def test_the_command_prints_each_step_and_its_exit_code_says_whether_to_go_on(
    with_table: SiteState, tmp_path: Path
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
    assert job_hash(approvals.offered(with_table, "heart").job)
