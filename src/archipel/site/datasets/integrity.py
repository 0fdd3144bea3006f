"""Whether the files of a cohort are still there and as they were frozen; an unchanged file is not opened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from archipel.data import (
    Cohort,
    DataIssue,
    FileIndex,
    Folder,
    Purpose,
    Samples,
    data_changed,
    format_named,
    problem_of,
    request_of,
)
from archipel.data.volumes import look_at_file
from archipel.site.datasets.catalog import Dataset
from archipel.site.datasets.file_index import SqlFileIndex
from archipel.site.datasets.watched_index import WatchedIndex
from archipel.storage import Database
from archipel.tensors import BlobHasher
from archipel.vocabulary import UNWATCHED, Record, Watch

VERIFIED = "verified/3"
"""The index's name for the check of files of arrays and tables; it gets a new number when the check changes."""


class Verified(Record):
    """The file is the same as when it was frozen; the record has no fields."""


def faults(database: Database, entry: Dataset, cohort: Cohort, watch: Watch = UNWATCHED) -> tuple[DataIssue, ...]:
    """What is wrong with the files of the cohort, one sentence per file; none when all is well.

    ``thing`` is the file's place in the dataset's folder. Raises Cancelled when ``watch`` stops it.
    """
    root = Path(entry.root)
    if not root.is_dir():
        gone = f"its folder {root} is not there"
        return (DataIssue(thing=f"dataset {entry.name}", cause=gone, remedy="mount it again, or remove the dataset"),)
    look = _volumes if entry.kind == "volumes" else _rows
    with SqlFileIndex(database, entry.name) as index:
        files = len(cohort.samples.places)
        return tuple(dict.fromkeys(look(root, WatchedIndex(index, watch, files), cohort)))


def _volumes(root: Path, index: FileIndex, cohort: Cohort) -> Iterator[DataIssue]:
    folder = Folder(root, index, options=cohort.options)
    for sample in cohort.samples:
        for key, place in sample.files.items():
            hashed, problem = look_at_file(folder, sample.files, key, sample.channels.get(key))
            if problem is not None:
                yield problem.model_copy(update={"thing": place})
            elif hashed != sample.file_hashes.get(key):
                yield problem_of(data_changed(place, "has other content than when the cohort was frozen"))


def _rows(root: Path, index: FileIndex, cohort: Cohort) -> Iterator[DataIssue]:
    layout = format_named(cohort.format)
    for place, inside in cohort.samples.by_file().items():

        def examine(_: Path, inside: Samples = inside) -> Verified:
            layout.verify(root, inside, cohort.options)
            return Verified()

        hasher = BlobHasher()
        hasher.update(request_of(cohort.options, inside).encode())
        hasher.update(inside.digests.tobytes())
        request = hasher.digest()
        facts = Folder(root, index).look(place, Purpose(VERIFIED, Verified, request), examine)
        if facts.problem is not None:
            yield facts.problem.model_copy(update={"thing": place})
