"""Format ``nifti-pairs``: ``images/<subject>.nii.gz`` with ``labels/<subject>.nii.gz`` on the same grid.

The subject's id is the file's stem; nnU-Net's channel suffix ``_0000`` on images is tolerated. Only one channel is
read. Hidden files (``._x.nii.gz``, which some archives carry) are ignored.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import ClassVar

from archipel.data.files import Folder
from archipel.data.formats.base import FoundVolumes, Options, VolumeFormat
from archipel.data.samples import Problem, Scan

SUFFIX = ".nii.gz"


class NiftiPairs(VolumeFormat):
    """Images and labels in two folders, under the same names."""

    name: ClassVar[str] = "nifti-pairs"
    title: ClassVar[str] = "images/*.nii.gz with labels/*.nii.gz of the same names"

    def fits(self, folder: Folder) -> str:
        """Both folders with volumes."""
        both = all(folder.has(f"{name}/*.nii.gz", f"{name}/*.nii") for name in ("images", "labels"))
        return "images/ and labels/ hold NIfTI volumes" if both else ""

    def scan(self, folder: Folder, options: Options) -> Scan:
        """Pair images with labels by their names."""
        found = FoundVolumes(folder)
        images = _named(folder, "images", found)
        labels = _named(folder, "labels", found)
        if not images and not labels and not found.problems:
            found.report(
                Problem(
                    thing=folder.root.name,
                    cause=f"no image found (looked in images/*{SUFFIX})",
                    remedy="put the volumes there or name another folder",
                )
            )
        for subject in sorted(images.keys() | labels.keys()):
            if subject not in labels:
                cause = f"no label beside the image (looked for labels/{subject}{SUFFIX})"
                found.report(Problem(thing=subject, cause=cause, remedy="add the file or exclude the subject"), subject)
            elif subject not in images:
                cause = f"no image for the label (looked for images/{subject}{SUFFIX})"
                found.report(Problem(thing=subject, cause=cause, remedy="add the file or remove the label"), subject)
            else:
                found.add(subject, {"image": images[subject], "label": labels[subject]})
        return found.scan()


def _named(folder: Folder, name: str, found: FoundVolumes) -> dict[str, str]:
    places: dict[str, str] = {}
    for place in folder.files(f"{name}/*{SUFFIX}", found.problems):
        file = PurePosixPath(place).name
        stem = file.removesuffix(SUFFIX)
        subject = stem.removesuffix("_0000") if name == "images" else stem
        if subject in places:
            cause = f"two files in {name}/ ({PurePosixPath(places[subject]).name}, {file})"
            found.report(Problem(thing=subject, cause=cause, remedy="keep one of them"), subject)
        else:
            places[subject] = place
    return places
