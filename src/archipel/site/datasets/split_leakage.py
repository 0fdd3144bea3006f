"""Duplicates across the split: the same content trained on and validated on, under one id or two, in one file or two.

Two contents are the same under the rules of the quality report.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from archipel.data import Cohort, FileIndex, Sample, Samples, Scan
from archipel.data.quality import array_contents, contents, gather, volume_contents
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
    if entry.kind == "arrays":
        return _of_arrays(database, entry, cohort, training, validation, watch)
    with SqlFileIndex(database, entry.name) as index:
        files = len(cohort.samples.places)
        watched = WatchedIndex(index, watch, files, "files compared")
        contents_of = _contents(Path(entry.root), watched, entry, cohort)
    seen: dict[Hashable, str] = {content: one.name for one in training for content in contents_of.get(one.key, ())}
    pairs = {
        (seen[content], one.name) for one in validation for content in contents_of.get(one.key, ()) if content in seen
    }
    uncompared = sum(not contents_of.get(one.key) for one in (*training, *validation))
    return Across(sorted(pairs), "image" if entry.kind == "volumes" else "row", uncompared)


def _contents(
    root: Path, index: FileIndex, entry: Dataset, cohort: Cohort
) -> Mapping[tuple[str, str], Sequence[Hashable]]:
    """What each sample contains, by its key."""
    if entry.kind == "volumes":
        return volume_contents(root, index, cohort.options, cohort.samples)
    # The whole cohort is asked for, as in a report, because the index keeps only the last answer.
    evidence = gather(root, cohort.format, cohort.options, Scan(cohort.samples, (), entry.summary), index)
    return {sample.key: [content for content, _ in contents(evidence, sample)] for sample in evidence.scan.samples}


def _of_arrays(
    database: Database,
    entry: Dataset,
    cohort: Cohort,
    training: Sequence[Sample],
    validation: Sequence[Sample],
    watch: Watch,
) -> Across:
    """The same in columns: there may be a million rows."""
    samples = cohort.samples
    with SqlFileIndex(database, entry.name) as index:
        watched = WatchedIndex(index, watch, len(samples.places), "files compared")
        digests, images = array_contents(Path(entry.root), watched, cohort.format, cohort.options, samples)
    trains, validates = (_places(samples, Samples.of(side)) for side in (training, validation))
    compared = digests != b""
    shared = np.intersect1d(digests[trains & compared], digests[validates & compared])
    names: list[dict[bytes, list[str]]] = [{}, {}]
    for place in np.flatnonzero(np.isin(digests, shared)).tolist():
        for side, chosen in enumerate((trains, validates)):
            if chosen[place]:
                names[side].setdefault(digests[place], []).append(samples[place].name)
    pairs = {(names[0][content][-1], one) for content, several in names[1].items() for one in several}
    uncompared = int(np.sum((trains | validates) & ~compared))
    return Across(sorted(pairs), "image" if images else "row", uncompared)


def _places(samples: Samples, chosen: Samples) -> NDArray[np.bool_]:
    """For each sample whether it is one of those chosen, which are in the same order."""
    found, wanted = np.zeros(len(samples), np.bool_), iter(chosen.each_key())
    next_one = next(wanted, None)
    for place, key in enumerate(samples.each_key()):
        if key == next_one:
            found[place], next_one = True, next(wanted, None)
    return found
