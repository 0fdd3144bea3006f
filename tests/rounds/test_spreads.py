"""How much a metric differs leaves a site only of enough patients, only where the job asks for it, and adds up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scripted_fleet import job

from archipel.data import SampleCounts
from archipel.governance import job_hash, record_hash
from archipel.plans.runtime import Outcome
from archipel.privacy import UpdateSums, added_up, addend_of, field_names
from archipel.rounds.accounting import check_update, pooled
from archipel.tasks import Compute, Trained
from archipel.vocabulary import (
    ArchipelError,
    BadInput,
    ErrorCode,
    Job,
    MetricSum,
    Task,
    TaskKey,
    TaskKind,
    Update,
)
from archipel.vocabulary.spread import Spread

SPEC = {"name": "accuracy", "better": "higher", "spread": True}
LESIONS = {"name": "recall", "better": "higher", "counts": "lesion", "largest_weight": 100, "spread": True}
JOB = job(validation=[SPEC, LESIONS])
VALUES = [0.1, 0.9, 0.4, 0.8, 0.7, 0.3]


def task(job: Job) -> Task:
    key = TaskKey(experiment=job.experiment, round=1, kind=TaskKind.EVALUATE)
    return Task(key=key, job_hash=job_hash(job), models=(job.initial_model,))


class Measures:
    """Reports what it is given."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome

    @asynccontextmanager
    async def run(self, task: Task) -> AsyncIterator[Trained]:
        yield Trained(self.outcome)


async def measured(folder: Path, values: dict[str, MetricSum], patients: int, job: Job = JOB, cell: int = 5) -> Update:
    outcome = Outcome(SampleCounts(0, 60, patients), {}, values)
    made = await Compute(job, "a", Measures(outcome), folder, minimum_cell=cell)(task(job))
    check_update(job, task(job), made.update, has_file=False)
    return made.update


@pytest.mark.parametrize(
    ("values", "patients", "cell", "leaves"),
    [
        (VALUES, 6, 5, True),
        (VALUES[:5], 5, 5, True),
        (VALUES[:4], 5, 5, False),  # four values of five patients
        (VALUES, 4, 5, False),  # six values of four patients
        (VALUES, 6, 7, False),
        (VALUES[:1], 1, 1, False),  # one value does not differ from itself
        (VALUES[:2], 2, 1, True),
    ],
)
async def test_it_leaves_only_of_enough_values_of_enough_patients(
    tmp_path: Path, values: list[float], patients: int, cell: int, leaves: bool
) -> None:
    update = await measured(tmp_path, {"accuracy": MetricSum.of(values)}, patients, cell=cell)
    found = update.validation["accuracy"]
    assert found.mean() == pytest.approx(np.mean(values), rel=1e-7)
    assert (found.spread is not None) == leaves
    if found.spread is not None:
        assert found.spread.deviation == pytest.approx(np.std(values, ddof=1), rel=1e-6) and found.spread.sites == 1


async def test_many_lesions_of_few_patients_do_not_pass_for_patients(tmp_path: Path) -> None:
    update = await measured(tmp_path, {"recall": MetricSum.of([0.5, 0.25], weights=[40, 30])}, 4)
    assert update.validation["recall"].weight == 70 and update.validation["recall"].spread is None


async def test_what_the_job_does_not_ask_for_stays(tmp_path: Path) -> None:
    update = await measured(tmp_path, {"accuracy": MetricSum.of(VALUES)}, 6, job())
    assert update.validation == {"accuracy": MetricSum(total=sum(VALUES), weight=6).rounded("accuracy")}


async def test_a_plan_that_asks_for_it_and_gives_no_values_is_told(tmp_path: Path) -> None:
    with pytest.raises(ArchipelError, match=r"single values are not known.*MetricSum.of\(values\)") as caught:
        await measured(tmp_path, {"accuracy": MetricSum(total=3.0, weight=6)}, 6)
    assert caught.value.code is ErrorCode.PLAN_ERROR


GOOD = MetricSum.of(VALUES).rounded("accuracy")


