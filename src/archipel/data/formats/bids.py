"""Format ``bids``: a BIDS tree, its sessions, and segmentations from a folder of derivatives.

pybids knows what the parts of a name mean; the files themselves are listed as for every format, so that no link leads
out and a second scan opens only what changed. ``participants.tsv`` and the subjects' ``sessions.tsv`` become values.

Source: BIDS specification 1.10, https://bids-specification.readthedocs.io.
"""

from __future__ import annotations

import glob
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import PurePosixPath
from typing import ClassVar

from archipel.data.files import Folder
from archipel.data.formats.base import Options, VolumeFormat
from archipel.data.formats.bids_validation import validate
from archipel.data.formats.covariates import CovariateTable, compare, read_covariates, row_of
from archipel.data.formats.descriptions import description
from archipel.data.formats.found_volumes import FoundVolumes
from archipel.data.formats.volume_names import all_volumes, listed, volumes_in
from archipel.data.samples import LABEL, DataIssue, Scan, sample_name
from archipel.data.tables import COLUMN_OPTIONS
from archipel.data.volumes import NIFTI
from archipel.vocabulary import BadInput, Thing, Value

DESCRIPTION, PARTICIPANTS = "dataset_description.json", "participants.tsv"
Entities = Mapping[str, object]
"""The parts of a name by what the standard calls them; pybids gives texts, numbers and whether a part is there."""
_BESIDE = ("derivatives/", "sourcedata/", "rawdata/", "code/", "stimuli/")
_DRAWN = frozenset(("dseg", "mask", "label", "labels", "seg", "lesion"))
"""With what a segmentation's name ends: the standard's words, and those that hand-drawn ones have."""
_DRAWN_BY = ("desc-", "label-", "atlas-")


@dataclass
class Visit:
    """What was found of one session of one subject: images by suffix, and segmentations."""

    images: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))
    labels: list[tuple[str, str]] = field(default_factory=list)


