"""What may leave a site only within a sum: further tensors of the update's own file, beside the model's.

Where a job says ``release: sum``, nothing about an update is disclosed outside its file, and each tensor of the file is
something to be added: the model's numbers times the site's weight, and one number each for the weight, the samples, and
the total and the weight of every metric. The server adds the files of all sites and divides by the sum of the weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from archipel.privacy.steps import steps_of
from archipel.vocabulary import BadInput, ErrorCode, Job, MetricSum, Release, TaskKind, TensorSchema, TensorSpec, Thing
from archipel.vocabulary.bounds import EXACT
from archipel.vocabulary.metrics import LARGEST_SUM
from archipel.vocabulary.releases import SUMMED_PREFIX
from archipel.vocabulary.score_histogram import PARTS, ScoreHistogram
from archipel.vocabulary.spread import Spread

SAMPLES, WEIGHT = f"{SUMMED_PREFIX}samples", f"{SUMMED_PREFIX}weight"
_SPREAD = ("spread-sites", "spread-total", "spread-weight", "spread-squares")
_SCORES = "scores-"
_METRIC, _VALIDATION = f"{SUMMED_PREFIX}metric/", f"{SUMMED_PREFIX}validation/"


@dataclass(frozen=True)
class UpdateSums:
    """The fields that add up, of one site or of several: ``weight`` is what the model's numbers were multiplied by."""

    samples: int = 0
    weight: float = 0.0
    metrics: Mapping[str, MetricSum] = field(default_factory=dict)
    validation: Mapping[str, MetricSum] = field(default_factory=dict)


@dataclass(frozen=True)
class Addend:
    """One site's part of a sum: the schema of its file, the weight, and the number of each field by tensor name."""

    schema: TensorSchema
    weight: float
    fields: Mapping[str, float]


def only_sums(job: Job) -> bool:
    """Whether updates of this job may leave a site only within a sum."""
    return job.privacy.release is Release.SUM


def update_schema(job: Job, kind: TaskKind) -> TensorSchema:
    """The tensors of the file that a site sends for a task of this kind; empty if there is nothing to send.

    A weighted tensor is float32 where the model's is at most that wide a float, else float64. Raises BadInput for a
    privacy step that is not known here.
    """
    if not only_sums(job):
        return TensorSchema(tensors=()) if kind is TaskKind.EVALUATE else job.tensors
    model = () if kind is TaskKind.EVALUATE else job.tensors.tensors
    weighted = [spec.model_copy(update={"dtype": _weighted_type(spec)}) for spec in model]
    return TensorSchema.of([*weighted, *(_number(name) for name in field_names(job, kind))])


def field_names(job: Job, kind: TaskKind) -> list[str]:
    """The tensors of ``update_schema`` that hold one number each, of a job whose updates leave only within a sum."""
    found = [_VALIDATION + metric.name for metric in job.validation]
    if kind is not TaskKind.EVALUATE:
        found += [_METRIC + name for name in sorted(declared_metrics(job))]
    sums = [f"{name}/{part}" for name in found for part in ("total", "weight")]
    sums += [f"{_VALIDATION}{metric.name}/{part}" for metric in job.validation if metric.spread for part in _SPREAD]
    sums += [name for metric in job.validation if metric.bins for name in _score_fields(metric.name, metric.bins)]
    return sums if kind is TaskKind.EVALUATE else [SAMPLES, WEIGHT, *sums]


def declared_metrics(job: Job) -> set[str]:
    """The metrics that may come from training: the plan's, and what the job's privacy steps say about themselves."""
    return {metric.name for metric in job.metrics} | {name for step in steps_of(job) for name in step.metrics}


def addend_of(job: Job, kind: TaskKind, own: UpdateSums) -> Addend:
    """One site's fields as they are written into its file.

    Raises BadInput for a metric that the job does not have, and for a number that could not be added up.
    """
    numbers = {SAMPLES: float(own.samples), WEIGHT: own.weight}
    parts = {_METRIC + name: sums for name, sums in own.metrics.items()}
    parts |= {_VALIDATION + name: sums for name, sums in own.validation.items()}
    for name, sums in parts.items():
        numbers |= {f"{name}/total": sums.total, f"{name}/weight": float(sums.weight)}
        if (spread := sums.spread) is not None:
            # Squares about zero, which add up; a float64 has digits enough for those of float32 numbers.
            about_zero = spread.squares + spread.total * spread.total / spread.weight
            values = (float(spread.sites), spread.total, float(spread.weight), about_zero)
            numbers |= {f"{name}/{part}": value for part, value in zip(_SPREAD, values, strict=True)}
        if (scores := sums.scores) is not None:
            counts = [float(scores.sites), *(float(one) for part in PARTS for one in getattr(scores, part))]
            numbers |= dict(zip(_score_fields(name.partition("/")[2], scores.bins), counts, strict=True))
    names = field_names(job, kind)
    unknown = sorted(parts.keys() - {name.removesuffix("/total") for name in names})
    if unknown:
        name = unknown[0].partition("/")[2]
        raise BadInput(Thing("metric", name), "is not in the job", "send the job's", code=ErrorCode.BAD_UPDATE)
    if SAMPLES in names and not (0 < own.samples < EXACT and math.isfinite(own.weight) and own.weight >= 0):
        cause = f"has {own.samples} samples and weight {own.weight}, which cannot be added up"
        raise BadInput("the update", cause, "train on at least one sample", code=ErrorCode.BAD_UPDATE)
    return Addend(update_schema(job, kind), own.weight, {name: numbers.get(name, 0.0) for name in names})


