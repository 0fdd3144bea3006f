"""The report from its evidence: every check in turn, the tables, and the verdict. Pure: it opens nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from archipel.data.cohorts import DataMapping
from archipel.data.quality import cohort_checks, picture_checks, summaries, value_checks, volume_checks
from archipel.data.quality.cohort_checks import classes_of, tally
from archipel.data.quality.evidence import Evidence, Key
from archipel.data.quality.outliers import THRESHOLD
from archipel.data.quality.records import (
    ColumnReport,
    Counts,
    Finding,
    LabelSummary,
    QualityReport,
    Readiness,
    Severity,
)
from archipel.data.samples import CLASS, LABEL
from archipel.vocabulary import BadInput, Thing

GROUP = "group"
_CLASS_COLUMNS = (CLASS, GROUP, "diagnosis", "target", "label", "outcome")
"""Columns that are taken for the class if none is named, in this order."""
_SEVERITIES = list(Severity)


def build(
    dataset: str,
    layout: str,
    evidence: Evidence,
    mapping: DataMapping,
    *,
    made_at: str,
    class_column: str = "",
    leave_out_faulty: bool = False,
) -> QualityReport:
    """The quality report. ``class_column`` names the column by which columns are compared; "" looks for one.

    ``leave_out_faulty``: the dataset is used without its faulty subjects, so that they do not make it unready.
    Raises BadInput for a class column that the dataset does not have.
    """
    scan = evidence.scan
    column = _class_column(evidence, class_column)
    classes = classes_of(evidence, column)
    columns = summaries.columns(scan.samples, scan.schema.columns, classes)
    by_role = volume_checks.volumes_by_role(evidence)
    findings = sorted(
        _findings(evidence, mapping, columns, classes, column, leave_out_faulty),
        key=lambda finding: _SEVERITIES.index(finding.severity),
    )
    labels: tuple[LabelSummary, ...] = ()
    if by_role.get(LABEL) or (evidence.kind == "volumes" and mapping.label_names):
        names = summaries.label_names(mapping, scan.schema.label_names)
        labels = summaries.labels(by_role.get(LABEL, []), mapping, names)
    return QualityReport(
        dataset=dataset,
        format=layout,
        kind=evidence.kind,
        made_at=made_at,
        verdict=verdict(findings),
        findings=tuple(findings),
        counts=_counts(evidence, classes),
        class_column=column if classes else "",
        modalities=tuple(summaries.modality(role, held) for role, held in by_role.items()),
        labels=labels,
        label_values=_label_values(by_role.get(LABEL, []), mapping),
        columns=columns,
        arrays=scan.schema.arrays,
        picture_values=summaries.picture_values(picture_checks.pictures_by_class(evidence, classes)),
        volumes=summaries.volume_rows(evidence, mapping),
        threshold=THRESHOLD,
    )


def _label_values(held: volume_checks.Volumes, mapping: DataMapping) -> dict[str, int]:
    stored = {int(value) for _, volume in held for value in volume.label_voxels}
    return {str(value): mapping.label_value(value) for value in sorted(stored)}


def verdict(findings: Sequence[Finding]) -> Readiness:
    """Not ready with an error, ready with remarks with a warning, else ready."""
    worst = {finding.severity for finding in findings}
    if Severity.ERROR in worst:
        return Readiness.NOT_READY
    return Readiness.REMARKS if Severity.WARNING in worst else Readiness.READY


def _findings(
    evidence: Evidence,
    mapping: DataMapping,
    columns: Sequence[ColumnReport],
    classes: Mapping[Key, str],
    column: str,
    leave_out_faulty: bool,
) -> Iterator[Finding]:
    scan = evidence.scan
    yield from cohort_checks.scan_findings(scan, leave_out_faulty)
    yield from cohort_checks.size_findings(scan)
    yield from cohort_checks.label_findings(scan)
    yield from cohort_checks.duplicate_images(evidence)
    yield from cohort_checks.duplicate_rows(evidence)
    for role, volumes in volume_checks.volumes_by_role(evidence).items():
        if role == LABEL:
            yield from volume_checks.mask_findings(volumes, mapping)
            yield from volume_checks.label_volume_outliers(volumes, mapping)
        else:
            yield from volume_checks.constant_images(role, volumes)
            yield from volume_checks.orientation_findings(role, volumes, mapping)
            yield from volume_checks.outlier_findings(role, volumes)
    yield from picture_checks.picture_findings(evidence, classes)
    yield from value_checks.missing_values(columns, scan.samples)
    yield from value_checks.constant_columns([one for one in columns if one.name != column], scan.samples)
    yield from value_checks.value_outliers(columns, scan.samples)
    yield from cohort_checks.class_findings(tally(list(classes.values())), column)


def _class_column(evidence: Evidence, asked: str) -> str:
    """The column asked for, or the first known one that has few different values."""
    samples = evidence.scan.samples
    there = dict.fromkeys(name for sample in samples for name in sample.values)
    if any(array.label for array in evidence.arrays.values()):
        there[CLASS] = None
    if asked:
        if samples and asked not in there:
            raise BadInput(
                Thing("column", asked), f"is not in the dataset (there: {', '.join(there) or 'none'})", "name one"
            )
        return asked
    for name in (given for known in _CLASS_COLUMNS for given in there if given.lower() == known):
        if len(set(classes_of(evidence, name).values())) <= max(20, len(samples) // 10):
            return name
    return ""


def _counts(evidence: Evidence, classes: Mapping[Key, str]) -> Counts:
    scan = evidence.scan
    visits = Counter(sample.subject for sample in scan.samples)
    groups = {
        sample.subject: str(value)
        for sample in scan.samples
        for name, value in sample.values.items()
        if name.lower() == GROUP
    }
    sessions = Counter(visits.values())
    return Counts(
        subjects=scan.subjects,
        samples=len(scan.samples),
        left_out=len({problem.subject for problem in scan.errors if problem.subject} - visits.keys()),
        sessions={str(count): sessions[count] for count in sorted(sessions)},
        groups=tally(list(groups.values())),
        classes=tally(list(classes.values())),
    )
