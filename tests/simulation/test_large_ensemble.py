"""An ensemble of more models than fit beside each other is evaluated at a simulated site one model at a time."""

from __future__ import annotations

import asyncio
import tracemalloc
from pathlib import Path

import numpy as np

from archipel.governance import job_hash
from archipel.plans import draft, load
from archipel.rounds import ENSEMBLE, model_path
from archipel.simulation import SiteSpec, scanned_site, site_handler
from archipel.tensors import blob_hash, encode
from archipel.vocabulary import Baselines, RosterEntry, RoundTerms, Task, TaskKey, TaskKind, TrainingPass

COUNT, ELEMENTS = 300, 100_000
PLAN = f"""
import numpy as np
from archipel.plans import Plan, TrainingResult
from archipel.vocabulary import DataNeeds, MetricSpec, MetricSum

class Wide(Plan):
    needs = DataNeeds(kind="arrays", minimum_subjects=1)
    validation = (MetricSpec(name="order", better="lower"),)

    def initial_model(self, seed):
        return {{"w": np.zeros({ELEMENTS})}}

    def prepare(self, training, validation, context):
        pass

    def evaluate(self, models, context):
        total = sum((number + 1) * float(model["w"].mean()) for number, model in enumerate(models))
        return {{"order": MetricSum(total=total, weight=1)}}
"""


async def test_three_hundred_models_take_the_memory_of_a_few(tmp_path: Path) -> None:
    plan = tmp_path / "plan.py"
    plan.write_text(PLAN)
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data" / "table.npz", x=np.ones((9, 1)), y=np.ones(9), subject=[f"p-{n}" for n in range(9)])
    site = scanned_site("site-0", tmp_path / "data", load(plan).needs)
    nobody = "ed25519:" + "0" * 64
    made = draft(
        plan,
        experiment="large",
        roster=[RosterEntry(site=f"site-{n}", identity_key=nobody, dataset="data") for n in range(COUNT)],
        server_key=nobody,
        terms=RoundTerms(rounds=1, quorum=COUNT),
        baselines=Baselines(local=True, ensemble=True),
    )
    models = []
    for number in range(COUNT):
        tensor_file = encode({"w": np.full(ELEMENTS, float(number))})
        models.append(blob_hash(tensor_file))
        model_path(tmp_path, models[-1]).write_bytes(tensor_file)
    handle = site_handler(
        SiteSpec(made.job, made.plan, "site-0", site.data, site.cohort, tmp_path, tmp_path / "site-0"), asyncio.Lock()
    )
    key = TaskKey(experiment="large", round=1, kind=TaskKind.EVALUATE, about=ENSEMBLE)
    passes = (TrainingPass(round=1, arguments=made.job.arguments),)
    task = Task(key=key, job_hash=job_hash(made.job), models=tuple(models), passes=passes)
    tracemalloc.start()
    try:
        update = (await handle(task)).update
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert update.validation["order"].total == sum((number + 1) * number for number in range(COUNT))
    # All at once they are 240 MB.
    assert most < 10 * 8 * ELEMENTS
