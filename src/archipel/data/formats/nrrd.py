"""Format ``nrrd``: pairs of NRRD or MetaImage files, ``<subject>_image.nrrd`` with ``<subject>_label.nrrd``.

They are in the dataset's folder itself, or in ``images/`` and ``labels/`` under the same names. Headers that keep
their voxels in another file (``.nhdr``, ``.mhd``) are named: a sample's file is one file, which is hashed whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from archipel.data.files import Folder
from archipel.data.formats.base import Options, VolumeFormat
from archipel.data.formats.found_volumes import FoundVolumes
from archipel.data.formats.layout_tables import say_what_layout_reads
from archipel.data.formats.nifti_pairs import are_pairs
from archipel.data.formats.volume_names import (
    add_pairs,
    all_volumes,
    by_subject,
    name_subjects,
    nothing_found,
    stem_of,
    volumes_in,
)
from archipel.data.samples import DataIssue, Scan
from archipel.data.volumes import ITK


class NrrdPairs(VolumeFormat):
    """Images and labels as research workstations export them."""

    name: ClassVar[str] = "nrrd"
    title: ClassVar[str] = "*_image.nrrd with *_label.nrrd, or images/ with labels/; .nrrd and .mha"
    options: ClassVar[Mapping[str, str]] = {
        "image_suffix": "what images' names have after the subject's id (by default _image when all files are "
        "in one folder)",
        "label_suffix": "what labels' names have after the subject's id (by default _label when all files are "
        "in one folder)",
    }

    def fits(self, folder: Folder) -> str:
        """Volumes of these kinds, in the folder or in images/."""
        for where in ("", "images/"):
            if folder.has(*(f"{where}*{suffix}" for suffix in ITK)):
                return f"{where or 'it'} holds NRRD or MetaImage volumes"
        return ""

    def explains(self, folder: Folder) -> bool:
        """Whether every volume is an image or a label by its name or its folder."""
        places = all_volumes(folder, [])
        flat = [stem_of(place, ITK) for place in places if "/" not in place]
        if not flat:
            return are_pairs(places, ITK)
        return len(flat) == len(places) and all(stem and stem.endswith(("_image", "_label")) for stem in flat)

    def scan(self, folder: Folder, options: Options) -> Scan:
        """Pair images with labels by their names."""
        collector = FoundVolumes(folder)
        flat = volumes_in(folder, "*", ITK, collector.problems)
        endings = tuple(options.get(f"{one}_suffix", f"_{one}" if flat else "") for one in ("image", "label"))
        images, labels = endings[0], endings[1]
        if flat:
            named = [(stem, place) for stem, place in flat if stem.endswith(images)]
            drawn = [(stem, place) for stem, place in flat if stem.endswith(labels) and (stem, place) not in named]
            for stem, place in flat:
                if (stem, place) not in named and (stem, place) not in drawn:
                    cause = f"has a name that ends neither with {images} nor with {labels}"
                    collector.report(DataIssue(thing=place, cause=cause, remedy="rename it, or set image_suffix"))
            looked = f"{{}}{images}", f"{{}}{labels}"
        else:
            named = volumes_in(folder, "images/*", ITK, collector.problems)
            drawn = volumes_in(folder, "labels/*", ITK, collector.problems)
            looked = f"images/{{}}{images}", f"labels/{{}}{labels}"
        name_subjects(collector, images, labels)
        if not named and not drawn:
            nothing_found(folder, collector, "*.nrrd, *.mha and images/")
        found = by_subject(named, collector, images)
        add_pairs(collector, found, by_subject(drawn, collector, labels), looked)
        say_what_layout_reads(folder, collector, list(found))
        return collector.scan()