def with_spread(**changes: Any) -> MetricSum:
    assert GOOD.spread is not None
    return GOOD.model_copy(update={"spread": GOOD.spread.model_copy(update=changes)})


@pytest.mark.parametrize(
    "value",
    [
        with_spread(sites=2),
        with_spread(weight=5),
        with_spread(total=0.5),
        with_spread(squares=0.1),
        with_spread(squares=-0.0),
        MetricSum.of([0.5]).rounded("accuracy"),
    ],
    ids=["two sites", "other weight", "other total", "digits beyond float32", "a signed zero", "of one value"],
)
def test_a_server_takes_no_spread_that_a_site_would_not_send(value: MetricSum) -> None:
    doing = task(JOB)
    update = Update(key=doing.key, site="a", task_hash=record_hash(doing), samples=60, validation={"accuracy": GOOD})
    check_update(JOB, doing, update, has_file=False)
    with pytest.raises(BadInput, match="metric accuracy"):
        check_update(JOB, doing, update.model_copy(update={"validation": {"accuracy": value}}), has_file=False)


def test_a_server_takes_no_spread_that_the_job_does_not_ask_for() -> None:
    doing = task(job())
    update = Update(key=doing.key, site="a", task_hash=record_hash(doing), samples=60, validation={"accuracy": GOOD})
    with pytest.raises(BadInput, match="says how much it differs, which the job does not ask for"):
        check_update(job(), doing, update, has_file=False)


def test_over_sites_it_says_over_how_many_values_and_sites_it_is() -> None:
    few = MetricSum(total=1.5, weight=3)
    together = pooled([{"accuracy": GOOD}, {"accuracy": few}, {"accuracy": GOOD}])["accuracy"]
    assert (together.weight, together.spread and together.spread.weight) == (15, 12)
    assert together.spread is not None and together.spread.sites == 2
    assert together.spread.deviation == pytest.approx(np.std(VALUES * 2, ddof=1), rel=1e-6)


# Only within a sum


SUMMED = job(validation=[SPEC], privacy={"release": "sum"})


def added(parts: list[MetricSum], job: Job = SUMMED, metric: str = "accuracy") -> MetricSum:
    """What a server gets of the sites' files: one float64 number for each field, added up."""
    addends = [addend_of(job, TaskKind.EVALUATE, UpdateSums(validation={metric: one})) for one in parts]
    names = field_names(job, TaskKind.EVALUATE)
    return added_up(job, {name: sum(one.fields[name] for one in addends) for name in names}).validation[metric]


@pytest.mark.parametrize("deviation", [0.2, 1e-4])
def test_within_a_sum_it_is_the_same_as_from_each_site(deviation: float) -> None:
    draw = np.random.default_rng(5)
    parts = [MetricSum.of(1 + deviation * draw.standard_normal(n)).rounded("accuracy") for n in (6, 9, 30)]
    few = MetricSum(total=2.0, weight=2)
    each, within = pooled([{"accuracy": one} for one in (*parts, few)])["accuracy"], added([*parts, few])
    assert each.spread is not None and within.spread is not None
    assert within.spread.deviation == pytest.approx(each.spread.deviation, rel=1e-6)
    assert within.model_copy(update={"spread": None}) == each.model_copy(update={"spread": None})
    assert (within.spread.weight, within.spread.sites) == (45, 3)


def test_a_sum_over_a_single_site_says_nothing_of_it() -> None:
    assert added([GOOD, MetricSum(total=2.0, weight=2)]).spread is None
    assert added([MetricSum(total=1.0, weight=2), MetricSum(total=2.0, weight=2)]).spread is None


@pytest.mark.parametrize(
    ("field", "number"),
    [("spread-weight", -9.0), ("spread-squares", -1.0), ("spread-squares", np.nan), ("spread-sites", 1e17),
     ("spread-total", 1e50)],
)  # fmt: skip
def test_a_bad_part_of_a_spread_fails_the_sum(field: str, number: float) -> None:
    addend = addend_of(SUMMED, TaskKind.EVALUATE, UpdateSums(validation={"accuracy": GOOD}))
    numbers = {name: 2 * value for name, value in addend.fields.items()}
    assert added_up(SUMMED, numbers).validation["accuracy"].spread is not None
    with pytest.raises(BadInput, match="the sum of the updates"):
        added_up(SUMMED, numbers | {f"#validation/accuracy/{field}": number})


