"""Format ``nifti-pairs``: ``images/<subject>.nii.gz`` with ``labels/<subject>.nii.gz`` on the same grid.

The subject's id is the file's stem, without the endings that the options name; nnU-Net's channel suffix ``_0000`` on
images is tolerated. Only one channel is read. Hidden files (``._x.nii.gz``, which some archives carry) are ignored.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import takewhile
from typing import ClassVar

from archipel.data.files import Folder
from archipel.data.formats.base import Options, VolumeFormat
from archipel.data.formats.found_volumes import FoundVolumes
from archipel.data.formats.layout_tables import say_what_layout_reads
from archipel.data.formats.volume_names import (
    add_pairs,
    all_volumes,
    by_subject,
    name_subjects,
    nothing_found,
    say_other_volumes,
    stem_of,
    volumes_in,
)
from archipel.data.samples import DataIssue, Scan
from archipel.data.volumes import NIFTI


def endings_of(images: Collection[str], labels: Collection[str]) -> list[str]:
    """The options by which most images would find their labels; none if the names differ in more than their endings.

    >>> endings_of(["a-T1_ds", "b-T1_ds"], ["a-T1_ds_seg", "b-T1_ds_seg"])
    ['--option image_suffix=_ds', '--option label_suffix=_ds_seg']
    """
    ends = _common_ending(images), _common_ending(labels)
    bare = [{name.removesuffix(end) for name in names} for names, end in zip((images, labels), ends, strict=True)]
    if 2 * len(bare[0] & bare[1]) <= len(images):
        return []
    return [f"--option {name}_suffix={end}" for name, end in zip(("image", "label"), ends, strict=True) if end]


def _common_ending(names: Collection[str]) -> str:
    """What all of several names end with, from an underscore on."""
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*(name[::-1] for name in names), strict=False))
    shared = "".join(letters[0] for letters in alike)[::-1] if len(names) > 1 else ""
    return "_" + shared.partition("_")[2] if "_" in shared else ""


def are_pairs(places: Sequence[str], suffixes: Sequence[str]) -> bool:
    """Whether the places are those of images/ and labels/ alone, and most names are in both."""
    stems: dict[str, set[str]] = {"images": set(), "labels": set()}
    for place in places:
        folder, _, name = place.rpartition("/")
        stem = stem_of(name, suffixes)
        if folder not in stems or stem is None:
            return False
        stems[folder].add(stem.removesuffix("_0000") if folder == "images" else stem)
    images, labels = stems.values()
    return 2 * len(images & labels) >= max(len(images), len(labels), 1)


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

    def explains(self, folder: Folder) -> bool:
        """Whether every volume is an image or a label, most of which have one name."""
        return are_pairs(all_volumes(folder, []), NIFTI)

    def scan(self, folder: Folder, options: Options) -> Scan:
        """Pair images with labels by their names."""
        collector = FoundVolumes(folder)
        endings = options.get("image_suffix", ""), options.get("label_suffix", "")
        named = volumes_in(folder, "images/*", NIFTI, collector.problems)
        images = by_subject([(stem.removesuffix("_0000"), place) for stem, place in named], collector, endings[0])
        labels = by_subject(volumes_in(folder, "labels/*", NIFTI, collector.problems), collector, endings[1])
        name_subjects(collector, f"{endings[0]}_0000", *endings)
        if not images and not labels:
            nothing_found(folder, collector, "images/*.nii.gz")
        options_to_set = [] if any(endings) or images.keys() & labels.keys() else endings_of(images, labels)
        if options_to_set:
            remedy = f"give the part of their names after the subject's id: {' '.join(options_to_set)}"
            cause = "no label has the name of an image"
            collector.report(DataIssue(thing=folder.root.name, cause=cause, remedy=remedy))
            return collector.scan()
        say_other_volumes(folder, collector, ("images", "labels"))
        add_pairs(collector, images, labels, (f"images/{{}}{endings[0]}.nii.gz", f"labels/{{}}{endings[1]}.nii.gz"))
        say_what_layout_reads(folder, collector, list(images))
        return collector.scan()
