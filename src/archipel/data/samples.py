"""Samples and scans: what a site has, one record per visit of a patient, and everything that is wrong with it.

The subject is the unit: a sample knows whose it is and from which session, so that no split cuts through a patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from archipel.vocabulary import DataKind, Hash, Record, Value

SubjectId = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f/\\]+$")]
Session = Annotated[str, Field(max_length=100, pattern=r"^[^\x00-\x1f\x7f/\\]*$")]
LABEL = "label"
"""The role of a segmentation among a sample's files; every other role is a modality, or ``table``."""
CLASS = "class"
"""The value of a sample that names its class, in every format that knows one."""


def sample_name(subject: str, session: str) -> str:
    """The name of a sample in errors and plans: subject and session, and the session alone where it begins with the
    subject.

    >>> sample_name("sub-01", "ses-pre"), sample_name("OAS2_0001", "OAS2_0001_MR1")
    ('sub-01_ses-pre', 'OAS2_0001_MR1')
    """
    if not session:
        return subject
    return session if session.startswith(f"{subject}_") else f"{subject}_{session}"


class Sample(Record):
    """One session of one patient in a dataset.

    ``files`` maps a role to a path relative to the dataset's root: a modality's name (``image`` where there is only
    one), ``label``, or ``table``. ``row`` is the row in a file of arrays, None for rows found by the sample's key and
    for files of its own. ``values`` are what is known of it beside voxels: its group, age, a diagnosis; ``missing``
    names a table's columns that have no value in its row. ``hash`` covers all of the sample's content, ``file_hashes``
    each file by role, so that a changed file can be named.
    """

    subject: SubjectId
    session: Session = ""
    files: dict[str, str]
    row: int | None = None
    values: dict[str, Value] = {}
    missing: tuple[str, ...] = ()
    channels: dict[str, int] = {}
    """Which channel of a 4-D file a modality is; modalities that have a file each are not named."""
    hash: Hash
    file_hashes: dict[str, Hash] = {}

    @property
    def name(self) -> str:
        """The name of the sample in errors: subject and, if there is one, session."""
        return sample_name(self.subject, self.session)

    @property
    def key(self) -> tuple[str, str]:
        """Subject and session: unique in a dataset, and the order of all lists of samples."""
        return self.subject, self.session


class DataIssue(Record):
    """One thing that is wrong with a dataset: what, why, and how it is fixed.

    ``subject`` is the subject whose data it concerns, "" if it concerns the dataset as a whole. An ``error`` makes the
    sample unusable; a ``warning`` should be checked by a person. After an error that ``spoils_all`` no sample is to be
    trusted: it does not help to leave out faulty subjects. ``label_values`` are values that nothing names, where the
    issue is about these: a mapping that names, maps or drops them settles it.
    """

    thing: str
    cause: str
    remedy: str
    subject: str = ""
    severity: Annotated[str, Field(pattern="^(error|warning)$")] = "error"
    spoils_all: bool = False
    label_values: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.thing}: {self.cause}; {self.remedy}"


class ColumnSummary(Record):
    """A column as the catalog knows it: never a value of one patient, but the categories that occur."""

    type: Annotated[str, Field(pattern="^(number|censored|category|text)$")]
    unit: str = ""
    missing: int = 0
    missing_codes: dict[str, int] = {}
    """How often each code stood for a missing value, impossible zeros among them; an empty field is not a code."""
    categories: dict[str, int] = {}
    """Each category with the number of subjects that have it."""
    chosen_by: str = ""
    """The option of the dataset's format that names the categories to be read, where they are folders."""
    minimum: float | None = None
    maximum: float | None = None
    limits: int = 0
    """How many values of a censored column are limits: what is known is that the value is below or above."""


class FoundValues(Record):
    """The least and the greatest value of an input in all samples, and the narrowest range of a sample where samples
    were measured one by one. It does not say whose they are."""

    minimum: float
    maximum: float
    narrowest: tuple[float, float] | None = None

    def joined(self, other: FoundValues | None) -> FoundValues:
        """Those of both."""
        if other is None:
            return self
        narrow = [one.narrowest for one in (other, self) if one.narrowest is not None]
        return FoundValues(
            minimum=min(self.minimum, other.minimum),
            maximum=max(self.maximum, other.maximum),
            narrowest=min(narrow, key=lambda ends: ends[1] - ends[0], default=None),
        )


class Gap(Record):
    """Columns that are missing together, and in how many samples exactly these are."""

    columns: tuple[str, ...]
    samples: int


class DataSchema(Record):
    """What a dataset holds, counted and measured; stays at the site.

    Shapes are in voxels, spacings in millimetres. ``modalities`` and ``label_values`` count the samples that have
    each. ``columns`` are those of a table, or the values known beside volumes; ``gaps`` counts the samples of a
    table that lack some.
    """

    kind: DataKind
    subjects: int = 0
    samples: int = 0
    modalities: dict[str, int] = {}
    label_values: dict[str, int] = {}
    label_names: dict[str, str] = {}
    """What the dataset's own description, or the headers of its label volumes, call the stored label values."""
    shape_smallest: tuple[int, ...] = ()
    shape_largest: tuple[int, ...] = ()
    spacing_mm_median: tuple[float, ...] = ()
    columns: dict[str, ColumnSummary] = {}
    gaps: tuple[Gap, ...] = ()
    values: dict[str, FoundValues] = {}
    """The range of the stored values by modality, for kind ``arrays`` that of ``x``."""
    arrays: dict[str, str] = {}
    """For kind ``arrays``: name of each array with its type and the shape of one sample, as ``float32 [28, 28]``."""


@dataclass(frozen=True)
class Scan:
    """What was found under a root: usable samples, everything that is wrong, and the data's schema.

    Samples with an error are not among ``samples``.
    """

    samples: Sequence[Sample]
    problems: tuple[DataIssue, ...]
    schema: DataSchema

    @property
    def errors(self) -> tuple[DataIssue, ...]:
        """The problems that make data unusable."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def subjects(self) -> int:
        """How many patients the usable samples belong to."""
        return len({sample.subject for sample in self.samples})


def problem_of(error: Any, subject: str = "", *, severity: str = "error") -> DataIssue:
    """A BadInput as a line of a scan; the sentence begins with the subject where there is one."""
    thing = f"{subject}: {error.thing}" if subject and error.thing != subject else error.thing
    return DataIssue(thing=thing, cause=error.cause, remedy=error.remedy, subject=subject, severity=severity)
