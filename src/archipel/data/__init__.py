"""What hospitals have: datasets on disk, their samples, frozen cohorts of them, and phantoms that replace real data.

It reads files and says what is wrong with them. It knows nothing of models, rounds, networks or approvals; libraries
for volumes and tables are imported only when one is read.
"""

from archipel.data.cohorts import (
    Answer,
    Cohort,
    CohortDifference,
    ColumnMapping,
    DataMapping,
    Preprocessing,
    Verdict,
    changes,
    check_needs,
    cohort_hash,
    difference,
    draw,
    pseudonym,
    read_mapping,
    subject_token,
    subject_tokens,
    unmatched_names,
    validation_ids,
    with_declared_columns,
)
from archipel.data.files import (
    FileFacts,
    FileIndex,
    Folder,
    Found,
    LeavesOut,
    MemoryIndex,
    Purpose,
    Signature,
    data_changed,
    signature_of,
)
from archipel.data.formats import FORMATS, format_named, scan
from archipel.data.other_spellings import OtherSpellings, same_form
from archipel.data.prepared import Prepared, PreparedCache, PreparedSource
from archipel.data.requests import request_of
from archipel.data.sample_columns import Digests, Samples, SamplesBuilder, digests_of, hex_of
from archipel.data.sample_data import Affine, FloatVolume, LabelVolume, SampleData
from archipel.data.samples import LABEL, ColumnSummary, DataIssue, DataSchema, Sample, Scan, SubjectId, problem_of
from archipel.data.subject_ids import meant
from archipel.data.subjects import RawSource, Source, SubjectSet, Volume, split, usable, verify
from archipel.data.volumes import Orientation

__all__ = [
    "FORMATS",
    "LABEL",
    "Affine",
    "Answer",
    "Cohort",
    "CohortDifference",
    "ColumnMapping",
    "ColumnSummary",
    "DataIssue",
    "DataMapping",
    "DataSchema",
    "Digests",
    "FileFacts",
    "FileIndex",
    "FloatVolume",
    "Folder",
    "Found",
    "LabelVolume",
    "LeavesOut",
    "MemoryIndex",
    "Orientation",
    "OtherSpellings",
    "Prepared",
    "PreparedCache",
    "PreparedSource",
    "Preprocessing",
    "Purpose",
    "RawSource",
    "Sample",
    "SampleData",
    "Samples",
    "SamplesBuilder",
    "Scan",
    "Signature",
    "Source",
    "SubjectId",
    "SubjectSet",
    "Verdict",
    "Volume",
    "changes",
    "check_needs",
    "cohort_hash",
    "data_changed",
    "difference",
    "digests_of",
    "draw",
    "format_named",
    "hex_of",
    "meant",
    "problem_of",
    "pseudonym",
    "read_mapping",
    "request_of",
    "same_form",
    "scan",
    "signature_of",
    "split",
    "subject_token",
    "subject_tokens",
    "unmatched_names",
    "usable",
    "validation_ids",
    "verify",
    "with_declared_columns",
]
