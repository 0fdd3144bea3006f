"""Jobs, cohorts and tasks for the tests of this room."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from archipel.data import Cohort, scan
from archipel.plans import Plan
from archipel.tensors import blob_hash, encode, schema_of
from archipel.vocabulary import (
    Job,
    PlanReference,
    RosterEntry,
    RoundTerms,
    Task,
    TaskKey,
    TaskKind,
    TrainingPass,
)


def job_for(plan: Plan, *, site: str = "site-a", rounds: int = 3, **changes) -> Job:
    model = plan.initial_model(0)
    terms = {
        "experiment": "test",
        "plan": PlanReference(files={"plan.py": blob_hash(b"")}, entry="plan.py", class_name=type(plan).__name__),
        "initial_model": blob_hash(encode(model)),
        "tensors": schema_of(model),
        "needs": plan.needs,
        "metrics": plan.metrics,
        "validation": plan.validation,
        "parameters": plan.hyper_parameters,
        "arguments": plan.arguments(),
        "optimiser_state": plan.optimiser_state,
        "terms": RoundTerms(rounds=rounds, quorum=1),
        "roster": (RosterEntry(site=site, identity_key="ed25519:" + "0" * 64, dataset="data"),),
        "server_key": "ed25519:" + "1" * 64,
    }
    return Job.model_validate({**terms, **changes})


def task_for(job: Job, kind: TaskKind = TaskKind.TRAIN, round_: int = 0, passes: int = 1) -> Task:
    return Task(
        key=TaskKey(experiment=job.experiment, round=round_, kind=kind),
        job_hash=blob_hash(b"job"),
        models=(job.initial_model,),
        passes=tuple(TrainingPass(round=round_ + n, arguments=job.arguments) for n in range(passes)),
    )


def tensor_file(plan: Plan, seed: int = 0) -> memoryview:
    return memoryview(encode(plan.initial_model(seed)))


def table(root: Path, rows: int = 40, seed: int = 0) -> Cohort:
    numbers = np.random.default_rng(seed)
    x = numbers.normal(size=(rows, 8))
    y = (x @ np.linspace(-1, 1, 8) > 0).astype(np.int64)
    root.mkdir(parents=True, exist_ok=True)
    np.savez(root / "table.npz", x=x, y=y, subject=np.array([f"p-{n:03}" for n in range(rows)]))
    return cohort(root, "npz")


def cohort(root: Path, kind: str) -> Cohort:
    found = scan(kind, root)
    assert found.problems == ()
    return Cohort(dataset="data", format=kind, samples=found.samples)
