"""Format ``nnunet``: nnU-Net version 2, ``dataset.json`` with one file ``imagesTr/<case>_0000.nii.gz`` per channel.

Channels are modalities, named by ``channel_names``; the names of labels come from ``labels``. Images without labels
(``imagesTs``) are not used, and regions made of several labels are the plan's matter.

Source: nnU-Net documentation, dataset format of version 2 (MIC-DKFZ).
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import ClassVar

from archipel.data.files import Folder
from archipel.data.formats.base import Options, VolumeFormat
from archipel.data.formats.descriptions import bad_description, by_number, description, modalities_of
from archipel.data.formats.found_volumes import FoundVolumes, subject_id
from archipel.data.formats.volume_names import by_subject, name_subjects, nothing_found, volumes_in
from archipel.data.samples import DataIssue, Scan, problem_of
from archipel.data.volumes import SUFFIXES
from archipel.vocabulary import BadInput, JsonObject

FILE = "dataset.json"
_CHANNEL = re.compile(r"(.+)_(\d{4})", re.DOTALL)


class NnunetRaw(VolumeFormat):
    """A raw dataset as nnU-Net reads it."""

    name: ClassVar[str] = "nnunet"
    title: ClassVar[str] = "nnU-Net v2: dataset.json, imagesTr/case_0000.nii.gz, labelsTr/"

    def fits(self, folder: Folder) -> str:
        """A description that names channels."""
        found = description(folder, FILE, []) if folder.has("imagesTr/*") else None
        return "dataset.json names channels and imagesTr/ holds images" if found and "channel_names" in found else ""

    def scan(self, folder: Folder, options: Options) -> Scan:
        """Each case with all its channels and its label."""
        problems: list[DataIssue] = []
        content = description(folder, FILE, problems)
        try:
            modalities, labels, ending = _settled(content or {})
        except BadInput as error:
            collector = FoundVolumes(folder)
            collector.problems += problems or [problem_of(error)]
            return collector.scan()
        collector = FoundVolumes(folder, labels)
        images: dict[str, dict[int, str]] = defaultdict(dict)
        for stem, place in volumes_in(folder, "imagesTr/*", (ending,), collector.problems):
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
        drawn = by_subject(volumes_in(folder, "labelsTr/*", (ending,), collector.problems), collector)
        if not images and not drawn:
            nothing_found(folder, collector, f"imagesTr/*_0000{ending}")
        for subject in sorted(images.keys() | drawn.keys()):
            wanted = {name: images.get(subject, {}).get(place, "") for place, name in enumerate(modalities)}
            missing = [
                f"imagesTr/{subject}_{place:04}{ending}" for place, name in enumerate(modalities) if not wanted[name]
            ] + ([] if subject in drawn else [f"labelsTr/{subject}{ending}"])
            beyond = sorted(set(images.get(subject, {})) - set(range(len(modalities))))
            if missing:
                cause = f"lacks some of its files (looked for {', '.join(missing)})"
                collector.report(
                    DataIssue(thing=subject, cause=cause, remedy="add them or exclude the subject"), subject
                )
            elif beyond:
                cause = f"has channel {beyond[0]:04} where channel_names has {len(modalities)}"
                collector.report(DataIssue(thing=subject, cause=cause, remedy=f"fix {FILE} or move it away"), subject)
            else:
                collector.add(subject, {**wanted, "label": drawn[subject]})
        name_subjects(collector, *(f"_{channel:04}" for channel in range(len(modalities))), "")
        return collector.scan()


def _settled(told: JsonObject) -> tuple[list[str], dict[int, str], str]:
    """Modalities in order, label names by value, and how files end. Raises BadInput."""
    modalities = modalities_of(FILE, "channel_names", by_number(FILE, "channel_names", told.get("channel_names")))
    labels = by_number(FILE, "labels", told.get("labels"))
    ending = told.get("file_ending")
    if ending not in SUFFIXES:
        raise bad_description(FILE, f"its file_ending {ending!r} is not one of {', '.join(SUFFIXES)}")
    return modalities, labels, str(ending)
