"""Which files of a cohort hold numbers that are not on the scale for which a plan is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from archipel.data import Cohort, FoundValues, Scan
from archipel.data.cohorts import is_outside
from archipel.data.quality import gather
from archipel.site.datasets.catalog import Dataset
from archipel.site.datasets.file_index import SqlFileIndex
from archipel.site.datasets.watched_index import WatchedIndex
from archipel.storage import Database
from archipel.vocabulary import UNWATCHED, DataNeeds, ValueRange, Watch


class FileOffScale(NamedTuple):
    """A file and the least and the greatest value of the input that it holds."""

    input: str
    place: str
    minimum: float
    maximum: float


def files(
    database: Database, entry: Dataset, cohort: Cohort, needs: DataNeeds, watch: Watch = UNWATCHED
) -> Iterator[FileOffScale]:
    """The files in the order of samples; those that are in the index are not read again.

    Of a file with the rows of all samples it is known only what all of them hold. Raises Cancelled when ``watch``
    stops it.
    """
    places = cohort.samples.places
    declared = cohort.mapping.values
    if entry.kind == "arrays" and len(places) == 1:
        for name, found in entry.summary.values.items():
            asked = needs.values.get(name)
            if asked is not None and is_outside(asked, declared.get(name, ValueRange()), found, found):
                yield FileOffScale(name, next(iter(places)), found.minimum, found.maximum)
        return
    with SqlFileIndex(database, entry.name) as index:
        watched = WatchedIndex(index, watch, len(places), "files compared")
        scan = Scan(cohort.samples, (), entry.summary)
        evidence = gather(Path(entry.root), cohort.format, cohort.options, scan, watched)
    for sample in cohort.samples:
        for name, asked in needs.values.items():
            stored = cohort.mapping.stored_input(needs, name)
            whole = entry.summary.values.get(stored)
            volume, array = evidence.volumes.get(sample.key, {}).get(stored), evidence.arrays.get(sample.key)
            facts, role = (volume, stored) if volume is not None else (array, "image")
            if whole is None or facts is None or role not in sample.files:
                continue
            own = FoundValues(minimum=facts.minimum, maximum=facts.maximum)
            if is_outside(asked, declared.get(stored, ValueRange()), whole, own):
                yield FileOffScale(name, sample.files[role], facts.minimum, facts.maximum)
