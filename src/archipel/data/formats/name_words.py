"""Name words: what the names of files and folders say about what they are, an image, a drawing, a part or a patient."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection

IMAGE_WORDS = frozenset(
    ("images", "image", "imgs", "img", "imagestr", "imagests", "scans", "volumes", "rawdata", "input", "inputs")
)
LABEL_WORDS = frozenset(
    (
        *("label", "labels", "labelstr", "labelsts", "mask", "masks", "seg", "segs", "segm", "segmentation"),
        *("segmentations", "gt", "groundtruth", "annotation", "annotations", "contour", "contours", "labelmap", "roi"),
        *("truth", "target", "targets"),
    )
)
MASK_WORDS = LABEL_WORDS | frozenset(
    (
        "lesion",
        "lesions",
        "tumor",
        "tumour",
        "gtv",
        "gtvt",
        "gtvn",
        "gtvp",
        "ctv",
        "ptv",
        "rois",
        "aseg",
        "aparc",
        "dseg",
        "msk",
    )
)
"""What a drawing is called beside an image; a patient or a group may be called so too."""
MODALITY_WORDS = frozenset(
    (
        "ct",
        "cbct",
        "pt",
        "pet",
        "mr",
        "mri",
        "t1",
        "t1w",
        "t1c",
        "t1ce",
        "t2",
        "t2w",
        "flair",
        "adc",
        "dwi",
        "swi",
        "pd",
    )
)
SPLIT_WORDS = frozenset(("train", "training", "val", "valid", "validation", "test", "testing"))
NOBODY = IMAGE_WORDS | LABEL_WORDS | SPLIT_WORDS | MODALITY_WORDS
"""Names of folders that are not a patient's."""
MOST_MODALITIES = 30
_ENDING = re.compile(r"[_.\- ]+")
_NUMBERED = frozenset(
    ("t", "tw", "tc", "e", "echo", "te", "b", "run", "phase", "frame", "dir", "channel", "series", "bval", "inv")
)
"""What is numbered within one patient: T1 and T2, echo1 and echo2."""


def has_any_of(name: str, words: frozenset[str]) -> bool:
    """Whether a name has one of the words between its signs, as ``p1_mask`` has ``mask``."""
    return not words.isdisjoint(re.split(r"[^a-z]+", name.lower()))


def endings_shared(stems: Collection[str]) -> tuple[str, ...]:
    """The last parts of names that most first parts have several of: of ``p1_T1``, ``p1_T2`` and so on, T1 and T2."""
    endings_of: dict[str, set[str]] = defaultdict(set)
    for stem in stems:
        *before, last = _ENDING.split(stem)
        if before:
            endings_of["_".join(before)].add(last)
    # A name that is the beginning of another one ends with nothing.
    for whole in {"_".join(_ENDING.split(stem)) for stem in stems} & endings_of.keys():
        endings_of[whole].add("")
    several = [endings for endings in endings_of.values() if len(endings) > 1]
    kinds = {ending for endings in several for ending in endings}
    is_shared = len(several) > 1 and 2 * len(several) > len(endings_of) and len(kinds) <= MOST_MODALITIES
    # Numbers alone are visits, but for the channel that nnU-Net's images have and its labels have not.
    are_visits = all(kind.isdigit() for kind in kinds - {""}) and not {"", "0000"} <= kinds
    return tuple(sorted(kinds)) if is_shared and not are_visits else ()


def look_like_ids(names: Collection[str]) -> bool:
    """Whether names differ in a number only, as those of patients do, and not as those of a patient's images.

    >>> look_like_ids(["p1", "p2"]), look_like_ids(["007", "011"]), look_like_ids(["T1_brain", "T2_brain"])
    (True, True, False)
    """
    words = [_ENDING.split(name.lower()) for name in names]
    if len({len(one) for one in words}) == 1:
        apart = [at for at, column in enumerate(zip(*words, strict=True)) if len(set(column)) > 1]
        # A number that stands alone is one of what the word before it says.
        kept = {before for at in apart for before in (at - 1, at) if before in apart or words[0][at].isdigit()} - {-1}
        words = [[one[at] for at in sorted(kept)] for one in words]
    bare = {re.sub(r"[^a-z]", "", "".join(one)) for one in words}
    has_numbers = all(any(map(str.isdigit, "".join(one))) for one in words)
    return len(names) > 1 and len(bare) == 1 and has_numbers and not bare & _NUMBERED


def are_patients(names: Collection[str], folders: Collection[str]) -> bool:
    """Whether the names that several folders have are rather those of patients than of one patient's images."""
    return look_like_ids(names) and not (look_like_ids(folders) and len(folders) > len(names))
