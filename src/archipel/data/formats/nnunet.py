"""Format ``nnunet``: nnU-Net, ``dataset.json`` with one file ``imagesTr/<case>_0000.nii.gz`` per channel.

Channels are modalities, named by ``channel_names``, in version 1 by ``modality``; the names of labels come from
``labels``. Images without labels (``imagesTs``) are not used, and regions made of several labels are the plan's matter.
2-D images (``"file_ending": ".png"``) are volumes of one slice; one file may have three channels, its colours.

Source: nnU-Net documentation, dataset formats of versions 1 and 2 (MIC-DKFZ).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import ClassVar

from archipel.data.files import Folder
from archipel.data.formats.base import Options, VolumeFormat
from archipel.data.formats.descriptions import bad_description, by_number, description, modalities_of
from archipel.data.formats.found_volumes import FoundVolumes, subject_id
from archipel.data.formats.volume_names import by_subject, name_subjects, nothing_found, say_other_volumes, volumes_in
from archipel.data.samples import DataIssue, Scan, problem_of
from archipel.data.volumes import NIFTI, PICTURES, SUFFIXES
from archipel.vocabulary import BadInput, ErrorCode, JsonObject

FILE = "dataset.json"
_LOSSY = (".jpg", ".jpeg")
_COLOURS = 3
_CHANNEL = re.compile(r"(.+)_(\d{4})", re.DOTALL)


class NnunetRaw(VolumeFormat):
    """A raw dataset as nnU-Net reads it."""

    name: ClassVar[str] = "nnunet"
    title: ClassVar[str] = "nnU-Net v1 and v2: dataset.json, imagesTr/case_0000.nii.gz (or .png), labelsTr/"

    def fits(self, folder: Folder) -> str:
        """A description that names channels."""
        found = description(folder, FILE, []) if folder.has("imagesTr/*") else None
        if found and ("channel_names" in found or ("modality" in found and has_channel_files(folder))):
            return "dataset.json names channels and imagesTr/ holds images"
        return ""

    def scan(self, folder: Folder, options: Options) -> Scan:
        """Each case with all its channels and its label."""
        problems: list[DataIssue] = []
        content = description(folder, FILE, problems)
        try:
            modalities, labels, endings = _settled(content or {})
        except BadInput as error:
            collector = FoundVolumes(folder)
            collector.problems += problems or [problem_of(error)]
            return collector.scan()
        collector = FoundVolumes(folder, labels)
        images: dict[str, dict[int, str]] = defaultdict(dict)
        ending = endings[0]
        for stem, place in volumes_in(folder, "imagesTr/*", endings, collector.problems):
            match = _CHANNEL.fullmatch(stem)
            if match is None:
                cause = "has a name that does not end with a channel"
                collector.report(DataIssue(thing=place, cause=cause, remedy=f"call it <case>_0000{ending}"))
                continue
            case, channel = subject_id(match[1]), int(match[2])
            if channel in images[case]:
                cause = f"two files for channel {match[2]} ({images[case][channel]}, {place})"
                collector.report(DataIssue(thing=case, cause=cause, remedy="keep one of them"), case)
            images[case][channel] = place
        drawn = by_subject(volumes_in(folder, "labelsTr/*", endings, collector.problems), collector)
        if not images and not drawn:
            nothing_found(folder, collector, f"imagesTr/*_0000{ending}")
        for subject in sorted(images.keys() | drawn.keys()):
            channels = _colours(images.get(subject, {}), modalities, ending)
            if channels:
                images[subject] = dict.fromkeys(range(len(modalities)), images[subject][0])
            wanted = {name: images.get(subject, {}).get(place, "") for place, name in enumerate(modalities)}
            missing = [
                f"imagesTr/{subject}_{place:04}{ending}" for place, name in enumerate(modalities) if not wanted[name]
            ] + ([] if subject in drawn else [f"labelsTr/{subject}{ending}"])
            beyond = sorted(set(images.get(subject, {})) - set(range(len(modalities))))
            if missing:
                cause = f"lacks some of its files (looked for {', '.join(missing)})"
                collector.report(
                    DataIssue(thing=subject, cause=cause, remedy="add them or leave the subject out"), subject
                )
            elif beyond:
                cause = f"has channel {beyond[0]:04} where {FILE} names {len(modalities)}"
                collector.report(DataIssue(thing=subject, cause=cause, remedy=f"fix {FILE} or move it away"), subject)
            else:
                collector.add(subject, {**wanted, "label": drawn[subject]}, channels=channels)
        say_other_volumes(folder, collector, ("imagesTr", "labelsTr", "imagesTs", "labelsTs"))
        name_subjects(collector, *(f"_{channel:04}" for channel in range(len(modalities))), "")
        return collector.scan()


def _colours(images: Mapping[int, str], modalities: Sequence[str], ending: str) -> dict[str, int] | None:
    """The channels in the one picture of a case whose description names its three colours; None for all others."""
    if ending not in PICTURES or len(modalities) != _COLOURS or set(images) != {0}:
        return None
    return {name: place for place, name in enumerate(modalities)}


def has_channel_files(folder: Folder) -> bool:
    """Whether images are named by case and channel, as labels show that are named by the case."""
    images = {stem for stem, _ in volumes_in(folder, "imagesTr/*", SUFFIXES, [])}
    cases = {match[1] for stem in images if (match := _CHANNEL.fullmatch(stem))}
    labels = {stem for stem, _ in volumes_in(folder, "labelsTr/*", SUFFIXES, [])}
    return len(labels & cases) > len(labels & images)


def _settled(told: JsonObject) -> tuple[list[str], dict[int, str], tuple[str, ...]]:
    """Modalities in order, label names by value, and how files may end. Raises BadInput."""
    key = "channel_names" if "channel_names" in told or "modality" not in told else "modality"
    modalities = modalities_of(FILE, key, by_number(FILE, key, told.get(key)))
    labels = by_number(FILE, "labels", told.get("labels"))
    if key == "modality" and "file_ending" not in told:
        return modalities, labels, NIFTI
    ending = told.get("file_ending")
    if ending in _LOSSY:
        cause = f"its file_ending {ending!r} means pictures that are not stored exactly, which labels must be"
        remedy = 'store images and labels as .png, and write "file_ending": ".png"'
        raise BadInput(FILE, cause, remedy, code=ErrorCode.BAD_DATA)
    if ending not in (*SUFFIXES, *PICTURES):
        raise bad_description(FILE, f"its file_ending {ending!r} is not one of {', '.join((*SUFFIXES, *PICTURES))}")
    return modalities, labels, (str(ending),)
