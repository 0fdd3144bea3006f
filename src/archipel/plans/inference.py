"""A trained model on new volumes: labels on each image's own grid, and how good they are where the truth is known.

Any ``SegmentationPlan`` works; several models form an ensemble by the mean of their probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from archipel.data import Affine, FloatVolume, LabelVolume, format_named, scan
from archipel.data.volumes import read_image
from archipel.plans.base import Array, Plan
from archipel.plans.surfaces import hausdorff_95
from archipel.tensors import decode
from archipel.vocabulary import BadInput, ErrorCode, Thing

SUFFIX = ".nii.gz"
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


def predict(plan: Plan, models: Models, image: FloatVolume, affine: Affine, *, thing: str = "image") -> LabelVolume:
    """Label values (int16) of ``image`` (float32 ``[X, Y, Z]``) on its own grid.

    Raises BadInput for a plan that does not segment, a model that does not fit it, or a volume of other voxel sizes.
    """
    return _Segmenter.of(plan, models).labels(image, affine, thing)


def predict_path(plan: Plan, models: Models, source: Path, target: Path) -> list[Path]:
    """Segment one ``.nii.gz`` file into the file ``target``, or every one of a folder into the folder ``target``.

    A folder with ``images/`` is read there. Returns the files written; existing ones are replaced. Raises BadInput
    when there is nothing to read.
    """
    if source.is_dir():
        folder = source / "images" if (source / "images").is_dir() else source
        files = sorted(path for path in folder.glob(f"*{SUFFIX}") if not path.name.startswith("."))
        if not files:
            raise BadInput(Thing.file(source), f"holds no *{SUFFIX}", "name a volume or a folder of volumes")
        pairs = [(path, target / path.name) for path in files]
    elif source.is_file():
        pairs = [(source, target / source.name if target.is_dir() else target)]
    else:
        raise BadInput(Thing.file(source), "is not there", "name a volume or a folder of volumes")
    for path in (path for pair in pairs for path in pair):
        if not path.name.endswith(SUFFIX):
            raise BadInput(Thing.file(path.name), f"does not end in {SUFFIX}", "name a compressed NIfTI file")
    segmenter = _Segmenter.of(plan, models)
    for path, out in pairs:
        image, affine = read_image(path)
        _write(segmenter.labels(image, affine, path.name), path, out)
    return [out for _, out in pairs]


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
    """The scores of each subject by its id, their mean, and how many subjects they are."""

    subjects: dict[str, Scores]
    mean: Scores
    count: int


def evaluate_folder(plan: Plan, models: Models, root: Path) -> Evaluation:
    """Compare predictions with the labels under ``root`` (``images/`` and ``labels/``, or one such folder per site).

    A missing distance (one of the two is empty) is None and left out of the mean. Raises BadInput listing every
    problem of the data.
    """
    segmenter = _Segmenter.of(plan, models)
    roots = [root] if (root / "images").is_dir() else sorted(path.parent for path in root.glob("*/images"))
    scans = [(folder, scan("nifti-pairs", folder)) for folder in roots] or [(root, scan("nifti-pairs", root))]
    problems = [str(problem) for _, scan_result in scans for problem in scan_result.errors]
    if problems:
        raise BadInput(
            Thing.folder(root),
            f"has {len(problems)} problems ({'. '.join(problems)})",
            "fix them",
            code=ErrorCode.BAD_DATA,
            values={"problems": len(problems)},
        )
    subjects: dict[str, Scores] = {}
    for folder, scan_result in scans:
        readings = format_named("nifti-pairs").read(folder, scan_result.samples, {})
        for sample, reading in zip(scan_result.samples, readings, strict=True):
            name = sample.name if len(scans) == 1 else f"{folder.name}/{sample.name}"
            image, label, affine = reading.images["image"], reading.label, reading.affine
            if label is not None and affine is not None:
                subjects[name] = segmenter.scores(segmenter.labels(image, affine, name), label, affine)
    return {"subjects": subjects, "mean": _means(list(subjects.values())), "count": len(subjects)}


def _means(rows: list[Scores]) -> Scores:
    means: Scores = {}
    for metric, structures in rows[0].items():
        for structure in structures:
            values = [value for row in rows if (value := row[metric][structure]) is not None]
            means.setdefault(metric, {})[structure] = float(np.mean(values)) if values else None
    return means


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

    def labels(self, image: FloatVolume, affine: Affine, thing: str) -> LabelVolume:
        found: LabelVolume = self.plan.segment(self.networks, thing, image, affine)
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
