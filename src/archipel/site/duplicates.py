"""Duplicates across the split: the same image trained on and validated on, under one id or two, in one file or two."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from archipel.data import Sample, volumes
from archipel.data.files import Folder
from archipel.data.samples import LABEL
from archipel.site.catalog import Dataset
from archipel.site.file_index import SqlFileIndex
from archipel.site.state import SiteState


def across(
    site: SiteState, entry: Dataset, training: Sequence[Sample], validation: Sequence[Sample]
) -> list[tuple[str, str]]:
    """Names of a training and a validation sample that hold the same voxels, or the same row; known ones unread."""
    with SqlFileIndex(site, entry.name) as index:
        folder = Folder(Path(entry.root), index)
        seen = {content: sample.name for sample in training for content in _contents(folder, entry, sample)}
        found = {
            (seen[content], sample.name)
            for sample in validation
            for content in _contents(folder, entry, sample)
            if content in seen
        }
    return sorted(found)


def _contents(folder: Folder, entry: Dataset, sample: Sample) -> Iterable[str]:
    if entry.kind != "volumes":
        return [sample.hash]
    images = [(role, place) for role, place in sample.files.items() if role != LABEL]
    facts = [volumes.look(folder, place, role, sample.channels.get(role)).facts for role, place in images]
    return [str(one["voxels"]) for one in facts if "voxels" in one]
