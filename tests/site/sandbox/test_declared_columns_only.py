"""A plan on a table is shown the columns that it declares: no other value, and no name of another column."""

from __future__ import annotations

from pathlib import Path

import pytest

from archipel.governance import job_hash
from archipel.plans.job_builder import draft
from archipel.site.approval import authorisation, offers
from archipel.site.execution.task_store import SiteTaskStore
from archipel.site.execution.training import SandboxTrainer
from archipel.site.services import datasets
from archipel.site.state.folder import StateFolder
from archipel.vocabulary import RosterEntry, RoundTerms, Task, TaskKey, TrainingPass, WorkerLimits
from worlds.people import ANNA, approve
from worlds.site import SERVER

pytestmark = pytest.mark.processes

PLAN = '''
import os
import numpy as np
from archipel.plans import Plan, TrainingResult
from archipel.vocabulary import ColumnNeed, DataNeeds, MetricSpec, MetricSum

class Reads(Plan):
    """Reports what it sees of a table."""

    needs = DataNeeds(kind="table", columns=(ColumnNeed(name="age"),), target=ColumnNeed(name="ill"))
    metrics = (MetricSpec(name="mean", better="lower"), MetricSpec(name="others", better="lower"))

    def initial_model(self, seed):
        return {"w": np.zeros(1)}

    def prepare(self, training, validation, context):
        self.training = training

    def train(self, model, context):
        rows = self.training.table()
        paths = [os.path.join(folder, name) for folder, _, names in os.walk("/data") for name in names]
        held = b"".join(open(path, "rb").read() for path in paths)
        assert b"age" in held
        readings = list(self.training.source.read(self.training.samples))
        names = {name for one in readings for name in one.values} | {
            name for one in self.training.samples for name in (*one.values, *one.missing)}
        words = (b"ward", b"Geneva", b"surgery", b"table.csv")
        others = sum(held.count(word) for word in words) + len(names - {"age", "ill"})
        return TrainingResult({
            "mean": MetricSum(total=float(rows.x.sum()), weight=len(rows.x)),
            "others": MetricSum(total=others, weight=1)})
'''


async def test_a_worker_sees_no_other_column(hospital: StateFolder, tmp_path: Path) -> None:
    root = tmp_path / "heart"
    root.mkdir()
    rows = "".join(
        f"p{number},{40 + number},{number % 2},{'Geneva' if number else ''},surgery\n" for number in range(8)
    )
    (root / "table.csv").write_text(f"id,age,ill,town,ward\n{rows}")
    datasets.add(hospital, "heart", root, "table", by=ANNA)
    file = tmp_path / "reads.py"
    file.write_text(PLAN)
    made = draft(
        file,
        experiment="heart",
        roster=[RosterEntry(site=hospital.name, identity_key=hospital.identity.public, dataset="heart")],
        server_key=SERVER.public,
        terms=RoundTerms(rounds=9, quorum=1),
        limits=WorkerLimits(memory_mb=600, wall_s=60),
        validation_fraction=0.0,
    )
    for content in made.plan.files.blobs.values():
        hospital.blobs.put(content)
    offers.record(hospital, made.job)
    approve(hospital, "heart")
    hashed = job_hash(made.job)

    async def fetch(blob: str, window: memoryview) -> None:
        window[:] = made.initial_model

    trainer = SandboxTrainer(
        hospital, SiteTaskStore(hospital), made.job, lambda: authorisation.authorise(hospital, "heart", hashed), fetch
    )
    try:
        key = TaskKey(experiment="heart", round=1)
        task = Task(key=key, job_hash=hashed, models=(made.job.initial_model,), passes=(TrainingPass(round=1),))
        async with trainer.run(task) as trained:
            metrics = {name: value.mean() for name, value in trained.outcome.metrics.items()}
        assert metrics == {"mean": 43.5, "others": 0.0}
    finally:
        await trainer.stop()
