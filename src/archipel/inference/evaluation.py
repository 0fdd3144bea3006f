"""Measure a model on local data by its plan's own metrics, as a site measures it in a round.

The plan runs through the same runtime as at a site, so that on a site's validation subjects the numbers are those of
the experiment. Beside them stand those of each subject, and a bootstrap interval over the subjects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from archipel.data import DataMapping, SubjectSet, split, usable, with_declared_columns
from archipel.inference.intervals import Interval, draws, of_sums, of_values
from archipel.inference.local_data import local_site, source_of
from archipel.inference.measuring import Measuring, Sums, defining_module
from archipel.inference.models import OpenedModels, Place, UsedArgument, open_models
from archipel.inference.resampling import RESAMPLES
from archipel.inference.segmentation import Segmenter
from archipel.plans import Plan, is_plan_of
from archipel.plans.base import TORCH_PLANS
from archipel.plans.loading import plan_errors_named
from archipel.vocabulary import ArchipelError, BadInput, DataNeeds, ErrorCode, MetricSum, Thing, Value

if TYPE_CHECKING:
    from pydantic import JsonValue

    from archipel.simulation import SimulatedSite


class Measured(NamedTuple):
    """A metric's value over all subjects, the ends of its 95 % interval, and how much was counted (``weight``), of what
    (``counts``, "sample" by default). The value is None where nothing was counted, the ends where there is no interval.
    """

    value: float | None
    low: float | None
    high: float | None
    weight: int
    counts: str


@dataclass(frozen=True)
class Evaluation:
    """How good a model is on some subjects.

    ``metrics`` by name. ``subjects`` are the values of each subject by its id, over its samples, None where a value is
    not defined: of those metrics that are sums over subjects (an AUC is not). It is empty when they were not asked
    for. ``count`` is the number of subjects, ``samples`` that of samples, ``arguments`` the hyper-parameters that were
    used, each with its source.

    >>> found = Evaluation({"accuracy": Measured(0.8, 0.7, 0.9, 40, "sample")}, {}, count=20, samples=40)
    >>> found.as_document()["metrics"]["accuracy"]["low"]
    0.7
    """

    metrics: Mapping[str, Measured]
    subjects: Mapping[str, Mapping[str, float | None]]
    count: int
    samples: int
    arguments: Mapping[str, UsedArgument] = field(default_factory=dict)

    def as_document(self) -> dict[str, JsonValue]:
        """The same for JSON."""
        return {
            "metrics": {name: dict(one._asdict()) for name, one in self.metrics.items()},
            "subjects": {subject: dict(values) for subject, values in self.subjects.items()},
            "count": self.count,
            "samples": self.samples,
            "arguments": {name: used.value for name, used in self.arguments.items()},
        }


def evaluate(
    model: Place | Sequence[Place],
    data: Place,
    *,
    plan: Place | None = None,
    entry: str | None = None,
    plan_class: str | None = None,
    layout: str | None = None,
    options: Mapping[str, str] | None = None,
    mapping: DataMapping | Place | None = None,
    arguments: Mapping[str, Value] | None = None,
    validation_fraction: float | None = None,
    per_subject: bool = True,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Evaluation:
    """The plan's validation metrics of a downloaded model, or of an ensemble of several, on a dataset.

    ``model`` to ``arguments`` are those of ``archipel.predict``; **the plan is run**. All subjects are measured, or
    with ``validation_fraction`` only those that a site with this fraction holds out of training. ``resamples`` and
    ``seed`` are those of the bootstrap over subjects, 0 resamples for no interval. ``per_subject`` False measures all
    subjects together only: no values of subjects, no intervals.

    >>> import tempfile
    >>> from archipel.tensors import encode
    >>> folder = tempfile.TemporaryDirectory()
    >>> weights = {"bias": np.zeros(1), "steps_taken": np.zeros((), np.int64), "weight": np.ones(8)}
    >>> _ = Path(folder.name, "model.safetensors").write_bytes(encode(weights))
    >>> np.savez(f"{folder.name}/known.npz", x=np.eye(4, 8), y=[1, 1, 1, 0], subject=["p-1", "p-2", "p-3", "p-4"])
    >>> found = evaluate(folder.name, f"{folder.name}/known.npz", plan="examples/tiny_numpy.py")
    >>> found.metrics["accuracy"].value, found.metrics["accuracy"].low, found.subjects["p-4"]
    (0.75, 0.25, {'accuracy': 0.0})

    A plan that segments is also measured by its 95 % Hausdorff distance in mm (``hd95_mm``). Raises BadInput as
    ``archipel.predict`` does, for a plan without validation metrics, and for data without the truth.
    """
    opened = open_models(model, plan, entry=entry, plan_class=plan_class, arguments=arguments)
    if not opened.job.validation:
        cause, remedy = "declares no validation metrics", "declare validation = (MetricSpec(...),) and define evaluate"
        raise BadInput(Thing("plan", type(opened.plan).__name__), cause, remedy, code=ErrorCode.BAD_PLAN)
    for name, number in {"resamples": resamples, "seed": seed}.items():
        if number < 0:
            raise BadInput(Thing.worded(f"{name} {number}"), "is below 0", "give 0 or more")
    if validation_fraction is not None and not 0 < validation_fraction < 1:
        cause, remedy = "is not a share of the subjects", "give a number between 0 and 1, or none for all subjects"
        raise BadInput(Thing.worded(f"validation fraction {validation_fraction:g}"), cause, remedy)
    rules = mapping if isinstance(mapping, DataMapping | None) else Path(mapping)
    site = local_site(str(data), Path(data), opened.plan.needs, layout=layout, options=options, mapping=rules)
    training, validation = _sides(site, opened.plan.needs, validation_fraction)
    if not len(validation):
        remedy = "give a larger validation fraction, or none for all subjects"
        raise BadInput(Thing.folder(data), "has no subject to measure", remedy, code=ErrorCode.BAD_DATA)
    with plan_errors_named(opened.packaged):
        if _measures_volumes(opened.plan):
            return _of_volumes(opened, validation, per_subject, resamples, seed)
        measuring = Measuring(opened, site, training, validation)
        whole = {name: one.rounded(name) for name, one in measuring.whole().items()}
        groups = _places_by_subject(validation)
        parts = {subject: _alone(measuring, subject, places) for subject, places in groups.items() if per_subject}
        again = measuring.of if measuring.is_quick else None
        return _evaluation(opened, whole, parts, groups, again, resamples, seed)


def _measures_volumes(plan: Plan) -> bool:
    """Whether the plan segments and measures as its base does: volume by volume."""
    return is_plan_of(plan, "SegmentationPlan") and defining_module(plan, "evaluate") == TORCH_PLANS["SegmentationPlan"]


def _sides(site: SimulatedSite, needs: DataNeeds, fraction: float | None) -> tuple[SubjectSet, SubjectSet]:
    """What the plan may train on, and what is measured: with a fraction the two sides of a site, else all twice."""
    shown = with_declared_columns(site.cohort, needs)
    source = source_of(site, shown)
    if fraction is None:
        cohort = usable(shown, needs)
        whole = SubjectSet(source, cohort.samples, needs, cohort.mapping)
        return whole, whole
    training, validation = split(source, shown, fraction, needs)
    return training if len(training) else validation, validation


def _places_by_subject(subjects: SubjectSet) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for place, sample in enumerate(subjects.samples):
        found.setdefault(sample.subject, []).append(place)
    return found


def _alone(measuring: Measuring, subject: str, places: Sequence[int]) -> Sums:
    try:
        return measuring.of(places)
    except Exception as error:
        cause = f"cannot be measured alone ({error.cause if isinstance(error, ArchipelError) else error})"
        remedy = "measure all subjects together only (--total-only, in Python per_subject=False)"
        raise BadInput(Thing("subject", subject), cause, remedy) from error


def _of_volumes(
    opened: OpenedModels, validation: SubjectSet, per_subject: bool, resamples: int, seed: int
) -> Evaluation:
    """A plan that segments: each volume is predicted once, for its Dice and its distances, and then forgotten."""
    whole: dict[str, MetricSum] = {}
    parts: dict[str, dict[str, MetricSum]] = {}
    for subject, scores in Segmenter.of(opened.plan, opened.models).scores(validation):
        part = parts.setdefault(subject, {})
        for name, value in scores.items():
            one = MetricSum(total=value or 0.0, weight=0 if value is None else 1)
            whole[name] = whole[name] + one if name in whole else one
            part[name] = part[name] + one if name in part else one
    if not parts:
        raise BadInput("the data", "holds no labelled subject", "name data with images and labels")
    rounded = {name: one.rounded(name) for name, one in whole.items()}
    groups = {subject: places for subject, places in _places_by_subject(validation).items() if subject in parts}
    return _evaluation(opened, rounded, parts if per_subject else {}, groups, None, resamples, seed)


Again = Callable[[Sequence[int]], Sums]


def _evaluation(
    opened: OpenedModels,
    whole: Sums,
    parts: Mapping[str, Sums],
    groups: Mapping[str, Sequence[int]],
    again: Again | None,
    resamples: int,
    seed: int,
) -> Evaluation:
    """From the sums over all samples and those of each subject; ``again`` measures other samples, where it may."""
    counted = {spec.name: spec.counts for spec in opened.job.validation}
    sums = {name for name, total in whole.items() if parts and _adds_up(name, total, parts.values())}
    intervals: dict[str, Interval | None] = {}
    if parts and resamples:
        for name in sums:
            totals, weights = (np.array(one, float) for one in zip(*_pairs(name, parts.values()), strict=True))
            intervals[name] = of_sums(totals, weights, resamples, seed)
        others = [name for name in whole if name not in sums]
        if others and again is not None:
            intervals |= _measured_again(others, list(groups.values()), again, resamples, seed)
    metrics = {}
    for name, total in whole.items():
        low, high = intervals.get(name) or (None, None)
        value = total.mean() if total.weight else None
        metrics[name] = Measured(value, low, high, total.weight, counted.get(name, "sample"))
    subjects = {
        subject: {
            name: part[name].mean() if name in part and part[name].weight else None for name in whole if name in sums
        }
        for subject, part in parts.items()
    }
    return Evaluation(metrics, subjects, len(groups), sum(map(len, groups.values())), opened.used)


def _pairs(name: str, parts: Iterable[Sums]) -> list[tuple[float, int]]:
    nothing = MetricSum(total=0.0, weight=0)
    return [(one.total, one.weight) for one in (part.get(name, nothing) for part in parts)]


def _adds_up(name: str, whole: MetricSum, parts: Iterable[Sums]) -> bool:
    """Whether the metric of all subjects is the sum of theirs: not for an AUC, which compares subjects."""
    pairs = _pairs(name, parts)
    close = np.isclose(sum(total for total, _ in pairs), whole.total, rtol=1e-3, atol=1e-6)
    return bool(close) and sum(weight for _, weight in pairs) == whole.weight


def _measured_again(
    names: Sequence[str], groups: Sequence[Sequence[int]], again: Again, resamples: int, seed: int
) -> dict[str, Interval | None]:
    """Intervals of metrics that compare subjects: the plan measures each draw; a draw without a value is left out."""
    values: dict[str, list[float]] = {name: [] for name in names}
    for some in draws(len(groups), resamples, seed):
        for chosen in some:
            found = again([place for subject in chosen for place in groups[subject]])
            for name in names:
                if name in found and found[name].weight:
                    values[name].append(found[name].mean())
    return {name: of_values(np.array(found), len(groups)) for name, found in values.items()}
