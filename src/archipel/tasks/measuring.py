"""What leaves of a metric: a float32 total and a whole weight of no more than the job allows.

It is rounded here, beside the plan, for simulated and for deployed sites alike; and what is disclosed only of enough
patients is left out here where there are fewer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from archipel.plans.runtime import Outcome
from archipel.privacy import Step, smallest_group
from archipel.vocabulary import ArchipelError, ErrorCode, Job, MetricSpec, MetricSum, TaskKind, Thing


def as_they_leave(job: Job, kind: TaskKind, outcome: Outcome, minimum_cell: int) -> Outcome:
    """The outcome with its metrics as they leave the site: those of training only of a task that trains, those of
    validation only of one that measures the model that it was given. How much values differ leaves only where they are
    at least ``minimum_cell`` values of at least as many patients, and scores only in groups of so many.

    Raises ArchipelError, code ``plan-error``, for a metric that the job does not have or that counts more than it may,
    and ``not-finite`` for a total beyond float32.
    """
    trains, measures = kind is not TaskKind.EVALUATE, kind is not TaskKind.LOCAL
    return replace(
        outcome,
        metrics=_bounded(job.metrics if trains else (), outcome.metrics, outcome.samples.training, None),
        validation=_bounded(
            job.validation if measures else (),
            outcome.validation,
            outcome.samples.validation,
            smallest_group(outcome.samples.held_out_patients, minimum_cell),
        ),
    )


def reported(steps: Sequence[Step]) -> dict[str, MetricSum]:
    """What the privacy steps say about themselves, as it leaves: each number of weight 1."""
    found = {name: value for step in steps for name, value in step.report().items()}
    specs = [MetricSpec(name=name, better="lower") for step in steps for name in step.metrics]
    return _bounded(specs, found, samples=1, smallest=None)


def _check_cases(spec: MetricSpec, cases: int, most: int) -> None:
    if cases > most:
        cause = f"has the scores of {cases} of {most} {spec.counts}s"
        raise ArchipelError(Thing("metric", spec.name), cause, "give the score of each once", code=ErrorCode.PLAN_ERROR)


def _bounded(
    specs: Sequence[MetricSpec], found: Mapping[str, MetricSum], samples: int, smallest: int | None
) -> dict[str, MetricSum]:
    """``smallest`` is the fewest values whose spread leaves, and the fewest scores in a group; None for neither."""
    known, leaving = [spec.name for spec in specs], {}
    for name in found:
        if name not in known:
            remedy = f"declare it; the job has {', '.join(known) or 'none'}"
            raise ArchipelError(Thing("metric", name), "is not in the job", remedy, code=ErrorCode.PLAN_ERROR)
    # In the order of the job: another order would tell something too.
    for name, spec in ((spec.name, spec) for spec in specs if spec.name in found):
        value = found[name]
        most = spec.most(samples)
        if value.weight > most:
            raise ArchipelError(
                Thing("metric", name),
                f"counts {value.weight} of {most} {spec.counts}s",
                "give the weight what the metric counts, once each; if that is not samples, declare it: "
                f'MetricSpec(name="{name}", better="{spec.better}", counts="lesion", largest_weight=1000)',
                code=ErrorCode.PLAN_ERROR,
                values={"weight": value.weight, "most": most},
            )
        checked = spec.checked(value)
        if smallest is None or checked.weight < smallest:
            checked = checked.model_copy(update={"spread": None})
        if checked.scores is not None:
            _check_cases(spec, sum(checked.scores.cases), most)
            coarse = None if smallest is None else checked.scores.coarsened(smallest)
            checked = checked.model_copy(update={"scores": coarse})
        leaving[name] = checked.rounded(name)
    return leaving
