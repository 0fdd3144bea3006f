"""Frozen cohorts: the versions of a dataset, their tags, and whether each subject trains or validates.

It knows datasets and who is withdrawn. It knows nothing of experiments and approvals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archipel.lazy import lazy_names

if TYPE_CHECKING:
    from archipel.site.cohorts import cohort_versions, split_assignment, stored_cohorts
    from archipel.site.cohorts.cohort_versions import Frozen, Version
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {"cohort_versions": ["Frozen", "Version"]},
        modules=["cohort_versions", "split_assignment", "stored_cohorts"],
    )

__all__ = [
    "Frozen",
    "Version",
    "cohort_versions",
    "split_assignment",
    "stored_cohorts",
]
