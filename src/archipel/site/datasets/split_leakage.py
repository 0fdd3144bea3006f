"""Duplicates across the split: the same content trained on and validated on, under one id or two, in one file or two.

Two contents are the same under the rules of the quality report.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import NamedTuple

from archipel.data import Cohort, Sample, Scan
from archipel.data.quality import contents, gather
from archipel.site.datasets.catalog import Dataset
from archipel.site.datasets.file_index import SqlFileIndex
from archipel.site.datasets.watched_index import WatchedIndex
from archipel.storage import Database
from archipel.vocabulary import UNWATCHED, Watch


class Across(NamedTuple):
    """What was found: names of a training and a validation sample that hold the same ``thing``, image or row.

    ``uncompared`` counts the samples that hold too little for it to mean anything.
    """

    pairs: list[tuple[str, str]]
    thing: str
    uncompared: int


def across(
    database: Database,
    entry: Dataset,
    cohort: Cohort,
    training: Sequence[Sample],
    validation: Sequence[Sample],
    watch: Watch = UNWATCHED,
) -> Across:
    """Compare training with validation samples; files that are in the index are not read again.

    Raises BadInput for a large table that is not what was frozen, Cancelled when ``watch`` stops it.
    """
    # The whole cohort is asked for, as in a report, because the index keeps only the last answer.
    asked = Scan(cohort.samples, (), entry.summary)
    with SqlFileIndex(database, entry.name) as index:
        files = len({place for sample in cohort.samples for place in sample.files.values()})
        watched = WatchedIndex(index, watch, files, "files compared")
        evidence = gather(Path(entry.root), cohort.format, cohort.options, asked, watched)
    contents_of = {
        sample.key: [content for content, _ in contents(evidence, sample)] for sample in evidence.scan.samples
    }
    seen: dict[Hashable, str] = {content: one.name for one in training for content in contents_of.get(one.key, ())}
    pairs = {
        (seen[content], one.name) for one in validation for content in contents_of.get(one.key, ()) if content in seen
    }
    is_image = evidence.kind == "volumes" or any(len(one.shape) > 1 for one in evidence.arrays.values())
    uncompared = sum(not contents_of.get(one.key) for one in (*training, *validation))
    return Across(sorted(pairs), "image" if is_image else "row", uncompared)
