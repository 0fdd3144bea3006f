"""The site's datasets: the catalog, the index of their files, who is in them or excluded, and their quality reports.

It knows who is withdrawn, and is given what takes the opt-out list over. It knows no experiments and no approvals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archipel.lazy import lazy_names

if TYPE_CHECKING:
    from archipel.site.datasets import (
        catalog,
        exclusions,
        integrity,
        members,
        quality_report,
        split_leakage,
        suggestions,
    )
    from archipel.site.datasets.catalog import Dataset, DatasetProblems
    from archipel.site.datasets.estimates import Estimate, estimated, stored_grids
    from archipel.site.datasets.quality_report import HTML
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "catalog": ["Dataset", "DatasetProblems"],
            "estimates": ["Estimate", "estimated", "stored_grids"],
            "quality_report": ["HTML"],
        },
        modules=["catalog", "exclusions", "integrity", "members", "quality_report", "split_leakage", "suggestions"],
    )

__all__ = [
    "HTML",
    "Dataset",
    "DatasetProblems",
    "Estimate",
    "catalog",
    "estimated",
    "exclusions",
    "integrity",
    "members",
    "quality_report",
    "split_leakage",
    "stored_grids",
    "suggestions",
]
