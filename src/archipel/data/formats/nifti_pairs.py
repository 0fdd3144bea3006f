"""Format ``nifti-pairs``: ``images/<subject>.nii.gz`` with ``labels/<subject>.nii.gz`` on the same grid.

The subject's id is the file's stem, without the endings that the options name; nnU-Net's channel suffix ``_0000`` on
images is tolerated. Only one channel is read. Hidden files (``._x.nii.gz``, which some archives carry) are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from archipel.data.decoding import NIFTI
from archipel.data.files import Folder
from archipel.data.formats.base import Options, VolumeFormat
from archipel.data.formats.found_volumes import FoundVolumes
from archipel.data.formats.volume_names import add_pairs, by_subject, name_subjects, nothing_found, volumes_in
from archipel.data.samples import Scan


class NiftiPairs(VolumeFormat):
    """Images and labels in two folders, under the same names."""

    name: ClassVar[str] = "nifti-pairs"
    title: ClassVar[str] = "images/*.nii.gz with labels/*.nii.gz of the same names"
    options: ClassVar[Mapping[str, str]] = {
        "image_suffix": "what images' names have after the subject's id, e.g. _ds",
        "label_suffix": "what labels' names have after the subject's id, e.g. _ds_seg",
    }

    def fits(self, folder: Folder) -> str:
        """Both folders with volumes."""
        both = all(folder.has(f"{name}/*.nii.gz", f"{name}/*.nii") for name in ("images", "labels"))
        return "images/ and labels/ hold NIfTI volumes" if both else ""

    def scan(self, folder: Folder, options: Options) -> Scan:
        """Pair images with labels by their names."""
        found = FoundVolumes(folder)
        endings = options.get("image_suffix", ""), options.get("label_suffix", "")
        named = volumes_in(folder, "images/*", NIFTI, found.problems)
        images = by_subject([(stem.removesuffix("_0000"), place) for stem, place in named], found, endings[0])
        labels = by_subject(volumes_in(folder, "labels/*", NIFTI, found.problems), found, endings[1])
        name_subjects(found, f"{endings[0]}_0000", *endings)
        if not images and not labels:
            nothing_found(folder, found, "images/*.nii.gz")
        add_pairs(found, images, labels, (f"images/{{}}{endings[0]}.nii.gz", f"labels/{{}}{endings[1]}.nii.gz"))
        return found.scan()