class BidsTree(VolumeFormat):
    """The Brain Imaging Data Structure."""

    name: ClassVar[str] = "bids"
    title: ClassVar[str] = "BIDS: dataset_description.json, sub-*/[ses-*/]anat/*.nii.gz"
    options: ClassVar[Mapping[str, str]] = {
        "suffix": "the images that are modalities, e.g. T1w or T1w,T2w (by default all of the datatype)",
        "datatype": "the folder of the images (by default anat)",
        "entities": "of several images those with these parts in their names, e.g. run-1,acq-mprage; of others those "
        "that say nothing of run and acq",
        "derivatives": "the folder under derivatives/ with segmentations (by default the only one)",
        "label": "how the segmentations' names end, e.g. seg-manual or desc-manual_dseg",
        "validate": "no: skip the BIDS validator",
        **COLUMN_OPTIONS,
    }

    def fits(self, folder: Folder) -> str:
        """Folders of subjects with a description."""
        if not folder.has("sub-*/*/*.nii*", "sub-*/*/*/*.nii*"):
            return ""
        if folder.has(DESCRIPTION):
            return f"it holds {DESCRIPTION} and sub-* folders"
        images = [place.split("/") for place in all_volumes(folder, []) if not place.startswith("derivatives/")]
        is_named = all(len(parts) in (3, 4) and _is_where_its_name_says(parts[-1], "/".join(parts)) for parts in images)
        return "its names are those of BIDS" if images and is_named else ""

    def explains(self, folder: Folder) -> bool:
        """Whether every volume is a subject's, derived, or in a folder that the standard keeps for other things."""
        return all(place.startswith(("sub-", *_BESIDE)) for place in all_volumes(folder, []))

    def scan(self, folder: Folder, options: Options) -> Scan:
        """Every session with its images, segmentation and values, and what the validator says."""
        entities_of = _grammar()
        collector = FoundVolumes(folder)
        description(folder, DESCRIPTION, collector.problems)
        if not folder.has(DESCRIPTION):
            _say_how_to_describe(folder, collector)
        visits = _images(folder, options, collector, entities_of)
        _labels(folder, options, collector, entities_of, visits)
        suffixes = listed(options, "suffix") or tuple(
            sorted({one for visit in visits.values() for one in visit.images})
        )
        participants = read_covariates(
            folder,
            PARTICIPANTS,
            collector,
            key="participant_id",
            delimiter="\t",
            prefix="sub-",
            session="session_id",
            options=options,
        )
        subjects = sorted({subject for subject, _ in visits})
        if participants is not None:
            compare(collector, participants, subjects)
        there = [subject for subject in subjects if not folder.leaves_out(subject)]
        sessions = {subject: _sessions(folder, subject, collector, options) for subject in there}
        for (subject, session), visit in sorted(visits.items()):
            values = _of_participant(participants, subject, session, collector)
            values |= _of_session(sessions.get(subject), session)
            self._add(collector, (subject, session), visit, suffixes, options, values)
        if not visits:
            cause = f"has no image (looked in sub-*/[ses-*/]{_folder_name(options, 'datatype', 'anat')}/)"
            remedy = "name the root of the BIDS tree, or another suffix or datatype"
            collector.report(DataIssue(thing=folder.root.name, cause=cause, remedy=remedy))
        if options.get("validate", "yes") != "no" and visits:
            collector.problems += validate(folder.root, folder.leaves_out)
        return collector.scan()

    def _add(
        self,
        collector: FoundVolumes,
        key: tuple[str, str],
        visit: Visit,
        suffixes: tuple[str, ...],
        options: Options,
        values: Mapping[str, Value],
    ) -> None:
        name = sample_name(*key)

        def report(cause: str, remedy: str) -> None:
            collector.report(DataIssue(thing=name, cause=cause, remedy=remedy), key[0])

        files: dict[str, str] = {}
        for suffix in suffixes:
            places = visit.images.get(suffix, [])
            if len(places) > 1:
                names = ", ".join(PurePosixPath(place).name for _, place in places)
                return report(f"has {len(places)} {suffix} images ({names})", _choice([stem for stem, _ in places]))
            if places:
                files["image" if len(suffixes) == 1 else suffix] = places[0][1]
        if not files:
            if not visit.labels:
                return None
            return report(f"has a segmentation and no image ({', '.join(suffixes)})", "add it or leave the subject out")
        ending = options.get("label", "")
        if ending:
            stems = tuple(stem for suffix in suffixes for stem, _ in visit.images.get(suffix, []))
            own = [one for one in visit.labels if one[0].startswith(tuple(f"{stem}_" for stem in stems))]
            chosen = own or visit.labels
            if not chosen:
                looked = f"derivatives/{options.get('derivatives', '*')}/.../{stems[0]}_{ending}.nii.gz"
                return report(f"has no segmentation (looked for {looked})", "add it or leave the subject out")
            if len(chosen) > 1:
                names = ", ".join(PurePosixPath(place).name for _, place in chosen)
                return report(f"has {len(chosen)} segmentations ({names})", _longer_ending(chosen, ending))
            files[LABEL] = chosen[0][1]
        known = len(collector.problems)
        if not collector.add(key[0], files, key[1], values=values) and len(files.keys() - {LABEL}) > 1:
            alone = f"or read one of them alone: --option suffix={next(iter(suffixes))}"
            for at, problem in enumerate(collector.problems[known:], known):
                # What is said of the sample and not of a file is that its images are on two grids.
                if problem.thing == name:
                    remedy = f"{problem.remedy}, {alone}"
                    collector.problems[at] = problem.model_copy(update={"remedy": remedy})
        return None


def _choice(stems: Sequence[str]) -> str:
    """The option that chooses one of several images by a part of its name that the others do not have."""
    for stem in stems:
        others = {part for other in stems if other != stem for part in other.split("_")}
        own = [part for part in stem.split("_") if part not in others]
        if own:
            return f"choose one by a part of its name: --option entities={own[0]}"
    return "keep one of them"


def _longer_ending(chosen: Sequence[tuple[str, str]], ending: str) -> str:
    """The option that names one of several segmentations by more of its name's end."""
    stems = [stem for stem, _ in chosen]
    for stem in stems:
        parts = stem.split("_")
        for at in range(len(parts) - 1, 0, -1):
            longer = "_".join(parts[at:])
            if len(longer) > len(ending) and sum(one.endswith(f"_{longer}") for one in stems) == 1:
                return f"name one more exactly: --option label={longer}"
    return "keep one of them"


@cache
def _grammar() -> Callable[[str], Entities]:
    """What a place's parts mean, as pybids reads them. Raises BadInput when it is not installed."""
    try:
        from bids.layout import parse_file_entities
        from bids.layout.models import Config
    except ImportError as error:
        cause = "is needed to read BIDS and is not installed"
        raise BadInput("pybids", cause, "pip install archipel[bids]") from error
    configs = [Config.load(name) for name in ("bids", "derivatives")]
    return lambda place: dict(parse_file_entities(f"/{place}", config=configs))


