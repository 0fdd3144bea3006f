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

from archipel.data import LABEL, Affine, Cohort, DataIssue, DataSchema, Folder, Purpose, Sample
from archipel.data.volumes import Grid, look_at_sample, volumes
from archipel.site.datasets.catalog import Dataset
from archipel.site.datasets.file_index import SqlFileIndex
from archipel.site.state import SiteSettings
from archipel.storage import Database

G = TypeVar("G", bound=Grid)


ALIGNED = 64
"""In a prepared file each array of a sample begins at a multiple of so many bytes; a row of the table has as many."""
BESIDE = 256
"""Bytes that a worker has of a sample beside its content: its columns twice, its row of the table, and its place in an
order."""


class Estimate(NamedTuple):
    """About how many bytes the prepared files take and how many of these are voxels and numbers, 0 for rows of a table;
    and the voxels of a sample on average, 0 for what is not a volume."""

    size: int
    content: int
    voxels: float = 0.0


def estimated(database: Database, entry: Dataset, cohort: Cohort) -> Estimate:
    """The estimate for all samples of the cohort, as its mapping and recipe make them."""
    if entry.kind == "volumes":
        with SqlFileIndex(database, entry.name) as index:
            folder = Folder(Path(entry.root), index, options=cohort.options)
            size, voxels = 0, 0.0
            for sample in cohort.samples:
                found = _of_volumes(folder, cohort, sample)
                size, voxels = size + found.size, voxels + found.voxels
        return Estimate(size, size, voxels / max(1, len(cohort.samples)))
    return _of_rows(entry.summary, len(cohort.samples))


def at_least(summary: DataSchema) -> Estimate:
    """The estimate for all samples of a dataset, from what its last scan counted: the real ones are not smaller unless
    they are resampled."""
    if summary.kind != "volumes":
        return _of_rows(summary, summary.samples)
    voxels = math.prod(summary.shape_smallest) if summary.shape_smallest else 0
    size = voxels * (4 * sum(summary.modalities.values()) + (2 * summary.samples if summary.label_values else 0))
    return Estimate(size, size, voxels)


def _of_rows(summary: DataSchema, samples: int) -> Estimate:
    sizes = [np.dtype(name).itemsize * _elements(shape) for name, shape in map(_form, summary.arrays.values())]
    stored = sum(-(-size // ALIGNED) * ALIGNED for size in sizes)
    return Estimate(samples * (stored + ALIGNED if sizes else 0), samples * sum(sizes))


def too_large(summary: DataSchema, settings: SiteSettings) -> Iterator[DataIssue]:
    """What this site's settings do not have room for, as warnings about a dataset: known before anything is read for a
    plan."""
    estimate, room, limit = at_least(summary), settings.cache_mb, settings.policy.limits.memory_mb
    if estimate.size > room << 20:
        yield DataIssue(
            thing="prepared samples",
            cause=f"all {summary.samples} samples take at least {estimate.size >> 20} MiB on disk for plans, and "
            f"cache_mb in site.toml allows {room}",
            remedy="raise cache_mb before an experiment starts",
            severity="warning",
        )
    memory = estimate.content + BESIDE * summary.samples
    if memory > limit << 20:
        yield DataIssue(
            thing="memory",
            cause=f"a plan that keeps all {summary.samples} samples takes more than {memory >> 20} MiB, and the policy "
            f"of this site allows a worker {limit}",
            remedy="raise memory_mb under [policy.limits] in site.toml, or approve plans that read in batches "
            "(in_memory = False)",
            severity="warning",
        )


def _of_volumes(folder: Folder, cohort: Cohort, sample: Sample) -> Estimate:
    voxel_bytes, voxels = 0, 0
    for role, looked in look_at_sample(folder, sample.files, sample.channels).by_role.items():
        found = looked.facts
        if found is not None:
            # All volumes of a sample have one grid; a label that was cropped gets it when it is read.
            voxels = max(voxels, math.prod(cohort.shape_given(found.shape, np.array(found.affine))))
            voxel_bytes += 2 if role == LABEL else 4
    size = voxel_bytes * voxels
    return Estimate(size, size, voxels)


def stored_grids(database: Database, cohort: Cohort) -> list[tuple[tuple[int, ...], Affine]]:
    """Shape and affine of the volumes in the cohort's files as they are stored, as far as the index has them.

    Of all volumes of the dataset for a cohort without samples. No file is opened or searched for.
    """
    wanted = cohort.samples.places
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
