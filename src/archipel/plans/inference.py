"""A trained model on new volumes: labels on each image's own grid, and how good they are where the truth is known.

Any ``SegmentationPlan`` works, of one modality or several; several models form an ensemble by the mean of their
probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import numpy as np

from archipel.data import (
    Affine,
    Cohort,
    DataMapping,
    FloatVolume,
    LabelVolume,
    RawSource,
    Sample,
    SubjectSet,
    Volume,
    scan,
)
from archipel.data.formats import guessed, settled
from archipel.plans.base import Array, Plan
from archipel.plans.bootstrap import bootstrap_interval
from archipel.plans.cases import SUFFIX, cases_in, check_suffix
from archipel.plans.surfaces import hausdorff_95
from archipel.tensors import decode
from archipel.vocabulary import BadInput, DataNeeds, ErrorCode, Thing

T = TypeVar("T")
Models = Sequence[Mapping[str, Array]]


def read_models(paths: Sequence[Path]) -> list[dict[str, Array]]:
    """Downloaded models, each a ``.safetensors`` file. Raises BadInput naming a file that is not one."""
    models = []
    for path in paths:
        try:
            models.append(decode(path.read_bytes()))
        except OSError as error:
            raise BadInput(
                Thing("model", path),
                f"cannot be read ({error.strerror})",
                "name a .safetensors file that was downloaded",
            ) from error
        except BadInput as error:
            raise BadInput(Thing("model", path), str(error), "download it again") from error
    return models


def predict(
    plan: Plan, models: Models, images: Mapping[str, FloatVolume], affine: Affine, *, thing: str = "image"
) -> LabelVolume:
    """Label values (int16) of a volume on its own grid; ``images`` are float32 ``[X, Y, Z]`` by the plan's modalities,
    ``image`` where the plan names none.

    Raises BadInput for a plan that does not segment, a model that does not fit it, a modality that is not given, or a
    volume of other voxel sizes.
    """
    return _Segmenter.of(plan, models).labels(images, affine, thing)


def predict_path(plan: Plan, models: Models, source: Path, target: Path) -> list[Path]:
    """Segment one ``.nii.gz`` file into the file ``target``, or every case of a folder into the folder ``target``, as
    ``<case>.nii.gz``.

    A folder with ``images/`` is read there if the plan reads one modality; for several see ``cases``. Returns the
    files written; existing ones are replaced. Raises BadInput when there is nothing to read, and before anything is
    written for a case without a modality.
    """
    segmenter = _Segmenter.of(plan, models)
    cases = cases_in(source, segmenter.needs.images)
    is_one = source.is_file() and not target.is_dir()
    outputs = [target if is_one else target / f"{case.name}{SUFFIX}" for case in cases]
    for out in outputs:
        check_suffix(out)
    for case, out in zip(cases, outputs, strict=True):
        images, affine = case.read()
        like = next(iter(case.files.values()))
        _write(segmenter.labels(images, affine, case.name), like, out)
    return outputs


def _write(labels: LabelVolume, like: Path, target: Path) -> None:
    import nibabel

    header = nibabel.load(like).header.copy()
    header.set_data_dtype(np.int16)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0
    target.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(labels, None, header).to_filename(target)


Scores = dict[str, dict[str, float | None]]
"""By metric, ``dice`` and ``hd95_mm``, and by name of structure: ``whole`` and every label."""


class Evaluation(TypedDict):
    """The scores of each subject by its id, their mean, how many subjects they are, and of how many patients.

    ``deviation`` is the sample standard deviation over the subjects, None of a single one; ``interval`` the ends of
    the 95 % interval of the mean, from drawing patients again, None of a single patient.
    """

    subjects: dict[str, Scores]
    mean: Scores
    count: int
    patients: int
    deviation: Scores
    interval: dict[str, dict[str, list[float] | None]]


def evaluate_folder(
    plan: Plan,
    models: Models,
    root: Path,
    *,
    layout: str | None = None,
    options: Mapping[str, str] | None = None,
    mapping: DataMapping | None = None,
) -> Evaluation:
    """Compare predictions with the labels under ``root``: ``images/`` and ``labels/``, one such folder per site, or a
    dataset in the format ``layout`` (by default detected) with its ``options`` and ``mapping``.

    A missing distance (one of the two is empty) is None and left out of the mean. Raises BadInput listing every
    problem of the data, and when no subject has a label.
    """
    segmenter = _Segmenter.of(plan, models)
    subjects: dict[str, Scores] = {}
    patients: list[str] = []
    for name, patient, volume in _volumes(root, segmenter.needs, layout, options or {}, mapping or DataMapping()):
        if volume.label is not None:
            predicted = segmenter.labels(volume.images, volume.affine, name)
            subjects[name] = segmenter.scores(predicted, volume.label, volume.affine)
            patients.append(patient)
    if not subjects:
        raise BadInput(Thing.folder(root), "holds no labelled subject", "name a folder with images and labels")
    rows = list(subjects.values())
    return {
        "subjects": subjects,
        "mean": _over(rows, lambda values, _: float(np.mean(values)) if values else None, patients),
        "count": len(subjects),
        "patients": len(set(patients)),
        "deviation": _over(
            rows, lambda values, _: float(np.std(values, ddof=1)) if len(values) > 1 else None, patients
        ),
        "interval": _over(rows, _interval, patients),
    }


def _volumes(
    root: Path, needs: DataNeeds, layout: str | None, options: Mapping[str, str], mapping: DataMapping
) -> Iterator[tuple[str, str, Volume]]:
    """Each subject's name and its patient's, after its site's where there are several, and its volumes as the plan
    reads them."""
    sites = [] if layout or (root / "images").is_dir() else sorted(path.parent for path in root.glob("*/images"))
    is_pairs = bool(sites) or (root / "images").is_dir() or not root.is_dir()
    found = layout or ("nifti-pairs" if is_pairs else guessed(root, options)[0].format)
    cohorts = [(folder, _cohort(folder, found, options, mapping)) for folder in sites or [root]]
    _check_problems(root, [problem for _, (_, problems) in cohorts for problem in problems])
    for folder, (cohort, _) in cohorts:
        samples = cohort.samples
        for sample, volume in zip(samples, _read(folder, cohort, samples, needs), strict=True):
            site = "" if len(cohorts) == 1 else f"{folder.name}/"
            yield f"{site}{sample.name}", f"{site}{sample.subject}", volume


def _cohort(folder: Path, layout: str, options: Mapping[str, str], mapping: DataMapping) -> tuple[Cohort, list[str]]:
    """A folder's samples, and the sentence of every problem."""
    kept = settled(layout, folder, options) if folder.is_dir() else dict(options)
    found = scan(layout, folder, kept)
    cohort = Cohort(dataset="data", format=layout, options=kept, mapping=mapping, samples=found.samples)
    return cohort, [str(problem) for problem in found.errors]