def _say_how_to_describe(folder: Folder, collector: FoundVolumes) -> None:
    """Give the issue of a missing description the content of one."""
    text = f'{{"Name": "{folder.root.name}", "BIDSVersion": "1.10.0"}}'
    for at, problem in enumerate(collector.problems):
        if problem.cause == f"has no {DESCRIPTION}":
            remedy = f"name the root of the tree, or write the file there: {text}"
            collector.problems[at] = problem.model_copy(update={"remedy": remedy})


def _images(
    folder: Folder, options: Options, collector: FoundVolumes, entities_of: Callable[[str], Entities]
) -> dict[tuple[str, str], Visit]:
    datatype, wanted = _folder_name(options, "datatype", "anat"), listed(options, "suffix")
    parts = listed(options, "entities")
    visits: dict[tuple[str, str], Visit] = defaultdict(Visit)
    sidecars = _sidecars(folder, datatype)
    for pattern in (f"sub-*/{datatype}/*", f"sub-*/ses-*/{datatype}/*"):
        for stem, place in volumes_in(folder, pattern, NIFTI, collector.problems):
            means = entities_of(place)
            suffix = str(means.get("suffix", ""))
            if not suffix or not _is_where_its_name_says(stem, place):
                cause = "has a name that BIDS does not know"
                remedy = f"call it sub-<id>[_ses-<id>]_<suffix>.nii.gz in its subject's {datatype}/"
                collector.warn(DataIssue(thing=place, cause=cause, remedy=remedy), place.split("/")[0])
                continue
            if wanted and suffix not in wanted:
                continue
            visits[_key(means)].images[suffix].append((stem, place))
            if not _has_sidecar(place, stem, suffix, sidecars):
                cause = f"has no sidecar (looked for {stem}.json)"
                remedy = "export it again with dcm2niix, or use the image without the values of a sidecar"
                collector.warn(DataIssue(thing=place, cause=cause, remedy=remedy), place.split("/")[0])
    for visit in visits.values():
        for suffix, found in visit.images.items():
            visit.images[suffix] = _with_parts(found, parts)
    return visits


def _with_parts(found: list[tuple[str, str]], parts: Sequence[str]) -> list[tuple[str, str]]:
    """The images whose names have all of these parts; where none has, those that have no part of the same kind: a
    session with one image often does not number its run."""
    exact = [one for one in found if set(parts) <= set(one[0].split("_"))]
    kinds = {part.split("-")[0] for part in parts}
    return exact or [one for one in found if kinds.isdisjoint(part.split("-")[0] for part in one[0].split("_"))]


def _labels(
    folder: Folder,
    options: Options,
    collector: FoundVolumes,
    entities_of: Callable[[str], Entities],
    visits: dict[tuple[str, str], Visit],
) -> None:
    ending, named = options.get("label", ""), _folder_name(options, "derivatives", "")
    there = [] if named else folder.folders("derivatives/*", collector.problems if ending else [])
    pipelines = [named] if named else [PurePosixPath(place).name for place in there]
    if not ending:
        return _point_out(folder, pipelines, collector)
    if len(pipelines) != 1:
        cause = f"has {len(pipelines)} folders in derivatives/ ({', '.join(pipelines) or 'none'})"
        remedy = f"name one, for example --option derivatives={pipelines[0]}" if pipelines else "put the labels there"
        return collector.report(DataIssue(thing=folder.root.name, cause=cause, remedy=remedy))
    base = f"derivatives/{pipelines[0]}"
    before = len(collector.problems)
    some = False
    for stem, place in _derived(folder, base, collector.problems):
        if stem.endswith(f"_{ending}"):
            some = True
            means = entities_of(place)
            visits[_key(means)].labels.append((stem, place))
    if not some and len(collector.problems) == before:
        cause = f"holds no segmentation (looked for sub-*/**/*_{ending}.nii.gz)"
        there = sorted({end for stem, _ in _derived(folder, base, []) if (end := _ending(stem))})
        other = f"name an ending that is there, for example --option label={there[0]}" if there else ""
        remedy = other or "leave the option label out to have the images alone, or name another derivatives folder"
        collector.report(DataIssue(thing=base, cause=cause, remedy=remedy))
    return None


