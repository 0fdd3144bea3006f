"""Checks of volumes: masks, label values, orientation, and outliers in grid, intensity and label volume."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from archipel.data.cohorts import DataMapping, stretched
from archipel.data.quality.cohort_checks import named
from archipel.data.quality.evidence import Evidence, VolumeFacts
from archipel.data.quality.figures import number
from archipel.data.quality.outliers import THRESHOLD, outliers, ratio_outliers
from archipel.data.quality.records import Code, Finding, Severity
from archipel.data.samples import LABEL, Sample

Volumes = Sequence[tuple[Sample, VolumeFacts]]

SPACING_FLOOR, SHAPE_FLOOR, LABEL_FLOOR = 0.02, 0.05, 0.05
"""Shares by which these differ normally; an outlier is THRESHOLD times as far off."""
INTENSITY_FLOOR = 0.02
"""The same for intensities, as a share of the usual range between percentiles 1 and 99."""


def volumes_by_role(evidence: Evidence) -> dict[str, list[tuple[Sample, VolumeFacts]]]:
    """The samples with their volume in each role, modalities first."""
    found: dict[str, list[tuple[Sample, VolumeFacts]]] = defaultdict(list)
    for sample in evidence.scan.samples:
        for role, volume in evidence.volumes.get(sample.key, {}).items():
            found[role].append((sample, volume))
    return dict(sorted(found.items(), key=lambda item: (item[0] == LABEL, item[0])))


def mapped_labels(volume: VolumeFacts, mapping: DataMapping) -> dict[int, int]:
    """Voxels of each label value other than 0, as plans get the values."""
    counts: dict[int, int] = {}
    for stored, voxels in volume.label_voxels.items():
        value = mapping.label_value(int(stored))
        counts[value] = counts.get(value, 0) + voxels
    return {value: counts[value] for value in sorted(counts) if value}


def constant_images(role: str, held: Volumes) -> Iterator[Finding]:
    """Images with one value everywhere."""
    blank = [sample for sample, volume in held if volume.minimum == volume.maximum]
    if blank:
        yield Finding(
            code="constant-image",
            severity=Severity.ERROR,
            what=f"{role}: every voxel has the same value",
            count=len(blank),
            samples=named(blank),
            remedy="export the image again or leave the subject out",
        )


def mask_findings(held: Volumes, mapping: DataMapping) -> Iterator[Finding]:
    """Empty masks, masks that two subjects share, and values that are not declared or not everywhere."""
    values = {sample.key: mapped_labels(volume, mapping) for sample, volume in held}
    yield from _stretched_masks(held, mapping)
    empty = [sample for sample, _ in held if not values[sample.key]]
    if empty:
        yield Finding(
            code="empty-mask",
            severity=Severity.WARNING,
            what="label volumes that hold background only",
            count=len(empty),
            samples=named(empty),
            remedy="draw the label, leave the subject out, or leave it if there is nothing to draw in this patient",
        )
    yield from _shared_masks([(sample, volume) for sample, volume in held if values[sample.key]])
    declared = {int(value) for value in mapping.label_names}
    present = {value for own in values.values() for value in own}
    if declared:
        strange = sorted(present - declared)
        if strange:
            concerned = [sample for sample, _ in held if values[sample.key].keys() & set(strange)]
            yield Finding(
                code="undeclared-label",
                severity=Severity.ERROR,
                what=f"label values outside the declared set ({_listed(sorted(declared))}): {_listed(strange)}",
                count=len(strange),
                samples=named(concerned),
                remedy="name them (label_names), map them to a declared value (labels) or drop them "
                "(drop_other_labels) in the dataset's mapping",
            )
        absent = sorted(declared - present - {0})
        if absent:
            words = ", ".join(f"{value} {mapping.label_names[str(value)]}" for value in absent)
            yield Finding(
                code="absent-label",
                severity=Severity.WARNING,
                what=f"declared labels that no sample has: {words}",
                count=len(absent),
                remedy="check the mapping's label values, or do not declare them",
            )
    yield from _labels_of_some(held, {key: set(own) for key, own in values.items() if own}, present)


def _stretched_masks(held: Volumes, mapping: DataMapping) -> Iterator[Finding]:
    """Masks that were saved as pictures, which have 255 where a label would be 1; a mapping that names it knows."""
    meant = {
        str(stored): label
        for stored, label in stretched(int(value) for _, volume in held for value in volume.label_voxels).items()
    }
    if not meant or mapping.drop_other_labels or meant.keys() & (mapping.labels.keys() | mapping.label_names.keys()):
        return
    concerned = [sample for sample, volume in held if volume.label_voxels.keys() & meant.keys()]
    yield Finding(
        code="stretched-mask",
        severity=Severity.WARNING,
        what=f"masks hold 0, {', '.join(meant)}, as pictures do, in the place of {_listed([0, *meant.values()])}",
        count=len(concerned),
        samples=named(concerned),
        remedy=f"if 255 is white, write {', '.join(f'{value} = {label}' for value, label in meant.items())} under "
        "[labels] in the dataset's mapping",
    )


def _shared_masks(held: Volumes) -> Iterator[Finding]:
    holders: dict[tuple[str, tuple[int, ...]], list[Sample]] = defaultdict(list)
    for sample, volume in held:
        holders[volume.voxels, volume.shape].append(sample)
    shared = [samples for samples in holders.values() if len({sample.subject for sample in samples}) > 1]
    if shared:
        words = "; ".join(" = ".join(named(samples)) for samples in shared[:5])
        yield Finding(
            code="duplicate-mask",
            severity=Severity.WARNING,
            what=f"the same mask, voxel for voxel, in several subjects: {words}",
            count=len(shared),
            samples=named([sample for samples in shared for sample in samples]),
            remedy="find out whose mask it is; a mask copied to another patient does not fit that patient's image",
        )


def _labels_of_some(held: Volumes, values: dict[tuple[str, str], set[int]], present: set[int]) -> Iterator[Finding]:
    """Labels that nearly every mask has and a few lack: a structure forgotten. A rare label is not such a case."""
    lacking = {}
    for value in sorted(present):
        without = [key for key, own in values.items() if value not in own]
        if without and len(without) * 5 <= len(values):
            lacking[value] = set(without)
    if lacking:
        concerned = [sample for sample, _ in held if any(sample.key in keys for keys in lacking.values())]
        yield Finding(
            code="label-missing-in-some",
            severity=Severity.WARNING,
            what="labels that most masks have and a few lack: "
            + ", ".join(f"{value} (in {len(keys)})" for value, keys in list(lacking.items())[:12]),
            count=len(concerned),
            samples=named(concerned),
            remedy="check whether the structure was forgotten in these masks; draw it or leave them out",
        )


def orientation_findings(role: str, held: Volumes, mapping: DataMapping) -> Iterator[Finding]:
    """More than one orientation in a modality that the mapping does not turn to one."""
    codes = Counter(volume.orientation for _, volume in held)
    if len(codes) < 2 or mapping.orientation:
        return
    usual = codes.most_common(1)[0][0]
    words = ", ".join(f"{code} {count}" for code, count in codes.most_common())
    yield Finding(
        code="mixed-orientation",
        severity=Severity.WARNING,
        what=f"{role}: volumes are stored in several orientations ({words})",
        count=len(held) - codes[usual],
        samples=named([sample for sample, volume in held if volume.orientation != usual]),
        remedy='write orientation = "RAS" in the dataset\'s mapping: volumes are turned when read, files stay',
    )


@dataclass(frozen=True)
class Measure:
    """One number a volume has, and how it is compared: by factors, or by differences with a least deviation."""

    code: Code
    what: str
    unit: str
    of: Callable[[VolumeFacts], float]
    remedy: str
    ratio_floor: float | None = None


def _along(name: str, unit: str, code: Code, floor: float, axis: int, remedy: str) -> Measure:
    def of(volume: VolumeFacts) -> float:
        # Grids are compared in one order of axes: another orientation alone does not make a volume an outlier.
        stored = next(place for place, letter in enumerate(volume.orientation) if letter in ("LR", "PA", "IS")[axis])
        return float((volume.spacing if code.startswith("spacing") else volume.shape)[stored])

    side = ("left-right", "front-back", "head-foot")[axis]
    return Measure(code, f"{name} {side}", unit, of, remedy, floor)


_GRID = (
    "check for another sequence or a damaged header; export it again, leave the subject out, or let the plan resample"
)
_INTENSITY = (
    "look at the picture: another sequence, another scanner or a damaged file; leave the subject out if it is not what "
    "the dataset says"
)
GRID_MEASURES = [
    *(_along("spacing", "mm", "spacing-outlier", SPACING_FLOOR, axis, _GRID) for axis in range(3)),
    *(_along("shape", "voxels", "shape-outlier", SHAPE_FLOOR, axis, _GRID) for axis in range(3)),
]
INTENSITY_MEASURES = [
    Measure("intensity-outlier", "median intensity", "", lambda volume: volume.percentiles[1], _INTENSITY),
    Measure("intensity-outlier", "99th percentile", "", lambda volume: volume.percentiles[2], _INTENSITY),
    Measure("intensity-outlier", "mean intensity", "", lambda volume: volume.mean, _INTENSITY),
    Measure("intensity-outlier", "standard deviation", "", lambda volume: volume.spread, _INTENSITY),
]


def outlier_findings(role: str, held: Volumes) -> Iterator[Finding]:
    """Volumes far from the rest of their modality."""
    if role == LABEL:
        return
    sound = [(sample, volume) for sample, volume in held if volume.minimum < volume.maximum]
    if not sound:
        return
    ranges = sorted(volume.percentiles[2] - volume.percentiles[0] for _, volume in sound)
    floor = INTENSITY_FLOOR * ranges[len(ranges) // 2]
    for measures in (GRID_MEASURES[:3], GRID_MEASURES[3:], INTENSITY_MEASURES):
        yield from _far_off(role, sound, measures, floor)


def _far_off(role: str, held: Volumes, measures: Sequence[Measure], floor: float) -> Iterator[Finding]:
    """One finding for measures of one code: a volume that is off in several is named once."""
    concerned: dict[str, list[str]] = defaultdict(list)
    for measure in measures:
        values = [measure.of(volume) for _, volume in held]
        share = measure.ratio_floor
        places = outliers(values, floor) if share is None else ratio_outliers(values, share)
        usual = sorted(values)[len(values) // 2]
        for place in places:
            words = f"{measure.what} {number(values[place])} {measure.unit}".rstrip() + f", usual {number(usual)}"
            concerned[held[place][0].name].append(words)
    if concerned:
        yield Finding(
            code=measures[0].code,
            severity=Severity.WARNING,
            what=f"{role}: far from the other volumes (robust z-score above {THRESHOLD:g}): {_each(concerned)}",
            count=len(concerned),
            samples=tuple(sorted(concerned)),
            remedy=measures[0].remedy,
        )


def label_volume_outliers(held: Volumes, mapping: DataMapping) -> Iterator[Finding]:
    """Structures far larger or smaller than in the other samples."""
    sizes: dict[int, list[tuple[str, float]]] = defaultdict(list)
    for sample, volume in held:
        for value, voxels in mapped_labels(volume, mapping).items():
            sizes[value].append((sample.name, voxels * volume.voxel_ml))
    concerned: dict[str, list[str]] = defaultdict(list)
    for value, known in sorted(sizes.items()):
        millilitres = [size for _, size in known]
        usual = sorted(millilitres)[len(millilitres) // 2]
        for place in ratio_outliers(millilitres, LABEL_FLOOR):
            name = mapping.label_names.get(str(value), "")
            words = f"label {value} {name}".rstrip() + f" {number(known[place][1])} ml, usual {number(usual)}"
            concerned[known[place][0]].append(words)
    if concerned:
        yield Finding(
            code="label-volume-outlier",
            severity=Severity.WARNING,
            what=f"labels far larger or smaller than in the others (robust z-score above {THRESHOLD:g}): "
            + _each(concerned),
            count=len(concerned),
            samples=tuple(sorted(concerned)),
            remedy="check the overlay: a slip of the brush, a missing part, the wrong patient's mask; draw it again",
        )


def _each(concerned: dict[str, list[str]], shown: int = 5) -> str:
    words = [f"{name} ({'; '.join(said[:3])})" for name, said in sorted(concerned.items())[:shown]]
    more = len(concerned) - shown
    return ", ".join(words) + (f" and {more} more" if more > 0 else "")


def _listed(values: Sequence[int], shown: int = 20) -> str:
    more = len(values) - shown
    return ", ".join(map(str, values[:shown])) + (f" and {more} more" if more > 0 else "")
