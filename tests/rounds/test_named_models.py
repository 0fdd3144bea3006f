"""Which models last, as one rule: every name after each kind of stage."""

from __future__ import annotations

import pytest
from scripted_fleet import job

from archipel.rounds import NamedModel, Stage, StageRecord, named_after, named_at_start
from archipel.tensors import blob_hash
from archipel.vocabulary import Job, MetricSum, Selection, TaskKind

ONE, TWO, THREE = (blob_hash(b"%d" % number) for number in range(3))


def of(better: str = "higher") -> Job:
    return job(selection=Selection(metric="accuracy", better=better))


def closed(number: int, reached: float | None, model: str | None = None, **stage: str) -> StageRecord:
    validation = {} if reached is None else {"accuracy": MetricSum(total=4 * reached, weight=4)}
    made = Stage(kind=TaskKind(stage.get("kind", "train")), round=number, about=stage.get("about", ""))
    return StageRecord(
        stage=made, attempt=1, committed=True, seconds=1, contributors=(), sites={}, validation=validation, model=model
    )


def after(job_: Job, *records: StageRecord) -> dict[str, NamedModel]:
    named = named_at_start(job_)
    for record in records:
        named = named_after(job_, named, record, {})
    return named


@pytest.mark.parametrize(("better", "best"), [("higher", (ONE, 1)), ("lower", (TWO, 2))])
def test_a_round_measures_the_model_of_the_round_before(better: str, best: tuple[str, int]) -> None:
    named = after(of(better), closed(1, 0.5, ONE), closed(2, 0.7, TWO), closed(3, 0.4, THREE))
    assert (named["best"].model, named["best"].round) == best
    assert named["last"] == NamedModel(THREE, 3)


def test_an_initial_model_that_nothing_beats_is_the_best_and_stays() -> None:
    job_ = of()
    named = after(job_, closed(1, 0.9, ONE), closed(2, 0.7, TWO))
    assert named["best"].model == named["initial"].model == job_.initial_model
    assert named["best"].round == 0


def test_an_equal_model_is_no_better_and_one_without_a_measure_is_none() -> None:
    named = after(of(), closed(1, 0.5, ONE), closed(2, 0.5, TWO), closed(3, None, THREE))
    assert named["best"].round == 0
    assert "best" not in after(job(), closed(1, 0.5, ONE), closed(2, 0.6, TWO))


def test_the_last_validation_is_of_the_last_model() -> None:
    named = after(of(), closed(1, 0.5, ONE), closed(1, 0.8, kind="evaluate"))
    assert named["last"].model == ONE and named["last"].validation == named["best"].validation
    assert (named["best"].model, named["best"].round) == (ONE, 1)


def test_a_sites_own_model_is_never_the_best() -> None:
    job_ = of()
    named = named_after(job_, after(job_, closed(1, 0.5, ONE)), closed(1, None, kind="local"), {"a": TWO})
    named = named_after(job_, named, closed(1, 0.99, kind="evaluate", about="a"), {})
    assert named["local:a"].model == TWO and named["local:a"].validation is not None
    assert named["local:a"].validation["accuracy"].mean() == pytest.approx(0.99)
    assert named["best"].round == 0
    assert named_after(job_, named, closed(1, 0.99, kind="evaluate", about="ensemble"), {}) == named
