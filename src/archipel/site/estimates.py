"""How much room a cohort's prepared samples will take, from what is known of its files."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from archipel.data import Cohort, Sample, volumes
from archipel.data.files import Folder
from archipel.data.samples import LABEL
from archipel.site.catalog import Dataset
from archipel.site.file_index import SqlFileIndex
from archipel.site.state import SiteState


def estimated_size(site: SiteState, entry: Dataset, cohort: Cohort) -> int:
    """About how many bytes the cohort's prepared files take, from what is known of its files; 0 for rows of numbers."""
    if entry.kind == "volumes":
        with SqlFileIndex(site, entry.name) as index:
            folder = Folder(Path(entry.root), index)
            return sum(_volume_size(folder, cohort, sample) for sample in cohort.samples)
    sizes = [np.dtype(name).itemsize * _elements(shape) for name, shape in map(_form, entry.summary.arrays.values())]
    return len(cohort.samples) * sum(sizes)


def _volume_size(folder: Folder, cohort: Cohort, sample: Sample) -> int:
    size = 0
    for role, place in sample.files.items():
        facts = volumes.look(folder, place, role, sample.channels.get(role)).facts
        if facts:
            size += (2 if role == LABEL else 4) * math.prod(
                cohort.shape_given(facts["shape"], np.array(facts["affine"]))
            )
    return size


def _form(text: str) -> tuple[str, str]:
    name, _, shape = text.partition(" ")
    return name, shape


def _elements(shape: str) -> int:
    return math.prod(json.loads(shape or "[]"))
