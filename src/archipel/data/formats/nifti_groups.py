"""Format ``nifti-groups``: a folder for each group of subjects (``control_group/``, ``disease_group/``).

The folder's name is the sample's value ``group``. Images are in it directly, named by the subject, or in a folder for
each subject; there a subject may have several, each a modality named by the file.
"""

from __future__ import annotations

import glob
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import ClassVar

from archipel.data.files import Folder
from archipel.data.formats.base import Options, VolumeFormat
from archipel.data.formats.found_volumes import FoundVolumes, subject_id
from archipel.data.formats.name_words import IMAGE_WORDS, LABEL_WORDS, SPLIT_WORDS, has_any_of
from archipel.data.formats.volume_names import all_volumes, listed, nothing_found, stem_of, volumes_in
from archipel.data.samples import DataIssue, Scan
from archipel.data.volumes import NIFTI
from archipel.vocabulary import BadInput, Thing

GROUP = "group"
"""The value of a sample that is its folder's name."""
_NOT_GROUPS = IMAGE_WORDS | LABEL_WORDS | SPLIT_WORDS | {"derivatives"}
_MOST_GROUPS = 12


class NiftiGroups(VolumeFormat):
    """One folder per group."""

    name: ClassVar[str] = "nifti-groups"
    title: ClassVar[str] = "a folder of *.nii.gz for each group: control_group/, disease_group/"
    options: ClassVar[Mapping[str, str]] = {
        "groups": "the folders that are groups, with commas between them (by default all)",
        "names": "per-folder: a name is a patient within its folder only, so that AD/001 and CN/001 are two",
    }

    def fits(self, folder: Folder) -> str:
        """Two folders or more with volumes in them, none of which belongs to another layout."""
        if folder.has("dataset.json", "dataset_description.json"):
            return ""
        places = all_volumes(folder, [])
        groups = sorted({place.split("/")[0] for place in places if "/" in place})
        if not 2 <= len(groups) <= _MOST_GROUPS or not _explains_all(places, groups):
            return ""
        return f"{', '.join(groups[:4])} hold NIfTI volumes"

    def scan(self, folder: Folder, options: Options) -> Scan:
        """Each subject with its group; one who is in two groups is in none."""
        collector = FoundVolumes(folder)
        asked, is_per_folder = listed(options, "groups"), _is_per_folder(options)
        groups = asked or tuple(folder.folders("*", collector.problems))
        images: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
        for group in groups:
            before = len(images)
            for stem, place in volumes_in(folder, f"{glob.escape(group)}/*", NIFTI, collector.problems):
                images[_patient(stem, group, is_per_folder), group].append(("image", place))
            for stem, place in volumes_in(folder, f"{glob.escape(group)}/*/*", NIFTI, collector.problems):
                name = place.split("/")[-2]
                modality = subject_id(stem).removeprefix(subject_id(name)).lstrip("_-. ") or "image"
                images[_patient(name, group, is_per_folder), group].append((modality, place))
            if asked and len(images) == before:
                cause = "is named as a group and holds no volume"
                collector.report(DataIssue(thing=group, cause=cause, remedy="add its images or fix the option groups"))
        if not images:
            nothing_found(folder, collector, "*/*.nii.gz and */*/*.nii.gz")
        member = defaultdict(list)
        for subject, group in images:
            member[subject].append(group)
        several = any(len({name for name, _ in files}) > 1 for files in images.values())
        for subject, group in sorted(images):
            if len(member[subject]) > 1:
                cause = f"is in {len(member[subject])} groups ({', '.join(sorted(member[subject]))})"
                remedy = (
                    "if they are of one patient, keep the files in one of them; if each folder counts its own "
                    "patients, add the dataset with --format nifti-groups --option names=per-folder"
                )
                collector.report(DataIssue(thing=subject, cause=cause, remedy=remedy), subject)
                continue
            files: dict[str, str] = {}
            for name, place in images[subject, group]:
                modality = name if several else "image"
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


def _is_per_folder(options: Options) -> bool:
    """Whether a name is a patient within its folder only. Raises BadInput for another value of the option."""
    value = options.get("names", "per-folder")
    if value != "per-folder":
        thing = Thing.worded(f"option names={value}", option="names", value=value)
        raise BadInput(thing, "is not valid", "give names=per-folder, or leave it out")
    return "names" in options


def _patient(name: str, group: str, is_per_folder: bool) -> str:
    own = subject_id(name)
    return f"{subject_id(group)}_{own}" if is_per_folder else own


def _explains_all(places: Sequence[str], groups: Sequence[str]) -> bool:
    """Whether every volume is a subject's in a group: a group is not a patient's folder, nor a part of a layout."""
    if _NOT_GROUPS & {group.lower() for group in groups} or all(group.startswith("sub-") for group in groups):
        return False
    subjects: dict[str, set[str]] = defaultdict(set)
    for place in places:
        if "/" not in place:
            return False
        group, *folders, name = place.split("/")
        stem = stem_of(name, NIFTI)
        if len(folders) > 1 or stem is None or has_any_of(stem, LABEL_WORDS):
            return False
        subject = folders[0] if folders else stem
        if folders and has_any_of(subject, LABEL_WORDS):
            return False
        # A patient's folder gives its name to its files, or holds files that are called as in every other.
        rest = stem.removeprefix(group).strip("_-. ") if stem.startswith(group) else ""
        if rest and not (rest.isdigit() and not any(map(str.isdigit, group))):
            return False
        subjects[subject].add(group)
    everywhere = sum(len(held) == len(groups) for held in subjects.values())
    return 2 * everywhere <= len(subjects)