def test_squares_that_cancel_are_zero_and_never_negative() -> None:
    parts = [MetricSum.of([0.1] * n).rounded("accuracy") for n in (7, 11, 13)]
    within = added(parts).spread
    assert within is not None and 0 <= within.squares < 1e-12


# Scores


AUC = {"name": "auc", "better": "higher", "bins": 16}
WITH_AUC = job(validation=[AUC])
DRAW = np.random.default_rng(11)
TRUE = DRAW.random(60) < 0.4
SCORES = np.clip(0.4 + 0.2 * TRUE + 0.15 * DRAW.standard_normal(60), 0, 1)


def of_scores(places: slice, bins: int = 16) -> MetricSum:
    return MetricSum.of_scores(SCORES[places], TRUE[places], bins)


async def test_scores_leave_in_groups_of_the_smallest_cell_and_the_sites_own_auc_as_any_mean(tmp_path: Path) -> None:
    update = await measured(tmp_path, {"auc": of_scores(slice(60))}, 60, WITH_AUC)
    found = update.validation["auc"]
    assert found.scores is not None and found.scores.cases == (TRUE.sum(), 60 - TRUE.sum())
    counts = [*found.scores.positives_from, *found.scores.negatives_to]
    assert min(count for count in counts if count) >= 5
    assert found.mean() == pytest.approx(of_scores(slice(60)).mean(), rel=1e-7) and found.weight == 60


@pytest.mark.parametrize(("patients", "cell"), [(4, 5), (60, 61), (60, int(TRUE.sum()) + 1)])
async def test_scores_of_few_patients_or_few_cases_of_a_class_stay(tmp_path: Path, patients: int, cell: int) -> None:
    update = await measured(tmp_path, {"auc": of_scores(slice(60))}, patients, WITH_AUC, cell)
    assert update.validation["auc"].scores is None and update.validation["auc"].weight == 60


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (
            MetricSum(total=30.0, weight=60),
            r"scores are not known in so many bins; .*of_scores\(scores, truth, bins=16",
        ),
        (of_scores(slice(60), bins=8), "scores are not known in so many bins"),
        (of_scores(slice(60)) + of_scores(slice(60)), "has 120 of 60 samples|scores of 120 of 60|counts 120 of 60"),
        (
            MetricSum(total=1.0, weight=1, scores=(of_scores(slice(60)) + of_scores(slice(60))).scores),
            "scores of 120 of",
        ),
    ],
    ids=["no scores", "other bins", "twice", "scores twice"],
)
async def test_scores_that_the_job_does_not_ask_for_are_a_plans_error(
    tmp_path: Path, value: MetricSum, words: str
) -> None:
    with pytest.raises(ArchipelError, match=words) as caught:
        await measured(tmp_path, {"auc": value}, 60, WITH_AUC)
    assert caught.value.code is ErrorCode.PLAN_ERROR


def sent(places: slice) -> MetricSum:
    found = of_scores(places).rounded("auc")
    assert found.scores is not None
    return found.model_copy(update={"scores": found.scores.coarsened(5)})


def test_a_server_takes_no_scores_that_a_site_would_not_send() -> None:
    doing = task(WITH_AUC)
    update = Update(
        key=doing.key, site="a", task_hash=record_hash(doing), samples=60, validation={"auc": sent(slice(60))}
    )
    check_update(WITH_AUC, doing, update, has_file=False)
    good = sent(slice(60)).scores
    assert good is not None
    none = (0,) * 16
    overlapping = {"positives_from": (5, 5, *none[2:]), "positives_to": (0, 0, 0, 10, *none[4:])}
    for scores in (
        good.model_copy(update={"sites": 2}),
        good.model_copy(update=overlapping),
        good + good,
        of_scores(slice(60), bins=8).scores,
        good.model_copy(
            update=dict.fromkeys(("positives_from", "positives_to", "negatives_from", "negatives_to"), none)
        ),
        good.model_copy(update={"positives_from": (80, *none[1:]), "positives_to": (80, *none[1:])}),
    ):
        bad = sent(slice(60)).model_copy(update={"scores": scores})
        with pytest.raises(BadInput, match="metric auc has scores that no site sends"):
            check_update(WITH_AUC, doing, update.model_copy(update={"validation": {"auc": bad}}), has_file=False)


