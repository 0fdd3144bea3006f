"""What is chosen from a dataset: mappings, preprocessing, train/validation splits, and the cohort that they make.

It reads no file. It knows samples and orientation, and nothing of formats.
"""

from archipel.data.cohorts import mapping
from archipel.data.cohorts.answers import Answer, Verdict
from archipel.data.cohorts.cohort import (
    Cohort,
    CohortDifference,
    changes,
    cohort_hash,
    difference,
    pseudonym,
    subject_token,
    subject_tokens,
)
from archipel.data.cohorts.cohort_files import PIECE, cohort_of, pieces
from archipel.data.cohorts.declared_columns import with_declared_columns
from archipel.data.cohorts.label_names import name_faults, still_open, stretched, stretched_masks
from archipel.data.cohorts.mapping import ColumnMapping, DataMapping, grid_after, read_mapping
from archipel.data.cohorts.needs_check import check_needs, unmatched_names
from archipel.data.cohorts.preprocessing import Preprocessing
from archipel.data.cohorts.splits import SPLIT, TRAINING, VALIDATION, draw, predefined_split, validating, validation_ids
from archipel.data.cohorts.value_ranges import is_outside, known_values, range_faults

__all__ = [
    "PIECE",
    "SPLIT",
    "TRAINING",
    "VALIDATION",
    "Answer",
    "Cohort",
    "CohortDifference",
    "ColumnMapping",
    "DataMapping",
    "Preprocessing",
    "Verdict",
    "changes",
    "check_needs",
    "cohort_hash",
    "cohort_of",
    "difference",
    "draw",
    "grid_after",
    "is_outside",
    "known_values",
    "mapping",
    "name_faults",
    "pieces",
    "predefined_split",
    "pseudonym",
    "range_faults",
    "read_mapping",
    "still_open",
    "stretched",
    "stretched_masks",
    "subject_token",
    "subject_tokens",
    "unmatched_names",
    "validating",
    "validation_ids",
    "with_declared_columns",
]
