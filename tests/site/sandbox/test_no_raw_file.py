"""A worker sees no file of a dataset: what was prepared before its first line ran is all it has, epoch after epoch."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from archipel.governance import job_hash
from archipel.plans.job_builder import draft
from archipel.site.approval import authorisation, offers
from archipel.site.execution import preparation
from archipel.site.execution.task_store import SiteTaskStore
from archipel.site.execution.training import SandboxTrainer
from archipel.site.sandbox import WorkerTaskFailed
from archipel.site.services import datasets
from archipel.site.state.folder import StateFolder
from archipel.vocabulary import BadInput, ErrorCode, RosterEntry, RoundTerms, Task, TaskKey, TrainingPass, WorkerLimits
from worlds.data_files import write_pairs
from worlds.people import ANNA, approve
from worlds.site import SERVER

pytestmark = pytest.mark.processes

PLAN = '''
import os
import numpy as np
from archipel.plans import Plan, TrainingResult
from archipel.vocabulary import DataNeeds, MetricSpec, MetricSum

class Reads(Plan):
    """Reads every volume in every epoch and reports what it read."""

    needs = DataNeeds(kind="volumes", labels={"1": "a", "2": "b"})
    metrics = (MetricSpec(name="mean", better="lower"), MetricSpec(name="files", better="lower"))

    def initial_model(self, seed):
        return {"w": np.zeros(1)}

    def prepare(self, training, validation, context):
        self.training = training

    def train(self, model, context):
        means = [float(volume.image.mean(dtype=float)) for volume in self.training.volumes()]
        seen = [name for _, _, names in os.walk("/data") for name in names]
        seen.remove("cohort")
        assert b".nii.gz" not in open("/data/cohort", "rb").read()
        assert not any(name.endswith(".nii.gz") for name in seen), seen
        mounted = [line.split()[3] for line in open("/proc/self/mountinfo")]
        assert not any("images" in source or "labels" in source for source in mounted), mounted
        return TrainingResult({
            "mean": MetricSum(total=sum(means), weight=len(means)), "files": MetricSum(total=len(seen), weight=1)})
'''


class Epochs:
    """An approved experiment at a site with volumes."""

    def __init__(self, site: StateFolder, folder: Path, plan: str = PLAN) -> None:
        self.site, self.root = site, write_pairs(folder / "brains", 6)
        datasets.add(site, "brains", self.root, "nifti-pairs", by=ANNA)
        file = folder / "reads.py"
        file.write_text(plan)
        made = draft(
            file,
            experiment="epochs",
            roster=[RosterEntry(site=site.name, identity_key=site.identity.public, dataset="brains")],
            server_key=SERVER.public,
            terms=RoundTerms(rounds=9, quorum=1),
            limits=WorkerLimits(memory_mb=600, wall_s=60),
        )
        self.job, self.hash = made.job, job_hash(made.job)
        for content in made.plan.files.blobs.values():
            site.blobs.put(content)
        offers.record(site, made.job)
        approve(site, "epochs")

        async def fetch(blob: str, window: memoryview) -> None:
            window[:] = made.initial_model

        self.trainer = SandboxTrainer(
            site, SiteTaskStore(site), made.job, lambda: authorisation.authorise(site, "epochs", self.hash), fetch
        )

    async def run(self, round_: int) -> dict[str, float]:
        key = TaskKey(experiment="epochs", round=round_)
        task = Task(key=key, job_hash=self.hash, models=(self.job.initial_model,), passes=(TrainingPass(round=round_),))
        async with self.trainer.run(task) as trained:
            return {name: value.mean() for name, value in trained.outcome.metrics.items()}


@pytest.fixture
async def epochs(hospital: StateFolder, tmp_path: Path) -> AsyncIterator[Epochs]:
    made = Epochs(hospital, tmp_path)
    yield made
    await made.trainer.close()


async def test_training_goes_on_when_every_raw_file_is_gone_after_the_first_epoch(epochs: Epochs) -> None:
    first = await epochs.run(0)
    assert first["files"] == 6
    shutil.rmtree(epochs.root)
    assert await epochs.run(1) == first


async def test_a_new_worker_does_not_start_on_files_that_changed(epochs: Epochs) -> None:
    await epochs.run(0)
    await epochs.trainer.stop()
    with (epochs.root / "images/sub-02.nii.gz").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BadInput, match=r"images/sub-02\.nii\.gz") as refused:
        await epochs.run(1)
    assert refused.value.code is ErrorCode.DATA_CHANGED


async def test_a_cohort_larger_than_the_cache_trains_nothing_and_names_the_setting(epochs: Epochs) -> None:
    epochs.site.settings = epochs.site.settings.model_copy(update={"cache_mb": 0})
    with pytest.raises(BadInput, match=r"raise cache_mb in site\.toml"):
        await epochs.run(0)


async def test_a_plan_is_told_no_path_and_pseudonyms_instead_of_ids(epochs: Epochs) -> None:
    cohort = authorisation.authorise(epochs.site, "epochs", epochs.hash).cohort
    known = {subject: f"p-{number}" for number, subject in enumerate(cohort.subjects)}
    told = preparation.as_disclosed(cohort.model_copy(update={"pseudonyms": known}), 0.2)
    text = told.model_dump_json()
    assert "sub-0" not in text and ".nii.gz" not in text
    assert sorted(told.subjects) == sorted(known.values())
    assert [known[one] for one in cohort.validation or ()] == list(told.validation or ())


async def test_what_was_prepared_of_a_patient_goes_when_the_patient_does(epochs: Epochs) -> None:
    first = await epochs.run(0)
    allowed = epochs.trainer._allowed()
    (gone,) = allowed.cohort.samples[:1]
    smaller = allowed._replace(cohort=allowed.cohort.without([gone.subject]), view="another")
    epochs.trainer._allowed = lambda: smaller
    second = await epochs.run(1)
    assert (first["files"], second["files"]) == (6, 5)
    kept = [path.name for path in (epochs.site.folder / "prepared").glob("*/*.*")]
    assert len(kept) == 5 and not any(name.startswith(gone.hash.partition(":")[2]) for name in kept)


async def test_a_plan_that_writes_into_a_volume_is_told_that_it_is_read_only(
    hospital: StateFolder, tmp_path: Path
) -> None:
    made = Epochs(
        hospital, tmp_path, PLAN.replace("means = [", "next(self.training.volumes()).image[:] = 0; means = [")
    )
    with pytest.raises(WorkerTaskFailed) as failed:
        await made.run(0)
    await made.trainer.close()
    assert failed.value.failure.exception == "ValueError"
    assert "read-only" in failed.value.detail
