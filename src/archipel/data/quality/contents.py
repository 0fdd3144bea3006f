"""What a sample holds, in a form by which it shows when two samples hold the same.

The quality report and the check before a training ask alike, so that neither overlooks what the other one names.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from archipel.data.quality.evidence import Evidence
from archipel.data.samples import LABEL, Sample

FEWEST_VALUES = 5
"""Rows with fewer values than this may well be equal by chance."""
ROW = "row"
"""What a table's content is called; an image is called by its role."""


def contents(evidence: Evidence, sample: Sample) -> Iterator[tuple[Hashable, str]]:
    """Each content of a sample of ``evidence.scan``, and what it is called.

    That is the voxels of each image and the pixels of an array, however their files store them, or a table's values
    in every column but id and visit. Images of one value everywhere, masks and rows of few values are not among them:
    these are alike without being of one patient.
    """
    if evidence.kind == "table":
        if len(sample.values) >= FEWEST_VALUES:
            yield tuple(sorted(sample.values.items())), ROW
        return
    for role, volume in evidence.volumes.get(sample.key, {}).items():
        if role != LABEL and volume.minimum < volume.maximum:
            yield (volume.voxels, volume.shape), role
    array = evidence.arrays.get(sample.key)
    if array is not None and array.minimum < array.maximum:
        yield (array.pixels, array.shape), "image"
