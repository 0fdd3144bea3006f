"""What hospitals have: datasets on disk, their samples, frozen cohorts of them, and phantoms that stand in for them.

It reads files and says what is wrong with them. It knows nothing of models, rounds, networks or approvals; libraries
for volumes and tables are imported only when one is read.
"""

from archipel.data.cohorts.cohort import (
    Cohort,
    CohortDifference,
    changes,
    cohort_hash,
    difference,
    pseudonym,
    subject_token,
)
from archipel.data.cohorts.mapping import ColumnMapping, DataMapping, read_mapping
from archipel.data.cohorts.needs_check import Answer, Verdict, check_needs, unmatched_names
from archipel.data.cohorts.preprocessing import Preprocessing
from archipel.data.cohorts.splits import draw, validation_ids
from archipel.data.files import FileFacts, FileIndex, MemoryIndex, Signature
from archipel.data.formats import FORMATS, format_named, scan
from archipel.data.prepared.cache import Prepared, PreparedCache
from archipel.data.prepared.source import PreparedSource
from archipel.data.sample_data import Affine, FloatVolume, LabelVolume, SampleData
from archipel.data.samples import ColumnSummary, DataIssue, DataSchema, Sample, Scan
from archipel.data.subjects import RawSource, Source, SubjectSet, Table, Volume, split, usable, verify
from archipel.data.volumes.orientation import Orientation

__all__ = [
    "FORMATS",
    "Affine",
    "Answer",
    "Cohort",
    "CohortDifference",
    "ColumnMapping",
    "ColumnSummary",
    "DataIssue",
    "DataMapping",
    "DataSchema",
    "FileFacts",
    "FileIndex",
    "FloatVolume",
    "LabelVolume",
    "MemoryIndex",
    "Orientation",
    "Prepared",
    "PreparedCache",
    "PreparedSource",
    "Preprocessing",
    "RawSource",
    "Sample",
    "SampleData",
    "Scan",
    "Signature",
    "Source",
    "SubjectSet",
    "Table",
    "Verdict",
    "Volume",
    "changes",
    "check_needs",
    "cohort_hash",
    "difference",
    "draw",
    "format_named",
    "pseudonym",
    "read_mapping",
    "scan",
    "split",
    "subject_token",
    "unmatched_names",
    "usable",
    "validation_ids",
    "verify",
]
