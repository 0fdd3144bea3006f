"""The quality report: what a data manager must know of a dataset before a cohort is frozen from it.

``gather`` collects evidence at the edge, from the file index where it can. ``build`` turns it into a report and opens
nothing. ``page`` writes the report and its pictures as one HTML file. All of it stays at the site.
"""

from archipel.data.quality.contents import array_contents, contents, volume_contents
from archipel.data.quality.evidence import ArrayFacts, Evidence, VolumeFacts, gather
from archipel.data.quality.page import page
from archipel.data.quality.pictures import Pictures, draw_pictures
from archipel.data.quality.records import QualityReport, Readiness, Severity
from archipel.data.quality.report import build

__all__ = [
    "ArrayFacts",
    "Evidence",
    "Pictures",
    "QualityReport",
    "Readiness",
    "Severity",
    "VolumeFacts",
    "array_contents",
    "build",
    "contents",
    "draw_pictures",
    "gather",
    "page",
    "volume_contents",
]
