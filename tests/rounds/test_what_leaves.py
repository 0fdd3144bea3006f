"""A field that may leave only within a sum is refused at both ends, each field by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scripted_fleet import job

from archipel.governance import job_hash, record_hash
from archipel.plans.runtime import Outcome
from archipel.rounds import check_releases, check_what_leaves
from archipel.rounds.accounting import check_update
from archipel.tasks import Compute, Trained
from archipel.vocabulary import UPDATE_FIELDS, BadInput, MetricSum, Release, Task, TaskKey, TrainingPass, Update

SUMMED = job(privacy={"release": "sum"})
ONE = MetricSum(total=1.0, weight=1.0)


def task_of() -> Task:
    key = TaskKey(experiment=SUMMED.experiment, round=1)
    return Task(key=key, job_hash=job_hash(SUMMED), models=(SUMMED.initial_model,), passes=(TrainingPass(round=1),))


def update_of(**fields: Any) -> Update:
    task = task_of()
    return Update(key=task.key, site="a", task_hash=record_hash(task), **({"samples": 0} | fields))


@pytest.mark.parametrize(
    "filled",
    [{"model": SUMMED.initial_model}, {"samples": 3}, {"metrics": {"loss": ONE}}, {"validation": {"accuracy": ONE}}],
)
def test_each_field_is_refused_by_itself(filled: dict[str, Any]) -> None:
    (field,) = filled
    update = update_of(**filled)
    check_what_leaves(job(), update)
    with pytest.raises(BadInput, match=f"{field} may leave a site only in a sum"):
        check_what_leaves(SUMMED, update)
    with pytest.raises(BadInput, match=f"{field} may leave a site only in a sum"):
        check_update(SUMMED, task_of(), update, "model" in filled)


async def test_a_site_does_not_even_train_for_a_job_of_sums(tmp_path: Path) -> None:
    asked: list[Task] = []

    class Trainer:
        async def run(self, task: Task) -> Trained:
            asked.append(task)
            return Trained(Outcome(1, {}, {}), None, lambda: None)

    with pytest.raises(BadInput, match="leave only in a sum"):
        await Compute(SUMMED, "a", Trainer(), tmp_path)(task_of())
    assert not asked


def test_a_job_says_of_every_field_how_it_leaves() -> None:
    assert {field: SUMMED.release_of(field) for field in UPDATE_FIELDS} == {
        "model": Release.SUM,
        "samples": Release.SUM,
        "metrics": Release.SUM,
        "validation": Release.SUM,
        "seconds": Release.INDIVIDUALLY,
        "failure": Release.INDIVIDUALLY,
    }
    with pytest.raises(KeyError):
        SUMMED.release_of("patients")
    check_releases(job())
