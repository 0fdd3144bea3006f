"""The report's tables: shapes, spacings, orientations, intensities, label volumes, and columns by class."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np

from archipel.data.cohorts import DataMapping
from archipel.data.quality.evidence import Evidence, Key, VolumeFacts
from archipel.data.quality.picture_checks import PicturesHeld
from archipel.data.quality.records import (
    ClassValues,
    ColumnReport,
    Histogram,
    LabelSummary,
    ModalitySummary,
    Spread,
    Tally,
    VolumeRow,
)
from archipel.data.quality.value_checks import is_number
from archipel.data.quality.volume_checks import Volumes, mapped_labels
from archipel.data.samples import LABEL, ColumnSummary, Sample

BINS = 16
NO_CLASS = ""
"""The class of samples that have none."""


def spread(values: Sequence[float]) -> Spread | None:
    """Least, median and greatest; None of no values."""
    if not values:
        return None
    return Spread(
        count=len(values), minimum=float(min(values)), median=float(np.median(values)), maximum=float(max(values))
    )


def modality(role: str, held: Volumes) -> ModalitySummary:
    """One modality's grids and intensities."""
    volumes = [volume for _, volume in held]
    percentiles = {
        name: spread([volume.percentiles[place] for volume in volumes if volume.percentiles])
        for place, name in enumerate(("1 %", "median", "99 %"))
    }
    percentiles["mean"] = spread([volume.mean for volume in volumes if volume.percentiles])
    return ModalitySummary(
        role=role,
        samples=len(volumes),
        shapes=_tallies(" x ".join(map(str, volume.shape)) for volume in volumes),
        spacings_mm=_tallies(" x ".join(f"{size:.3g}" for size in volume.spacing) for volume in volumes),
        orientations=_tallies(volume.orientation for volume in volumes),
        shape=_along_axes([volume.shape for volume in volumes]),
        spacing_mm=_along_axes([volume.spacing for volume in volumes]),
        intensity={name: found for name, found in percentiles.items() if found is not None},
    )


def _along_axes(values: Sequence[Sequence[float]]) -> tuple[Spread, ...]:
    found = (spread(list(axis)) for axis in zip(*values, strict=True))
    return tuple(one for one in found if one is not None)


def _tallies(values: Iterable[str]) -> tuple[Tally, ...]:
    return tuple(Tally(value=value, samples=count) for value, count in Counter(values).most_common())


def label_names(mapping: DataMapping, described: Mapping[str, str]) -> dict[str, str]:
    """Names of label values as plans get them: the mapping's, and where it has none the dataset's own description's."""
    own = {str(mapping.label_value(int(value))): name for value, name in described.items()}
    return own | mapping.label_names


def labels(held: Volumes, mapping: DataMapping, names: Mapping[str, str]) -> tuple[LabelSummary, ...]:
    """Every label value that occurs or is declared in the mapping, as plans get the values."""
    sizes: dict[int, list[float]] = defaultdict(list)
    for _, volume in held:
        for value, voxels in mapped_labels(volume, mapping).items():
            sizes[value].append(voxels * volume.voxel_ml)
    declared = {int(value) for value in mapping.label_names} - {0}
    return tuple(
        LabelSummary(
            value=str(value),
            name=names.get(str(value), ""),
            samples=len(sizes.get(value, ())),
            volume_ml=spread(sizes.get(value, [])),
        )
        for value in sorted(sizes.keys() | declared)
    )


def volume_rows(evidence: Evidence, mapping: DataMapping) -> tuple[VolumeRow, ...]:
    """One row per volume, in the order of samples and, within a sample, of roles."""
    return tuple(
        _row(sample, role, volume, mapping)
        for sample in evidence.scan.samples
        for role, volume in sorted(evidence.volumes.get(sample.key, {}).items())
    )


def _row(sample: Sample, role: str, volume: VolumeFacts, mapping: DataMapping) -> VolumeRow:
    millilitres = {}
    if role == LABEL:
        counts = mapped_labels(volume, mapping)
        millilitres = {str(value): round(voxels * volume.voxel_ml, 4) for value, voxels in counts.items()}
    return VolumeRow(
        sample=sample.name,
        role=role,
        shape=volume.shape,
        spacing_mm=volume.spacing,
        orientation=volume.orientation,
        intensity_percentiles=volume.percentiles,
        label_ml=millilitres,
    )


def columns(
    samples: Sequence[Sample], known: Mapping[str, ColumnSummary], classes: Mapping[Key, str]
) -> tuple[ColumnReport, ...]:
    """Each column of the schema by class, in the schema's order."""
    return tuple(_column(name, samples, found, classes) for name, found in known.items())


def _column(name: str, samples: Sequence[Sample], known: ColumnSummary, classes: Mapping[Key, str]) -> ColumnReport:
    values = [
        (value, classes.get(sample.key, NO_CLASS))
        for sample in samples
        if (value := sample.values.get(name)) is not None
    ]
    numbers = [(float(value), own) for value, own in values if is_number(value)]
    report = ColumnReport(
        name=name,
        type=known.type,
        unit=known.unit,
        missing=len(samples) - len(values),
        missing_codes=known.missing_codes,
    )
    if known.type in ("number", "censored"):
        return report.model_copy(
            update={"spread": spread([value for value, _ in numbers]), "histogram": histogram(numbers)}
        )
    if known.type == "category":
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for value, own in values:
            counts[f"{value:g}" if isinstance(value, float) else str(value)][own] += 1
        return report.model_copy(
            update={"categories": {value: dict(sorted(counts[value].items())) for value in sorted(counts)}}
        )
    return report


def picture_values(by_class: Mapping[str, PicturesHeld]) -> tuple[ClassValues, ...]:
    """The values of the pictures of each class."""
    found = []
    for name, held in by_class.items():
        low = spread([facts.minimum for _, facts in held])
        middle = spread([facts.mean for _, facts in held])
        high = spread([facts.maximum for _, facts in held])
        if low and middle and high:
            found.append(ClassValues(name=name, minimum=low, mean=middle, maximum=high))
    return tuple(found)


def histogram(values: Sequence[tuple[float, str]]) -> Histogram | None:
    """Counts of the numbers in at most BINS equal steps, by class; whole numbers of a small range get a step each."""
    if not values:
        return None
    numbers = np.array([value for value, _ in values])
    low, high = float(numbers.min()), float(numbers.max())
    whole = bool((numbers == np.rint(numbers)).all())
    if low == high:
        edges = np.array([low - 0.5, high + 0.5])
    elif whole and high - low < BINS:
        edges = np.arange(low - 0.5, high + 1)
    else:
        edges = np.linspace(low, high, BINS + 1)
    own = np.array([name for _, name in values])
    counts = {name: np.histogram(numbers[own == name], edges)[0] for name in sorted(set(own.tolist()))}
    assert all(left < right for left, right in pairwise(edges))
    return Histogram(
        edges=tuple(float(edge) for edge in edges),
        counts={name: tuple(int(count) for count in found) for name, found in counts.items()},
    )
