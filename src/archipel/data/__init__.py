"""What hospitals have: datasets on disk, their subjects, frozen cohorts of them, and phantoms that stand in for them.

It reads files and says what is wrong with them. It knows nothing of models, rounds, networks or approvals; nibabel is
imported only when a volume is read.
"""

from archipel.data.cohorts import Cohort, Scan, Subject, cohort_hash
from archipel.data.datasets import SubjectSet, Volume, load_pair, load_table, scan, split, verify
from archipel.data.splits import draw, validation_ids
from archipel.data.tables import Table

__all__ = [
    "Cohort",
    "Scan",
    "Subject",
    "SubjectSet",
    "Table",
    "Volume",
    "cohort_hash",
    "draw",
    "load_pair",
    "load_table",
    "scan",
    "split",
    "validation_ids",
    "verify",
]
