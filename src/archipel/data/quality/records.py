"""The quality report as a document: the schema of ``report.json``, and all that the HTML page shows beside pictures.

It names subjects, so it stays at the site.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from archipel.vocabulary import DataKind, Record

Code = Literal[
    "scan",
    "left-out",
    "no-sample",
    "few-subjects",
    "no-label",
    "no-modality",
    "duplicate-across-subjects",
    "duplicate-within-subject",
    "duplicate-with-other-class",
    "duplicate-rows",
    "duplicate-mask",
    "empty-mask",
    "stretched-mask",
    "undeclared-label",
    "absent-label",
    "label-missing-in-some",
    "constant-image",
    "saturated-image",
    "clipped-image",
    "class-range",
    "mixed-orientation",
    "spacing-outlier",
    "shape-outlier",
    "intensity-outlier",
    "label-volume-outlier",
    "missing-values",
    "column-mostly-missing",
    "value-outlier",
    "constant-column",
    "one-class",
    "class-imbalance",
]
"""What was found; each is explained in the documentation, under What the quality report shows."""


class Severity(StrEnum):
    """What a finding means for the dataset."""

    ERROR = "error"
    """Must be fixed, or the subject left out, before a cohort is frozen."""
    WARNING = "warning"
    """A person should check it."""
    NOTE = "note"
    """Good to know; it does not change the verdict."""


class Readiness(StrEnum):
    """The verdict."""

    READY = "ready"
    REMARKS = "ready with remarks"
    NOT_READY = "not ready"


class Finding(Record):
    """One thing the report found. ``code`` is the same for the same kind of finding in every report.

    ``samples`` names every sample concerned (subject, with its session where there is one); ``count`` counts them, or
    the things found where they are not samples.
    """

    code: Code
    severity: Severity
    what: str
    count: int
    samples: tuple[str, ...] = ()
    remedy: str


class Spread(Record):
    """The spread of a measure over samples: number of samples, least, median and greatest."""

    count: int
    minimum: float
    median: float
    maximum: float


class VolumeRow(Record):
    """One volume: shape in voxels, spacing in millimetres along the stored axes, and to where these axes run.

    ``orientation`` has one letter per axis: R, L, A, P, S or I, the direction in which its index grows. Intensities are
    percentiles 1, 50 and 99; both None for labels.
    """

    sample: str
    role: str
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    orientation: str
    intensity_percentiles: tuple[float, ...] = ()
    label_ml: dict[str, float] = {}
    """Volume in millilitres of each label value other than 0, as plans get the values (after the mapping)."""


class Tally(Record):
    """How many samples have each shape, spacing or orientation, the most frequent first."""

    value: str
    samples: int


class ModalitySummary(Record):
    """The volumes of one modality, or of the labels."""

    role: str
    samples: int
    shapes: tuple[Tally, ...]
    spacings_mm: tuple[Tally, ...]
    orientations: tuple[Tally, ...]
    shape: tuple[Spread, ...]
    spacing_mm: tuple[Spread, ...]
    intensity: dict[str, Spread] = {}
    """Percentiles 1, 50 and 99 of each volume's intensities, and their mean, over the samples."""


class LabelSummary(Record):
    """One label value as plans get it: its name, the samples that have it and its volume in those."""

    value: str
    name: str
    samples: int
    volume_ml: Spread | None = None


class Histogram(Record):
    """Counts between ``edges`` (one more than counts), for each class in the order of ``classes`` of the report."""

    edges: tuple[float, ...]
    counts: dict[str, tuple[int, ...]]


class ColumnReport(Record):
    """A column of a table, or a value known beside images.

    ``categories`` counts samples by category, then by class. ``histogram`` is there for numbers.
    """

    name: str
    type: str
    unit: str = ""
    missing: int = 0
    missing_codes: dict[str, int] = {}
    """How often each code stood for a missing value."""
    spread: Spread | None = None
    histogram: Histogram | None = None
    categories: dict[str, dict[str, int]] = {}


class Counts(Record):
    """What there is: patients, samples (one per session), and their distribution."""

    subjects: int
    samples: int
    left_out: int = 0
    """Subjects with errors, who are not among the samples."""
    sessions: dict[str, int] = {}
    """Number of sessions to how many subjects have that many."""
    groups: dict[str, int] = {}
    """Group (as the folders or a column named ``group`` say) to how many subjects are in it."""
    classes: dict[str, int] = {}
    """Class to how many samples have it; empty where there is no class."""


class ClassValues(Record):
    """The values of the pictures of one class ("" where there is none): of each picture the least, the mean and the
    greatest, over the pictures."""

    name: str
    minimum: Spread
    mean: Spread
    maximum: Spread


class QualityReport(Record):
    """The whole report. ``threshold`` is the robust z-score from which a value counts as an outlier."""

    schema_version: Literal[1] = 1
    dataset: str
    format: str
    kind: DataKind
    made_at: str
    verdict: Readiness
    findings: tuple[Finding, ...]
    counts: Counts
    class_column: str = ""
    modalities: tuple[ModalitySummary, ...] = ()
    labels: tuple[LabelSummary, ...] = ()
    label_values: dict[str, int] = {}
    """Each stored label value that occurs to what plans get for it."""
    columns: tuple[ColumnReport, ...] = ()
    arrays: dict[str, str] = {}
    picture_values: tuple[ClassValues, ...] = ()
    volumes: tuple[VolumeRow, ...] = ()
    threshold: Annotated[float, Field(gt=0)]
