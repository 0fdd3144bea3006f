"""The site's datasets: the catalog, the index of their files, who is in them or excluded, and their quality reports.

It knows who is withdrawn, and is given the function that applies the opt-out list. It knows no experiments and no
approvals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archipel.lazy import lazy_names

if TYPE_CHECKING:
    from archipel.site.datasets import (
        catalog,
        detected_format,
        exclusions,
        integrity,
        members,
        off_scale,
        quality_report,
        split_leakage,
        suggestions,
    )
    from archipel.site.datasets.catalog import Dataset, DatasetProblems
    from archipel.site.datasets.detected_format import DetectedFormat
    from archipel.site.datasets.estimates import BESIDE, Estimate, estimated, stored_grids, too_large
    from archipel.site.datasets.quality_report import HTML
    from archipel.site.datasets.unclear_patients import UnclearPatients
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "catalog": ["Dataset", "DatasetProblems"],
            "detected_format": ["DetectedFormat"],
            "estimates": ["BESIDE", "Estimate", "estimated", "stored_grids", "too_large"],
            "quality_report": ["HTML"],
            "unclear_patients": ["UnclearPatients"],
        },
        modules=[
            "catalog",
            "detected_format",
            "exclusions",
            "integrity",
            "members",
            "off_scale",
            "quality_report",
            "split_leakage",
            "suggestions",
        ],
    )

__all__ = [
    "BESIDE",
    "HTML",
    "Dataset",
    "DatasetProblems",
    "DetectedFormat",
    "Estimate",
    "UnclearPatients",
    "catalog",
    "detected_format",
    "estimated",
    "exclusions",
    "integrity",
    "members",
    "off_scale",
    "quality_report",
    "split_leakage",
    "stored_grids",
    "suggestions",
    "too_large",
]
