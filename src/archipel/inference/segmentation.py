"""Segmented volumes: labels on each image's own grid, and how far their borders are from the truth's.

Any ``SegmentationPlan`` works, of one modality or several; several models form an ensemble by the mean of their
probabilities.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from archipel.data import Affine, DataMapping, FloatVolume, LabelVolume, SubjectSet
from archipel.inference.local_data import local_site, source_of
from archipel.plans import Array, Plan, is_plan_of
from archipel.plans.cases import SUFFIX, cases_in, check_suffix
from archipel.plans.surfaces import hausdorff_95
from archipel.vocabulary import BadInput, DataNeeds, ErrorCode, Thing

if TYPE_CHECKING:
    from archipel.data import Sample

Models = Sequence[Mapping[str, Array]]


def segment(
    plan: Plan, models: Models, images: Mapping[str, FloatVolume], affine: Affine, *, thing: str = "image"
) -> LabelVolume:
    """Label values (int16) of a volume on its own grid; ``images`` are float32 ``[X, Y, Z]`` by the plan's modalities,
    ``image`` where the plan names none.

    Raises BadInput for a plan that does not segment, a model that does not fit it, a modality that is not given, or a
    volume of other voxel sizes.
    """
    return Segmenter.of(plan, models).labels(images, affine, thing)


def segment_cases(plan: Plan, models: Models, source: Path, target: Path) -> list[Path]:
    """Segment one ``.nii.gz`` file into the file ``target``, or every case of a folder into the folder ``target``, as
    ``<case>.nii.gz``.

    A folder with ``images/`` is read there if the plan reads one modality; for several see ``plans/cases.py``. Returns
    the files written; existing ones are replaced. Raises BadInput when there is nothing to read, and before anything is
    written for a case without a modality.
    """
    segmenter = Segmenter.of(plan, models)
    cases = cases_in(source, segmenter.needs.images)
    is_one = source.is_file() and not target.is_dir()
    outputs = [target if is_one else target / f"{case.name}{SUFFIX}" for case in cases]
    for out in outputs:
        check_suffix(out)
    for case, out in zip(cases, outputs, strict=True):
        images, affine = case.read()
        _write_like(segmenter.labels(images, affine, case.name), next(iter(case.files.values())), out)
    return outputs


def segment_dataset(
    plan: Plan,
    models: Models,
    source: Path,
    target: Path,
    *,
    layout: str | None = None,
    options: Mapping[str, str] | None = None,
    mapping: DataMapping | Path | None = None,
) -> list[Path]:
    """Segment every sample of a dataset into the folder ``target``, as ``<subject>_<session>.nii.gz``.

    The dataset is read as a site reads it, its labels are not needed. Returns the files written. Raises BadInput as
    ``local_site`` does.
    """
    segmenter = Segmenter.of(plan, models)
    needs = segmenter.needs.model_copy(update={"labels": {}, "target": None})
    site = local_site(str(source), source, needs, layout=layout, options=options, mapping=mapping)
    cohort = site.cohort
    subjects = SubjectSet(source_of(site, cohort), cohort.samples, needs, cohort.mapping)
    outputs = [_named(target, sample) for sample in cohort.samples]
    if len(set(outputs)) < len(outputs):
        twice = next(out for out in outputs if outputs.count(out) > 1)
        raise BadInput(Thing.file(twice), "would be written for two samples", "rename one of the two subjects")
    for volume, out in zip(subjects.volumes(), outputs, strict=True):
        _write(segmenter.labels(volume.images, volume.affine, volume.id), volume.affine, out)
    return outputs


def _named(folder: Path, sample: Sample) -> Path:
    return folder / f"{sample.name.replace('/', '_').replace(':', '_')}{SUFFIX}"


def _write_like(labels: LabelVolume, like: Path, target: Path) -> None:
    import nibabel

    header = nibabel.load(like).header.copy()
    header.set_data_dtype(np.int16)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0
    target.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(labels, None, header).to_filename(target)


def _write(labels: LabelVolume, affine: Affine, target: Path) -> None:
    import nibabel

    target.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(labels, affine).to_filename(target)


Scores = dict[str, float | None]
"""Dice under the names of the plan's metrics, and distances in mm, ``hd95_mm`` and ``hd95_mm_<label>``; None where one
of the two volumes is empty."""


@dataclass(frozen=True)
class Segmenter:
    """A segmentation plan with its networks, built once for many volumes."""

    plan: Any
    networks: list[Any]

    @classmethod
    def of(cls, plan: Plan, models: Models) -> Segmenter:
        """The plan with these models. Raises BadInput for another kind of plan and for a model that does not fit."""
        if not is_plan_of(plan, "SegmentationPlan"):
            raise BadInput(
                Thing("plan", type(plan).__name__),
                "does not segment volumes",
                "give a plan derived from SegmentationPlan",
                code=ErrorCode.BAD_PLAN,
            )
        if not models:
            raise BadInput("models", "none was given", "name at least one model file")
        return cls(plan, plan.networks(models))  # type: ignore[attr-defined]

    @property
    def needs(self) -> DataNeeds:
        """What the plan reads."""
        found: DataNeeds = self.plan.needs
        return found

    def labels(self, images: Mapping[str, FloatVolume], affine: Affine, thing: str) -> LabelVolume:
        """Label values int16 ``[X, Y, Z]`` on the images' own grid."""
        found: LabelVolume = self.plan.segment(self.networks, thing, images, affine)
        return found

    def scores(self, subjects: SubjectSet) -> Iterator[tuple[str, Scores]]:
        """The scores of each sample that has a label, by its subject, one volume after the other in memory."""
        for sample, volume in zip(subjects.samples, subjects.volumes(), strict=True):
            if volume.label is not None:
                predicted = self.labels(volume.images, volume.affine, volume.id)
                yield sample.subject, self._scores(predicted, volume.label, volume.affine)

    def _scores(self, predicted: LabelVolume, truth: LabelVolume, affine: Affine) -> Scores:
        from archipel.plans.segmentation import dice_scores

        names: dict[int, str] = self.plan.label_names()
        x, y, z = (float(size) for size in np.linalg.norm(affine[:3, :3], axis=0))
        overlaps = dice_scores(predicted, truth, names)
        found: Scores = {"dice" if name == "whole" else f"dice_{name}": value for name, value in overlaps.items()}
        whole = np.isin(predicted, list(names)), np.isin(truth, list(names))
        found["hd95_mm"] = hausdorff_95(*whole, (x, y, z))
        for value, name in names.items():
            found[f"hd95_mm_{name}"] = hausdorff_95(predicted == value, truth == value, (x, y, z))
        return found
