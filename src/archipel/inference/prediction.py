"""Predict with any plan: label volumes of a plan that segments, and one row per sample of every other one."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archipel.data import DataMapping, SubjectSet, usable
from archipel.inference.local_data import WithoutTruth, local_site, source_of
from archipel.inference.models import OpenedModels, Place, UsedArgument, open_models
from archipel.inference.segmentation import segment_cases, segment_dataset
from archipel.inference.unlabelled import unlabelled_site
from archipel.plans import is_plan_of
from archipel.plans.cases import holds_cases
from archipel.plans.loading import plan_errors_named
from archipel.storage import disk_errors_named
from archipel.vocabulary import BadInput, ErrorCode, Thing, Value

KEYS = ("subject", "session", "truth")
"""Columns that a plan does not name."""
_TABLE, _ARRAYS = ".csv", ".npz"


@dataclass(frozen=True)
class Prediction:
    """What models predict of some samples, in the order of subject and session.

    ``subjects`` and ``sessions`` name the ``N`` samples. ``columns`` is what the plan gives: by name, numbers or texts
    ``[N, ...]``. ``truths`` are the targets of the samples where they are known, else None: the names of categories,
    and numbers in the plan's unit. ``files`` are those that were written; of a plan that segments there is nothing
    else. ``arguments`` are the hyper-parameters that were used, each with its source.

    >>> Prediction(("p-1",), ("",), {"risk": np.array([0.2])}, ("ill",)).rows()
    [{'subject': 'p-1', 'session': '', 'risk': 0.2, 'truth': 'ill'}]
    """

    subjects: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    truths: tuple[Value | None, ...] = ()
    files: tuple[Path, ...] = ()
    arguments: Mapping[str, UsedArgument] = field(default_factory=dict)

    def rows(self) -> list[dict[str, object]]:
        """One row per sample: subject, session, the columns, and the truth where one is known; for a DataFrame."""
        known = any(truth is not None for truth in self.truths)
        rows = []
        for place, (subject, session) in enumerate(zip(self.subjects, self.sessions, strict=True)):
            row: dict[str, object] = {"subject": subject, "session": session}
            for name, values in self.columns.items():
                row[name] = values[place].item() if values.ndim == 1 else values[place]
            rows.append(row | ({"truth": self.truths[place]} if known else {}))
        return rows


def predict(
    model: Place | Sequence[Place],
    data: Place,
    out: Place | None = None,
    *,
    plan: Place | None = None,
    entry: str | None = None,
    plan_class: str | None = None,
    layout: str | None = None,
    options: Mapping[str, str] | None = None,
    mapping: DataMapping | Place | None = None,
    arguments: Mapping[str, Value] | None = None,
) -> Prediction:
    """What a downloaded model, or an ensemble of several, predicts of the samples of a dataset.

    ``model`` is a ``.safetensors`` file or a folder with one; ``plan`` is by default the folder beside it, and
    ``entry`` and ``plan_class`` say which class it is where there are several. **The plan is run**: use one that you
    trust. ``data`` is a folder in the format ``layout`` (by default detected) with its ``options`` and ``mapping``, or
    the file of a table. The truth may be missing: a table without the target's column, a folder of pictures, a
    ``.npz`` file without ``y``. ``arguments`` are hyper-parameters, by default those with which the downloaded model
    was trained, and where that is not known those of the plan.

    ``out`` is a ``.csv`` file with one row per sample, or a ``.npz`` file with the columns as arrays, which may have
    any number of dimensions. A plan that segments writes volumes int16 on each image's own grid: it needs ``out``, a
    folder, or a ``.nii.gz`` file for one volume. Its ``data`` may also be a ``.nii.gz`` file or a folder of them.

    >>> import tempfile
    >>> from archipel.tensors import encode
    >>> folder = tempfile.TemporaryDirectory()
    >>> weights = {"bias": np.zeros(1), "steps_taken": np.zeros((), np.int64), "weight": np.ones(8)}
    >>> _ = Path(folder.name, "model.safetensors").write_bytes(encode(weights))
    >>> np.savez(f"{folder.name}/new.npz", x=np.eye(2, 8), subject=["p-1", "p-2"])
    >>> found = predict(folder.name, f"{folder.name}/new.npz", plan="examples/tiny_numpy.py")
    >>> found.subjects, found.columns["chance"].round(2).tolist()
    (('p-1', 'p-2'), [0.73, 0.73])

    Raises BadInput for a model of another plan, a plan that does not say how it predicts, data of another kind, a
    missing modality or column, a truth that is not among the plan's categories, and an ``out`` that cannot hold what
    is predicted.
    """
    opened = open_models(model, plan, entry=entry, plan_class=plan_class, arguments=arguments)
    target = None if out is None else Path(out)
    rules = mapping if isinstance(mapping, DataMapping | None) else Path(mapping)
    if is_plan_of(opened.plan, "SegmentationPlan"):
        return Prediction(
            files=tuple(_segmented(opened, Path(data), target, layout, options, rules)), arguments=opened.used
        )
    if target is not None and target.suffix not in (_TABLE, _ARRAYS):
        cause = f"does not end in {_TABLE} or {_ARRAYS}, and the plan {type(opened.plan).__name__} gives one row per "
        raise BadInput(Thing.file(target), f"{cause}sample", f"name a file such as predictions{_TABLE}")
    needs = opened.plan.needs.model_copy(update={"target": None, "labels": {}})
    site = None
    if needs.kind == "arrays" and layout is None:
        site = unlabelled_site(str(data), Path(data), options or {})
    if site is None:
        site = local_site(str(data), Path(data), needs, layout=layout, options=options, mapping=rules)
    cohort = usable(site.cohort, needs)
    source = WithoutTruth(source_of(site, cohort), opened.plan.needs, cohort.mapping)
    subjects = SubjectSet(source, cohort.samples, opened.plan.needs)
    with plan_errors_named(opened.packaged):
        given = opened.plan.predict(opened.models, subjects, opened.context)
    found = Prediction(
        subjects=tuple(sample.subject for sample in cohort.samples),
        sessions=tuple(sample.session for sample in cohort.samples),
        columns=_checked(type(opened.plan).__name__, given, len(subjects)),
        truths=tuple(source.truths.get(sample.key) for sample in cohort.samples),
        arguments=opened.used,
    )
    return found if target is None else _written(found, target)


def _segmented(
    opened: OpenedModels,
    data: Path,
    out: Path | None,
    layout: str | None,
    options: Mapping[str, str] | None,
    mapping: DataMapping | Path | None,
) -> list[Path]:
    plan, models = opened.plan, opened.models
    if out is None:
        name = type(plan).__name__
        raise BadInput(Thing("plan", name), "gives volumes, and no folder for them is named", "name one (out=...)")
    with plan_errors_named(opened.packaged), disk_errors_named(out):
        if not (layout or options or mapping) and holds_cases(data, plan.needs.images):
            return segment_cases(plan, models, data, out)
        return segment_dataset(plan, models, data, out, layout=layout, options=options, mapping=mapping)


def _checked(plan: str, given: Mapping[str, Any], samples: int) -> dict[str, NDArray[Any]]:
    """The plan's columns as arrays. Raises BadInput for one that has not a row for each sample, or a name of ours."""
    columns = {name: np.asarray(values) for name, values in given.items()}
    remedy = "return columns by name from predict() or predictions(), each with one row per sample"
    for name, values in columns.items():
        rows = len(values) if values.ndim else "no"
        if rows != samples:
            cause = f"has {rows} rows for {samples} samples"
        elif name in KEYS:
            cause = "has the name of a column that every prediction has"
        elif values.dtype.kind not in "biufU":
            cause = f"has values of type {values.dtype}, neither numbers nor texts"
        else:
            continue
        raise BadInput(
            Thing.worded(f"column {name} of plan {plan}", column=name, plan=plan),
            cause,
            remedy,
            code=ErrorCode.BAD_PLAN,
        )
    return columns


def _written(found: Prediction, target: Path) -> Prediction:
    large = next((name for name, values in found.columns.items() if values.ndim > 1), None)
    if target.suffix == _TABLE and large is not None:
        shape = "x".join(map(str, found.columns[large].shape[1:]))
        raise BadInput(
            Thing.file(target),
            f"cannot hold column {large}, which has {shape} numbers per sample",
            f"name a {_ARRAYS} file",
        )
    with disk_errors_named(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix == _ARRAYS:
            _write_arrays(found, target)
        else:
            _write_table(found, target)
    return replace(found, files=(target,))


def _write_table(found: Prediction, target: Path) -> None:
    rows = found.rows()
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["subject", "session", *found.columns])
        writer.writeheader()
        writer.writerows(rows)


def _write_arrays(found: Prediction, target: Path) -> None:
    keys: dict[str, NDArray[Any]] = {"subject": np.array(found.subjects), "session": np.array(found.sessions)}
    if any(truth is not None for truth in found.truths):
        is_text = any(isinstance(truth, str) for truth in found.truths)
        absent: Value = "" if is_text else float("nan")
        keys["truth"] = np.array([absent if truth is None else truth for truth in found.truths])
    np.savez_compressed(target, allow_pickle=False, **keys, **found.columns)
