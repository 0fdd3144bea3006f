"""Format ``nifti-groups``: a folder for each group of subjects (``control_group/``, ``disease_group/``).

The folder's name is the sample's value ``group``. Images are in it directly, named by the subject, or in a folder for
each subject; there a subject may have several, each a modality named by the file.
"""

from __future__ import annotations

import glob
from collections import defaultdict
from collections.abc import Mapping
from typing import ClassVar

from archipel.data.files import Folder
from archipel.data.formats.base import Options, VolumeFormat
from archipel.data.formats.found_volumes import FoundVolumes, subject_id
from archipel.data.formats.volume_names import listed, nothing_found, volumes_in
from archipel.data.samples import DataIssue, Scan
from archipel.data.volumes import NIFTI

GROUP = "group"
"""The value of a sample that is its folder's name."""
_NOT_GROUPS = frozenset(("images", "labels", "imagesTr", "labelsTr", "imagesTs", "labelsTs", "derivatives"))


class NiftiGroups(VolumeFormat):
    """One folder per group."""

    name: ClassVar[str] = "nifti-groups"
    title: ClassVar[str] = "a folder of *.nii.gz for each group: control_group/, disease_group/"
    options: ClassVar[Mapping[str, str]] = {
        "groups": "the folders that are groups, with commas between them (by default all)"
    }

    def fits(self, folder: Folder) -> str:
        """Two folders or more with volumes in them, none of which belongs to another layout."""
        if folder.has("dataset.json", "dataset_description.json"):
            return ""
        groups = [
            place
            for place in folder.folders("*", [])
            if folder.has(
                *(f"{glob.escape(place)}/{inside}" for inside in ("*.nii.gz", "*.nii", "*/*.nii.gz", "*/*.nii"))
            )
        ]
        if len(groups) < 2 or _NOT_GROUPS & set(groups) or all(place.startswith("sub-") for place in groups):
            return ""
        return f"{', '.join(groups[:4])} hold NIfTI volumes" if len(groups) <= 12 else ""

    def scan(self, folder: Folder, options: Options) -> Scan:
        """Each subject with its group; one who is in two groups is in none."""
        collector = FoundVolumes(folder)
        asked = listed(options, "groups")
        groups = asked or tuple(folder.folders("*", collector.problems))
        images: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
        for group in groups:
            before = len(images)
            for stem, place in volumes_in(folder, f"{glob.escape(group)}/*", NIFTI, collector.problems):
                images[subject_id(stem), group].append(("image", place))
            for stem, place in volumes_in(folder, f"{glob.escape(group)}/*/*", NIFTI, collector.problems):
                name = place.split("/")[-2]
                images[subject_id(name), group].append((stem, place))
            if asked and len(images) == before:
                cause = "is named as a group and holds no volume"
                collector.report(DataIssue(thing=group, cause=cause, remedy="add its images or fix the option groups"))
        if not images:
            nothing_found(folder, collector, "*/*.nii.gz and */*/*.nii.gz")
        member = defaultdict(list)
        for subject, group in images:
            member[subject].append(group)
        several = any(len({stem for stem, _ in files}) > 1 for files in images.values())
        for subject, group in sorted(images):
            if len(member[subject]) > 1:
                cause = f"is in {len(member[subject])} groups ({', '.join(sorted(member[subject]))})"
                collector.report(DataIssue(thing=subject, cause=cause, remedy="keep the files in one of them"), subject)
                continue
            files: dict[str, str] = {}
            for stem, place in images[subject, group]:
                modality = _modality(subject_id(stem), subject) if several else "image"
                if modality in files:
                    cause = f"two files for {modality} ({files[modality]}, {place})"
                    collector.report(DataIssue(thing=subject, cause=cause, remedy="keep one of them"), subject)
                    break
                files[modality] = place
            else:
                collector.add(subject, files, values={GROUP: subject_id(group)})
        found = collector.scan()
        columns = {
            name: column.model_copy(update={"chosen_by": "groups"}) if name == GROUP else column
            for name, column in found.schema.columns.items()
        }
        return Scan(found.samples, found.problems, found.schema.model_copy(update={"columns": columns}))


def _modality(stem: str, subject: str) -> str:
    """What a file's name has beside the subject's."""
    return stem.removeprefix(subject).lstrip("_-. ") or "image"