def _read(folder: Path, cohort: Cohort, samples: Sequence[Sample], needs: DataNeeds) -> Iterator[Volume]:
    images_only = needs.model_copy(update={"target": None})
    yield from SubjectSet(RawSource(folder, cohort), tuple(samples), images_only, cohort.mapping).volumes()


def _check_problems(root: Path, problems: Sequence[str]) -> None:
    if problems:
        raise BadInput(
            Thing.folder(root),
            f"has {len(problems)} problems ({'. '.join(problems)})",
            "fix them",
            code=ErrorCode.BAD_DATA,
            values={"problems": len(problems)},
        )


def _interval(values: list[float], patients: list[str]) -> list[float] | None:
    found = bootstrap_interval(values, patients)
    return None if found is None else list(found)


def _over(
    rows: list[Scores], statistic: Callable[[list[float], list[str]], T], patients: list[str]
) -> dict[str, dict[str, T]]:
    """A statistic of each structure's known values by each metric; it is given the values' patients too."""
    found: dict[str, dict[str, T]] = {}
    for metric, structures in rows[0].items():
        for structure in structures:
            scores = zip((row[metric][structure] for row in rows), patients, strict=True)
            known = [(value, patient) for value, patient in scores if value is not None]
            values, theirs = [value for value, _ in known], [patient for _, patient in known]
            found.setdefault(metric, {})[structure] = statistic(values, theirs)
    return found


@dataclass(frozen=True)
class _Segmenter:
    """A segmentation plan with its networks, built once for many volumes."""

    plan: Any
    networks: list[Any]

    @classmethod
    def of(cls, plan: Plan, models: Models) -> _Segmenter:
        from archipel.plans.segmentation import SegmentationPlan

        if not isinstance(plan, SegmentationPlan):
            raise BadInput(
                Thing("plan", type(plan).__name__),
                "does not segment volumes",
                "predict and evaluate need a plan derived from SegmentationPlan",
                code=ErrorCode.BAD_PLAN,
            )
        if not models:
            raise BadInput("models", "none was given", "name at least one model file")
        return cls(plan, plan.networks(models))

    @property
    def needs(self) -> DataNeeds:
        """What the plan reads."""
        found: DataNeeds = self.plan.needs
        return found

    def labels(self, images: Mapping[str, FloatVolume], affine: Affine, thing: str) -> LabelVolume:
        found: LabelVolume = self.plan.segment(self.networks, thing, images, affine)
        return found

    def scores(self, predicted: LabelVolume, truth: LabelVolume, affine: Affine) -> dict[str, dict[str, float | None]]:
        from archipel.plans.segmentation import dice_scores

        names: dict[int, str] = self.plan.label_names()
        x, y, z = (float(size) for size in np.linalg.norm(affine[:3, :3], axis=0))
        distances: dict[str, float | None] = {
            "whole": hausdorff_95(np.isin(predicted, list(names)), np.isin(truth, list(names)), (x, y, z))
        }
        for value, name in names.items():
            distances[name] = hausdorff_95(predicted == value, truth == value, (x, y, z))
        overlaps: dict[str, float | None] = dict(dice_scores(predicted, truth, names))
        return {"dice": overlaps, "hd95_mm": distances}