def test_the_pooled_auc_is_not_the_mean_of_the_sites_and_is_the_same_within_a_sum() -> None:
    parts = [sent(slice(0, 20)), sent(slice(20, 60))]
    each = pooled([{"auc": one} for one in parts])["auc"]
    within = added(parts, job(validation=[AUC], privacy={"release": "sum"}), "auc")
    assert within == each and each.scores is not None
    assert each.mean() == pytest.approx((20 * parts[0].mean() + 40 * parts[1].mean()) / 60)
    low, high = each.scores.bounds()
    ill, well = SCORES[TRUE], SCORES[~TRUE]
    assert low <= float((ill[:, None] > well).mean()) <= high and each.scores.sites == 2


def test_scores_of_a_single_site_are_not_kept_of_a_sum_and_bad_ones_fail_it() -> None:
    summed = job(validation=[AUC], privacy={"release": "sum"})
    few = MetricSum(total=3.0, weight=4)
    assert added([sent(slice(60)), few], summed, "auc").scores is None
    addend = addend_of(summed, TaskKind.EVALUATE, UpdateSums(validation={"auc": sent(slice(60))}))
    numbers = {name: 2 * value for name, value in addend.fields.items()}
    for field, number in (("positives_from/0", 7.0), ("positives_from/0", -1.0), ("sites", np.inf), ("sites", 1e17)):
        with pytest.raises(BadInput, match="the sum of the updates"):
            added_up(summed, numbers | {f"#validation/auc/scores-{field}": number})


@pytest.mark.parametrize("name", ["scores-gain", "scores-", "scores-positives_from"])
def test_a_metric_named_like_scores_may_be_negative_within_a_sum_and_counts_of_scores_may_not(name: str) -> None:
    gain = {"name": name, "better": "higher"}
    summed = job(metrics=[gain], validation=[gain, AUC], privacy={"release": "sum"})
    numbers = dict.fromkeys(field_names(summed, TaskKind.TRAIN), 1.0)
    for field in ("metric", "validation"):
        numbers |= {f"#{field}/{name}/total": -2.5, f"#{field}/{name}/weight": 4.0}
    for found in (added_up(summed, numbers).metrics[name], added_up(summed, numbers).validation[name]):
        assert found == MetricSum(total=-2.5, weight=4)
    for counted in (
        f"#validation/{name}/weight",
        "#validation/auc/scores-sites",
        "#validation/auc/scores-negatives_to/15",
    ):
        assert counted in numbers
        with pytest.raises(BadInput, match=f"{counted} adds up to -1.0"):
            added_up(summed, numbers | {counted: -1.0})


# Where it is declared


def test_only_what_validation_measures_may_ask_for_it() -> None:
    with pytest.raises(ValidationError, match="only what is measured in validation may have it"):
        job(metrics=[{"name": "loss", "better": "lower", "spread": True}])
    with pytest.raises(ValidationError, match="only what is measured in validation may have it"):
        job(metrics=[{"name": "auc", "better": "higher", "bins": 8}])
    with pytest.raises(ValidationError, match="the metrics have 4352 bins together; the most is 4096"):
        job(validation=[{"name": f"auc{n}", "better": "higher", "bins": 256} for n in range(17)])
    assert job_hash(job()) == job_hash(job(validation=[{"name": "accuracy", "better": "higher", "spread": False}]))
    assert job_hash(job()) != job_hash(JOB)


def test_a_spread_of_sums_is_the_spread_of_all_values() -> None:
    together = Spread.of(VALUES[:2]) + Spread.of(VALUES[2:])
    assert together.deviation == pytest.approx(np.std(VALUES, ddof=1), rel=1e-12)
