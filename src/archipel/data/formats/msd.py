"""Format ``msd``: a task of the Medical Segmentation Decathlon, ``dataset.json`` with ``imagesTr`` and ``labelsTr``.

A 4-D image is one file with several modalities; each is a channel, named by ``modality`` in ``dataset.json``. The
names of labels come from there too. Images without labels (``imagesTs``) are not used.

Source: Simpson et al. 2019, "A large annotated medical image dataset", arXiv:1902.09063.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import ClassVar

from pydantic import JsonValue

from archipel.data.files import Folder
from archipel.data.formats.base import Options, VolumeFormat
from archipel.data.formats.descriptions import by_number, description, modalities_of
from archipel.data.formats.found_volumes import FoundVolumes, subject_id
from archipel.data.formats.nnunet import has_channel_files
from archipel.data.formats.volume_names import by_subject, nothing_found, say_other_volumes, stem_of, volumes_in
from archipel.data.samples import DataIssue, Scan, problem_of
from archipel.data.volumes import NIFTI
from archipel.vocabulary import BadInput

FILE = "dataset.json"


class MsdTask(VolumeFormat):
    """One task of the decathlon, or data laid out like one."""

    name: ClassVar[str] = "msd"
    title: ClassVar[str] = "Medical Segmentation Decathlon: dataset.json, imagesTr/, labelsTr/"

    def fits(self, folder: Folder) -> str:
        """A description that names modalities."""
        found = description(folder, FILE, []) if folder.has("imagesTr/*") else None
        is_one = found is not None and "modality" in found and not has_channel_files(folder)
        return "dataset.json names modalities and imagesTr/ holds images" if is_one else ""

    def scan(self, folder: Folder, options: Options) -> Scan:
        """Pair imagesTr with labelsTr by name, as the list in dataset.json says."""
        problems: list[DataIssue] = []
        content = description(folder, FILE, problems)
        try:
            modalities = modalities_of(FILE, "modality", by_number(FILE, "modality", (content or {}).get("modality")))
            labels = by_number(FILE, "labels", (content or {}).get("labels"))
        except BadInput as error:
            collector = FoundVolumes(folder)
            collector.problems += problems or [problem_of(error)]
            return collector.scan()
        collector = FoundVolumes(folder, labels)
        images = by_subject(volumes_in(folder, "imagesTr/*", NIFTI, collector.problems), collector)
        drawn = by_subject(volumes_in(folder, "labelsTr/*", NIFTI, collector.problems), collector)
        if not images and not drawn:
            nothing_found(folder, collector, "imagesTr/*.nii.gz")
        for subject in sorted(images.keys() | drawn.keys()):
            if subject not in images or subject not in drawn:
                what, where = ("label", "labelsTr") if subject in images else ("image", "imagesTr")
                cause = f"no {what} (looked for {where}/{subject}.nii.gz)"
                remedy = "add it or leave the subject out"
                collector.report(DataIssue(thing=subject, cause=cause, remedy=remedy), subject)
                continue
            places = dict.fromkeys(modalities, images[subject])
            channels = {name: place for place, name in enumerate(modalities)} if len(modalities) > 1 else None
            collector.add(subject, {**places, "label": drawn[subject]}, channels=channels)
        say_other_volumes(folder, collector, ("imagesTr", "labelsTr", "imagesTs", "labelsTs"))
        _compare(folder, collector, (content or {}).get("training"), set(images) | set(drawn))
        return collector.scan()


def _compare(folder: Folder, collector: FoundVolumes, training: JsonValue, there: set[str]) -> None:
    """Say where the list of cases and the files differ; a case is used when its files are there."""
    named = set()
    for entry in training if isinstance(training, list) else []:
        place = entry.get("image") if isinstance(entry, dict) else entry
        stem = stem_of(PurePosixPath(place).name, NIFTI) if isinstance(place, str) else None
        if stem:
            named.add(subject_id(stem))
    if not named:
        return
    for cases, cause, remedy in (
        (named - there, "names {} cases whose files are not there ({})", "add them, or use the dataset without them"),
        (
            there - named,
            "does not name {} cases whose files are there ({})",
            "they are used; list them in dataset.json, or remove the files",
        ),
    ):
        who = {one for one in cases if not folder.leaves_out(one)}
        if who:
            some = ", ".join(sorted(who)[:5]) + (", ..." if len(who) > 5 else "")
            collector.warn(DataIssue(thing=FILE, cause=cause.format(len(who), some), remedy=remedy))
