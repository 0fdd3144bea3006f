"""Masks among 2-D pictures: folders of masks beside folders of pictures, and masks beside each picture by their names.

No format reads segmentations of pictures. They are named, so that a mask is never the picture of a class.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

_WORDS = ("mask", "label", "annotation", "segmentation", "groundtruth", "ground_truth", "gt", "seg")
MASKS = frozenset(word + ending for word in _WORDS for ending in ("", "s"))
"""Folders that hold a mask for each picture, not the pictures of a class."""
AS_VOLUMES = "save each picture and each mask as a NIfTI volume of one slice, in images/ and labels/ under one name"
_ENDING = re.compile(rf"[_\-. ](?:{'|'.join(_WORDS)})s?(?:[_\-. ]?\d{{1,3}})?$", re.IGNORECASE)


def masks_of(pictures: Sequence[PurePosixPath]) -> dict[str, str]:
    """The pictures that are masks of another one in their folder, by their names, each with that one.

    >>> masks_of([PurePosixPath("a/p1.png"), PurePosixPath("a/p1_mask.png"), PurePosixPath("a/p2_mask.png")])
    {'a/p1_mask.png': 'a/p1.png'}
    """
    stems = {(path.parent, path.stem): path for path in pictures}
    found = {}
    for path in pictures:
        ending = _ENDING.search(path.stem)
        beside = stems.get((path.parent, path.stem[: ending.start()])) if ending else None
        if beside is not None:
            found[str(path)] = str(beside)
    return found


def segmentation_in(pictures: Sequence[PurePosixPath]) -> tuple[str, str] | None:
    """Cause and remedy for a folder of pictures and their masks; None for one without masks."""
    beside = masks_of(pictures)
    if beside:
        mask, picture = min(beside.items())
    else:
        masks = {path for path in pictures if any(part.lower() in MASKS for part in path.parts[:-1])}
        others = set(pictures) - masks
        if not masks or not others:
            return None
        mask, picture = str(min(masks)), str(min(others))
    return f"holds pictures and their masks ({picture} and {mask}), which no format reads", AS_VOLUMES
