"""What a sample contains, in a form that shows when two samples contain the same.

The quality report and `archipel site check` use the same rule, so that both name the same samples.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from archipel.data.quality.evidence import Evidence
from archipel.data.samples import LABEL, Sample

FEWEST_VALUES = 5
"""Rows with fewer values than this may well be equal by chance."""
ROW = "row"
"""The name of a table's content; an image has the name of its role."""


def contents(evidence: Evidence, sample: Sample) -> Iterator[tuple[Hashable, str]]:
    """Each content of a sample of ``evidence.scan``, and what it is called.

    That is the voxels of each image and the pixels of an array, however their files store them, or a table's values
    in every column but id and visit. Images of one value everywhere, masks and rows of few values are not among them:
    these may be equal in different patients.
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
