"""The page's tables of volumes: grids and intensities by modality, label volumes, and each volume by itself."""

from __future__ import annotations

from collections.abc import Sequence

from archipel.data.quality.charts import label_colour
from archipel.data.quality.figures import number
from archipel.data.quality.markup import Html, element, joined, swatch, table
from archipel.data.quality.records import LabelSummary, ModalitySummary, QualityReport, Spread, Tally, VolumeRow
from archipel.data.samples import LABEL

TALLIES = 6
"""Different shapes or spacings of one modality that the page names."""
ROWS = 300
"""Volumes that the page lists one by one."""


def modalities_section(report: QualityReport) -> Html:
    """Grid and intensities of each modality."""
    parts = [part for modality in report.modalities for part in _modality(modality)]
    return joined([element("h2", "Grids and intensities"), *parts]) if parts else Html("")


def _modality(modality: ModalitySummary) -> list[Html]:
    rows: list[Sequence[object]] = [
        (what, _tallies(found), *_spreads(measured))
        for what, found, measured in (
            ("shape (voxels)", modality.shapes, modality.shape),
            ("spacing (mm)", modality.spacings_mm, modality.spacing_mm),
        )
    ]
    rows.append(("orientation", _tallies(modality.orientations), ""))
    parts = [
        element("h3", f"{modality.role} ({modality.samples})"),
        table(["", "found (in how many)", "least to greatest along each stored axis"], rows, "grid"),
    ]
    if modality.intensity:
        spreads = (
            (name, number(found.minimum), number(found.median), number(found.maximum))
            for name, found in modality.intensity.items()
        )
        parts.append(table(["intensity", "least", "median of volumes", "greatest"], spreads))
    return parts


def _tallies(found: Sequence[Tally]) -> str:
    more = len(found) - TALLIES
    words = "; ".join(f"{one.value} ({one.samples})" for one in found[:TALLIES])
    return words + (f"; and {more} others" if more > 0 else "")


def _spreads(found: Sequence[Spread]) -> list[str]:
    ends = ((number(axis.minimum), number(axis.maximum)) for axis in found)
    return [", ".join(" to ".join(dict.fromkeys(pair)) for pair in ends)]


def pictures_section(report: QualityReport) -> Html:
    """The values of the pictures of each class."""
    if not report.picture_values:
        return Html("")
    rows = (
        (
            one.name or "without a class",
            one.mean.count,
            number(one.minimum.minimum),
            *(number(middle.median) for middle in (one.minimum, one.mean, one.maximum)),
            number(one.maximum.maximum),
        )
        for one in report.picture_values[:ROWS]
    )
    head = ["class", "pictures", "least", "median of the least", "of the means", "of the greatest", "greatest"]
    return joined([element("h2", "Values of the pictures"), table(head, rows)])


def labels_section(report: QualityReport) -> Html:
    """Each label value: how often, and how large."""
    if not report.labels:
        return Html("")
    rows = (_label(one) for one in report.labels)
    head = ["label", "name", "samples", "least (ml)", "median (ml)", "greatest (ml)"]
    return joined(
        [
            element("h2", "Labels"),
            element("p", "Values as plans get them, after the dataset's mapping.", kind="soft"),
            table(head, rows),
        ]
    )


def _label(label: LabelSummary) -> Sequence[object]:
    size = label.volume_ml
    sizes = ("", "", "") if size is None else tuple(number(one) for one in (size.minimum, size.median, size.maximum))
    return (swatch(label_colour(int(label.value)), label.value), label.name, label.samples, *sizes)


def volumes_section(report: QualityReport) -> Html:
    """Each volume by itself."""
    if not report.volumes:
        return Html("")
    shown = report.volumes[:ROWS]
    total = len(report.volumes)
    capped = f"The first {ROWS} of {total}; all are in report.json." if len(shown) < total else ""
    labelled = any(row.label_ml for row in shown)
    few = len(report.labels) <= 8
    head = ["sample", "volume", "shape", "spacing (mm)", "axes run to", "1 %, median, 99 %"]
    if labelled:
        head.append("label volumes (ml)" if few else "labels, all together (ml)")
    rows = ((*_volume(row), *([_millilitres(row, few)] if labelled else [])) for row in shown)
    note = element("p", capped, kind="soft") if capped else ""
    return joined([element("h2", "Each volume"), note, table(head, rows)])


def _volume(row: VolumeRow) -> Sequence[object]:
    return (
        row.sample,
        row.role,
        " x ".join(map(str, row.shape)),
        " x ".join(f"{size:.3g}" for size in row.spacing_mm),
        row.orientation,
        ", ".join(number(value) for value in row.intensity_percentiles),
    )


def _millilitres(row: VolumeRow, few: bool) -> str:
    if row.role != LABEL:
        return ""
    if not row.label_ml:
        return "empty"
    if few:
        return ", ".join(f"{value}: {number(size)}" for value, size in row.label_ml.items())
    return f"{len(row.label_ml)} labels, {number(sum(row.label_ml.values()))}"
