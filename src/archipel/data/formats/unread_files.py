"""Unread files: what a folder holds that no format reads, each kind with the way to make it readable.

Tables of other programs are named by the format ``table``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

from archipel.data.files import Folder
from archipel.data.formats.volume_names import everything, is_of
from archipel.data.picture_files import LFS_POINTER
from archipel.data.samples import DataIssue
from archipel.vocabulary.counting import abbreviate, pluralise

_TO_NPZ = "write its arrays x and y into one .npz file (numpy.savez), or its volumes as .nii.gz"
_KINDS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("DICOM file", (".dcm", ".ima", ".dicom"), "convert the series to NIfTI, for example: dcm2niix -z y -o OUT {root}"),
    ("HDF5 file", (".h5", ".hdf5", ".he5"), _TO_NPZ),
    ("NumPy array", (".npy",), _TO_NPZ),
    ("MATLAB file", (".mat",), _TO_NPZ),
    ("archive", (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar"), "unpack it and name the folder with its content"),
    ("whole-slide image", (".svs", ".ndpi", ".mrxs", ".scn"), "cut it into tiles as .png"),
    ("video", (".mp4", ".avi", ".mov"), "export its frames as .png"),
    ("MINC or AFNI volume", (".mnc", ".head", ".brik"), "convert it to NIfTI, for example with 3dAFNItoNIFTI"),
)
_ALL_ENDINGS = tuple(ending for _, endings, _ in _KINDS for ending in endings)
IMAGES = frozenset(("DICOM file", "whole-slide image", "MINC or AFNI volume"))
"""The kinds that are images of patients: beside a table they are the data."""
_BESIDE = ("sourcedata/", "derivatives/", "code/", "stimuli/")
"""Folders that BIDS keeps for what is not the data itself."""
_MOST_OPENED = 50
"""Files whose first bytes are read: a series has the same kind of file a hundred times."""


def unread_files(root: Path, places: Iterable[str], only: Collection[str] = ()) -> tuple[str, str] | None:
    """What a folder holds that is not read, and the way out for the kind that it holds most; None if it is nothing.

    Where kinds are named by ``only``, no others count.
    """
    counts: Counter[int] = Counter()
    pointers = opened = 0
    example: dict[int, str] = {}
    tops: set[str] = set()
    for place in places:
        kind = next((at for at, (_, endings, _) in enumerate(_KINDS) if place.lower().endswith(endings)), None)
        if opened < _MOST_OPENED:
            opened += 1
            start = _start(root / place)
            pointers += start.startswith(LFS_POINTER)
            kind = 0 if kind is None and start[128:132] == b"DICM" else kind
        if kind is not None and (not only or _KINDS[kind][0] in only):
            counts[kind] += 1
            if kind == 0 and "/" in place:
                tops.add(place.split("/")[0])
            example.setdefault(kind, place)
    if pointers and not only:
        cause = f"holds pointers of Git LFS in the place of {pluralise(pointers, 'file')}"
        return cause, f"fetch the files: git -C {root} lfs pull"
    if not counts:
        return None
    found = [f"{pluralise(count, _KINDS[kind][0])} ({example[kind]})" for kind, count in counts.most_common(3)]
    cause, most = f"holds {' and '.join(found)}, which no format reads", counts.most_common(1)[0][0]
    if most == 0 and len(tops) > 1:
        first = min(tops)
        remedy = (
            "convert each folder on its own, so that classes and patients stay apart, for example: "
            f"mkdir -p OUT/{first} && dcm2niix -z y -o OUT/{first} {root}/{first}; then add OUT"
        )
        return f"{cause}, in the folders {abbreviate(sorted(tops), 5)}", remedy
    return cause, _KINDS[most][2].format(root=root)


def unread_beside(folder: Folder) -> DataIssue | None:
    """A warning for what is beside the volumes of a dataset and is not read; no file is opened."""
    counts: Counter[int] = Counter()
    example: dict[int, str] = {}
    for place in everything(folder)[0]:
        lower = place.lower()
        # Of 100,000 volumes each is none of these: one question is asked of most, not one for each kind.
        if not lower.endswith(_ALL_ENDINGS):
            continue
        kind = next((at for at, (_, endings, _) in enumerate(_KINDS) if lower.endswith(endings)), None)
        if kind is not None and not lower.startswith(_BESIDE) and not is_of(place, folder.leaves_out):
            counts[kind] += 1
            example.setdefault(kind, place)
    if not counts:
        return None
    kind, count = counts.most_common(1)[0]
    name, _, remedy = _KINDS[kind]
    cause = f"holds {pluralise(count, name)} beside the volumes ({example[kind]}), which no format reads"
    remedy = f"if it is part of the dataset, {remedy.format(root=folder.root)}"
    return DataIssue(thing=folder.root.name, cause=cause, remedy=remedy, severity="warning")


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(132)
    except OSError:
        return b""