def _derived(folder: Folder, base: str, problems: list[DataIssue]) -> Iterator[tuple[str, str]]:
    within = glob.escape(base)
    for pattern in (f"{within}/sub-*/*/*", f"{within}/sub-*/ses-*/*/*"):
        yield from volumes_in(folder, pattern, NIFTI, problems)


def _point_out(folder: Folder, pipelines: Sequence[str], collector: FoundVolumes) -> None:
    """Warn of files that look like segmentations if no option names the labels."""
    for pipeline in pipelines:
        base = f"derivatives/{pipeline}"
        endings = Counter(_ending(stem) for stem, _ in _derived(folder, base, []))
        del endings[""]
        if endings:
            ordered = sorted(endings, key=lambda ending: (-endings[ending], ending))
            names = ", ".join(f"*_{ending}.nii.gz" for ending in ordered[:5]) + (", ..." if len(ordered) > 5 else "")
            cause = f"holds {endings.total()} segmentations {names}, and none is taken"
            where = f" --option derivatives={pipeline}" if len(pipelines) > 1 else ""
            remedy = f"add the dataset with --option label={ordered[0]}{where} to have them as labels"
            collector.warn(DataIssue(thing=base, cause=cause, remedy=remedy))


def _ending(stem: str) -> str:
    """How a segmentation's name ends, as the option ``label`` has it; "" for what does not look like one."""
    *before, last = stem.split("_")
    if last.split("-")[0] not in _DRAWN:
        return ""
    return f"{before[-1]}_{last}" if before and before[-1].startswith(_DRAWN_BY) else last


def _folder_name(options: Options, name: str, usual: str) -> str:
    value = options.get(name, usual)
    if name in options and (value in ("", ".", "..") or any(letter in value for letter in "/*?[]")):
        remedy = f"give the name alone, without / and without *, as in {name}={usual or 'labels'}"
        raise BadInput(
            Thing.worded(f"option {name}={value}", option=name, value=value), "is not a name of a folder", remedy
        )
    return value


def _key(means: Entities) -> tuple[str, str]:
    session = means.get("session")
    return f"sub-{means.get('subject')}", f"ses-{session}" if session else ""


def _is_where_its_name_says(stem: str, place: str) -> bool:
    """Whether the name begins with the folders' subject and session; pybids uses the folders alone."""
    within = [part for part in place.split("/")[:-1] if part.startswith(("sub-", "ses-"))]
    named = [part for part in stem.split("_") if part.startswith(("sub-", "ses-"))]
    return named == within and stem.startswith("_".join(within) + "_")


def _sidecars(folder: Folder, datatype: str) -> frozenset[str]:
    patterns = ("*.json", "sub-*/*.json", "sub-*/ses-*/*.json", f"sub-*/{datatype}/*.json")
    return frozenset(
        place for pattern in (*patterns, f"sub-*/ses-*/{datatype}/*.json") for place in folder.files(pattern, [])
    )


def _has_sidecar(place: str, stem: str, suffix: str, sidecars: frozenset[str]) -> bool:
    """Whether a JSON file describes the image: its own, or by inheritance one above it with fewer parts in its name."""
    parts = set(stem.split("_"))
    above = [parent.as_posix() for parent in PurePosixPath(place).parents]
    names = {f"{stem}.json", f"{suffix}.json", f"{place.split('/', maxsplit=1)[0]}_{suffix}.json"}
    if any(f"{where}/{name}".removeprefix("./") in sidecars for where in above for name in names):
        return True
    inherited = (one for one in sidecars if "/" not in one and one.endswith(f"_{suffix}.json"))
    return any(set(PurePosixPath(one).stem.split("_")) <= parts for one in inherited)


def _sessions(folder: Folder, subject: str, collector: FoundVolumes, options: Options) -> CovariateTable | None:
    place = f"{subject}/{subject}_sessions.tsv"
    return read_covariates(folder, place, collector, key="session_id", delimiter="\t", subject=subject, options=options)


def _of_participant(
    table: CovariateTable | None, subject: str, session: str, collector: FoundVolumes
) -> dict[str, Value]:
    """The values of the subject's row, or of its session's where the table has a row for each."""
    if table is None:
        return {}
    sessions = (session, session.removeprefix("ses-"))
    keys = (row_of(subject, one) for one in sessions if one)
    row = next((key for key in keys if key in table.rows), None)
    return dict(table.rows[row] if row is not None else table.of(subject, collector))


def _of_session(table: CovariateTable | None, session: str) -> Mapping[str, Value]:
    return table.rows.get(session, {}) if table is not None and session else {}
