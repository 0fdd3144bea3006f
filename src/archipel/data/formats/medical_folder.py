"""Format ``medical-folder``: ``<subject>/<modality>/<one volume>`` with ``demographics.csv`` beside the subjects.

A modality may be missing for a subject. The table's row of a subject becomes the sample's values.
"""

from __future__ import annotations

import glob
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import ClassVar

from archipel.data.files import Folder
from archipel.data.formats.base import Options, VolumeFormat
from archipel.data.formats.covariates import compare, read_covariates
from archipel.data.formats.found_volumes import FoundVolumes, subject_id
from archipel.data.formats.name_words import IMAGE_WORDS, LABEL_WORDS, SPLIT_WORDS, are_patients
from archipel.data.formats.volume_names import all_volumes, listed, nothing_found, stem_of, volumes_in
from archipel.data.samples import LABEL, DataIssue, Scan
from archipel.data.tables import COLUMN_OPTIONS
from archipel.data.volumes import SUFFIXES
from archipel.vocabulary.counting import abbreviate

TABLE = "demographics.csv"


class MedicalFolder(VolumeFormat):
    """One folder per subject, with one folder per modality."""

    name: ClassVar[str] = "medical-folder"
    title: ClassVar[str] = "demographics.csv with sub-01/T1/*.nii.gz, sub-01/T2/*.nii.gz"
    options: ClassVar[Mapping[str, str]] = {
        "table": f"the table of the subjects (by default {TABLE})",
        "id_column": "the table's column with the names of the subjects' folders (the first one)",
        "modalities": "the folders that are modalities, with commas between them (by default all)",
        "label": "the folder in each subject's that holds the segmentation",
        **COLUMN_OPTIONS,
    }

    def fits(self, folder: Folder) -> str:
        """Folders of the same names in the folders of subjects, with volumes in them."""
        if folder.has("dataset_description.json", "dataset.json"):
            return ""
        folders: Counter[str] = Counter()
        for place in folder.files("*/*/*", []):
            if stem_of(place, SUFFIXES):
                folders[place.split("/")[1]] += 1
        if not folders or not (folder.has(TABLE) or _explains_all(all_volumes(folder, []))):
            return ""
        names = [name for name, _ in folders.most_common(3)]
        if folder.has(TABLE):
            return f"it holds {TABLE} and folders with {', '.join(names)} in them"
        return f"folders hold {', '.join(names)} each" if folders[names[0]] > 1 else ""

    def scan(self, folder: Folder, options: Options) -> Scan:
        """Each subject with the modalities it has."""
        collector = FoundVolumes(folder)
        label, asked = options.get("label", ""), listed(options, "modalities")
        volumes_of: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for _, place in volumes_in(folder, "*/*/*", SUFFIXES, collector.problems):
            subject, modality, _ = place.split("/")
            if modality == label or not asked or modality in asked:
                volumes_of[subject_id(subject)][subject_id(modality)].append(place)
        modalities = sorted({name for parts in volumes_of.values() for name in parts} - {label})
        for place in folder.folders("*", []):
            if subject_id(place) not in volumes_of:
                cause = "holds no volume (looked in its folders)"
                remedy = "add the volumes or remove the folder"
                collector.warn(DataIssue(thing=place, cause=cause, remedy=remedy), subject_id(place))
        if not volumes_of:
            nothing_found(folder, collector, "*/*/*.nii.gz")
        where = options.get("table", TABLE)
        table = read_covariates(folder, where, collector, key=options.get("id_column", ""), options=options)
        if table is None and volumes_of and not folder.has(glob.escape(where)):
            cause = f"has no {where}"
            remedy = "add it, name another with the option table, or use the volumes without values"
            collector.warn(DataIssue(thing=folder.root.name, cause=cause, remedy=remedy))
        if table is not None:
            compare(collector, table, list(volumes_of))
        for subject in sorted(volumes_of):
            parts = volumes_of[subject]
            twice = {name: places for name, places in parts.items() if len(places) > 1}
            if twice:
                name, places = next(iter(sorted(twice.items())))
                cause = f"has {len(places)} volumes in {name} ({abbreviate(place.split('/')[2] for place in places)})"
                collector.report(DataIssue(thing=subject, cause=cause, remedy="keep one of them"), subject)
            elif label and (label not in parts or len(parts) == 1):
                cause = f"has no volume in {label}" if label not in parts else "has a label and no image"
                remedy = "add it or leave the subject out"
                collector.report(DataIssue(thing=subject, cause=cause, remedy=remedy), subject)
            else:
                roles = {label: LABEL} | ({modalities[0]: "image"} if len(modalities) == 1 else {})
                files = {roles.get(name, name): places[0] for name, places in sorted(parts.items())}
                collector.add(subject, files, values=table.of(subject, collector) if table else None)
        return collector.scan()


def _explains_all(places: Sequence[str]) -> bool:
    """Whether every volume is alone in a folder of a modality, which several subjects have, and none is a label's."""
    found = [place.split("/") for place in places]
    if any(len(parts) != 3 for parts in found):
        return False
    subjects = {subject.lower() for subject, _, _ in found}
    modalities = Counter(modality for _, modality, _ in found)
    return (
        not subjects & (IMAGE_WORDS | LABEL_WORDS | SPLIT_WORDS | {"derivatives"})
        and not {modality.lower() for modality in modalities} & LABEL_WORDS
        and max(Counter((subject, modality) for subject, modality, _ in found).values()) == 1
        and 2 * sum(count for count in modalities.values() if count > 1) > modalities.total()
        and not are_patients(modalities, subjects)
    )
