"""How large a cohort's prepared samples will be, from the facts in the file index; no file that is in the index is
opened.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from archipel.data import LABEL, Affine, Cohort, Folder, Purpose, Sample
from archipel.data.volumes import Grid, look_at_sample, volumes
from archipel.site.datasets.catalog import Dataset
from archipel.site.datasets.file_index import SqlFileIndex
from archipel.storage import Database

G = TypeVar("G", bound=Grid)


class Estimate(NamedTuple):
    """About how many bytes the prepared files take, 0 for rows of numbers; and the voxels of a sample on average, 0 for
    what is not a volume."""

    size: int
    voxels: float = 0.0


def estimated(database: Database, entry: Dataset, cohort: Cohort) -> Estimate:
    """The estimate for all samples of the cohort, as its mapping and recipe make them."""
    if entry.kind == "volumes":
        with SqlFileIndex(database, entry.name) as index:
            folder = Folder(Path(entry.root), index)
            found = [_of_volumes(folder, cohort, sample) for sample in cohort.samples]
        return Estimate(sum(one.size for one in found), sum(one.voxels for one in found) / max(1, len(found)))
    sizes = [np.dtype(name).itemsize * _elements(shape) for name, shape in map(_form, entry.summary.arrays.values())]
    return Estimate(len(cohort.samples) * sum(sizes))


def _of_volumes(folder: Folder, cohort: Cohort, sample: Sample) -> Estimate:
    size = voxels = 0
    for role, looked in look_at_sample(folder, sample.files, sample.channels).by_role.items():
        found = looked.facts
        if found is not None:
            # All volumes of a sample have one grid.
            voxels = math.prod(cohort.shape_given(found.shape, np.array(found.affine)))
            size += (2 if role == LABEL else 4) * voxels
    return Estimate(size, voxels)


def stored_grids(database: Database, cohort: Cohort) -> list[tuple[tuple[int, ...], Affine]]:
    """Shape and affine of the volumes in the cohort's files as they are stored, as far as the index has them.

    Of all volumes of the dataset for a cohort without samples. No file is opened or searched for.
    """
    wanted = {place for sample in cohort.samples for place in sample.files.values()}
    with SqlFileIndex(database, cohort.dataset) as index:
        return [
            *_grids(index, volumes.IMAGE, wanted),
            *_grids(index, volumes.CHANNELS, wanted),
            *_grids(index, volumes.MASK, wanted),
        ]


def _grids(
    index: SqlFileIndex, purpose: Purpose[G], wanted: Collection[str]
) -> Iterator[tuple[tuple[int, ...], Affine]]:
    for place, looked in index.known(purpose):
        if looked.facts is not None and (place in wanted or not wanted):
            yield looked.facts.shape, np.array(looked.facts.affine)


def _form(text: str) -> tuple[str, str]:
    name, _, shape = text.partition(" ")
    return name, shape


def _elements(shape: str) -> int:
    return math.prod(json.loads(shape or "[]"))
