"""What is chosen from a dataset: mappings, preprocessing, train/validation splits, and the cohort that they make.

It reads no file. It knows samples and orientation, and nothing of formats.
"""

from archipel.data.cohorts import mapping
from archipel.data.cohorts.cohort import (
    Cohort,
    CohortDifference,
    changes,
    cohort_hash,
    difference,
    pseudonym,
    subject_token,
)
from archipel.data.cohorts.mapping import ColumnMapping, DataMapping, grid_after, read_mapping
from archipel.data.cohorts.needs_check import Answer, Verdict, check_needs, unmatched_names
from archipel.data.cohorts.preprocessing import Preprocessing
from archipel.data.cohorts.splits import SPLIT, TRAINING, VALIDATION, draw, predefined_split, validation_ids

__all__ = [
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
    "difference",
    "draw",
    "grid_after",
    "mapping",
    "predefined_split",
    "pseudonym",
    "read_mapping",
    "subject_token",
    "unmatched_names",
    "validation_ids",
]