def added_up(job: Job, numbers: Mapping[str, float]) -> UpdateSums:
    """The fields of several sites from the sum of each of their tensors, by name.

    Raises BadInput, which cannot name a site, when a sum is not finite, a weight or a count is negative, nothing was
    counted, or more than can be: one site's part may be any number, and its sum is written down and compared.
    """
    remedy = "ask the sites: a sum does not show whose part is at fault"
    bins = {metric.name: metric.bins for metric in job.validation}
    scores = {field for name, number in bins.items() if number for field in _score_fields(name, number)}
    for name, number in numbers.items():
        counts = (
            name in (SAMPLES, WEIGHT) or name.endswith(("/weight", "-sites", "-weight", "-squares")) or name in scores
        )
        if not math.isfinite(number) or (counts and number < 0):
            cause = f"{name} adds up to {number}"
            raise BadInput("the sum of the updates", cause, remedy, code=ErrorCode.NOT_FINITE)
    if WEIGHT in numbers and not numbers[WEIGHT] > 0:
        raise BadInput("the sum of the updates", "has no weight", remedy, code=ErrorCode.BAD_UPDATE)
    if SAMPLES in numbers and not 1 <= numbers[SAMPLES] < EXACT:
        cause = f"{SAMPLES} adds up to {numbers[SAMPLES]}, which no sites have"
        raise BadInput("the sum of the updates", cause, remedy, code=ErrorCode.BAD_UPDATE)

    def sums(prefix: str, names: set[str]) -> dict[str, MetricSum]:
        summed = {}
        for name in sorted(names):
            total, weight = (numbers.get(f"{prefix}{name}/{part}", 0.0) for part in ("total", "weight"))
            if abs(total) > LARGEST_SUM or weight >= EXACT:
                cause = f"metric {name} adds up to {total} over a weight of {weight}, which no sites have"
                raise BadInput("the sum of the updates", cause, remedy, code=ErrorCode.BAD_UPDATE)
            if weight or total or numbers.get(f"{prefix}{name}/{_SCORES}sites", 0.0):
                spread = _spread_of(name, *(numbers.get(f"{prefix}{name}/{part}", 0.0) for part in _SPREAD))
                scores = _scores_of(name, bins.get(name), numbers) if prefix == _VALIDATION else None
                summed[name] = MetricSum(total=total, weight=round(weight), spread=spread, scores=scores)
        return summed

    return UpdateSums(
        samples=round(numbers.get(SAMPLES, 0.0)),
        weight=numbers.get(WEIGHT, 0.0),
        metrics=sums(_METRIC, declared_metrics(job)),
        validation=sums(_VALIDATION, {metric.name for metric in job.validation}),
    )


def _spread_of(name: str, sites: float, total: float, weight: float, about_zero: float) -> Spread | None:
    if not (sites or total or weight or about_zero):
        return None
    if not (1 <= sites < EXACT and 1 <= weight < EXACT and abs(total) <= LARGEST_SUM):
        cause = f"the spread of metric {name} adds up to {total} over a weight of {weight}, which no sites have"
        remedy = "ask the sites: a sum does not show whose part is at fault"
        raise BadInput("the sum of the updates", cause, remedy, code=ErrorCode.BAD_UPDATE)
    if sites < 2:
        # It would be a single site's own.
        return None
    squares = max(0.0, about_zero - total * total / weight)
    return Spread(total=total, weight=round(weight), squares=squares, sites=round(sites))


def _score_fields(name: str, bins: int) -> list[str]:
    """The tensors of a metric's histogram of scores: over how many sites, then its counts by part and bin."""
    counts = [f"{part}/{bin_}" for part in PARTS for bin_ in range(bins)]
    return [f"{_VALIDATION}{name}/{_SCORES}{one}" for one in ("sites", *counts)]


def _scores_of(name: str, bins: int | None, numbers: Mapping[str, float]) -> ScoreHistogram | None:
    if bins is None:
        return None
    sites, *counts = (numbers.get(field, 0.0) for field in _score_fields(name, bins))
    if sites < 2:
        # None at all, or a single site's own.
        return None
    lists = [counts[place * bins : (place + 1) * bins] for place in range(len(PARTS))]
    try:
        whole = {part: tuple(map(round, one)) for part, one in zip(PARTS, lists, strict=True)}
        return ScoreHistogram(sites=round(sites), **whole)
    except ValidationError as error:
        cause = f"the scores of metric {name} add up to counts that no cases have"
        remedy = "ask the sites: a sum does not show whose part is at fault"
        raise BadInput("the sum of the updates", cause, remedy, code=ErrorCode.BAD_UPDATE) from error


def _number(name: str) -> TensorSpec:
    return TensorSpec(name=name, dtype="float64", shape=())


def _weighted_type(spec: TensorSpec) -> str:
    return "float32" if spec.dtype in ("float32", "float16", "bfloat16") else "float64"
