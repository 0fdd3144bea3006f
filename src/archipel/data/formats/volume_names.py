"""Names of volume files: which subject a file belongs to, and two files that claim the same one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from archipel.data.files import Folder, LeavesOut
from archipel.data.formats.base import Options
from archipel.data.formats.found_volumes import FoundVolumes, subject_id
from archipel.data.samples import DataIssue
from archipel.data.volumes import SUFFIXES
from archipel.vocabulary.counting import abbreviate, pluralise


def stem_of(place: str, suffixes: Sequence[str]) -> str | None:
    """The file's name without its suffix; None when it is not a volume, or nothing is left."""
    name = place.rpartition("/")[2]
    lower = name.lower()
    for suffix in suffixes:
        if lower.endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return None


def is_of(place: str, leaves_out: LeavesOut) -> bool:
    """Whether a file belongs to a subject who is left out, as far as its folders and its name say.

    >>> is_of("derivatives/hand/sub-02/anat/x.nii.gz", {"sub-02"}.__contains__)
    True
    """
    # Not the beginning of a name: p_1 may be another patient than p.
    *folders, name = place.split("/")
    stem = stem_of(place, SUFFIXES) or PurePosixPath(name).stem
    return any(leaves_out(subject_id(part)) for part in (*folders, stem) if part)


def volumes_in(
    folder: Folder, pattern: str, suffixes: Sequence[str], problems: list[DataIssue]
) -> list[tuple[str, str]]:
    """(stem, place) of each volume that matches the pattern, in the order of places."""
    found = ((stem_of(place, suffixes), place) for place in folder.files(pattern, problems))
    return [(stem, place) for stem, place in found if stem]


def everything(folder: Folder) -> tuple[list[str], list[DataIssue]]:
    """Places of all files in the folder, and what was wrong with names; it is listed once."""
    if folder.listed is None:
        found: list[DataIssue] = []
        folder.listed = list(folder.files("**/*", found)), found
    return folder.listed


def all_volumes(folder: Folder, problems: list[DataIssue]) -> list[str]:
    """Places of all files in the folder that have the suffix of a volume."""
    places, found = everything(folder)
    problems += [one for one in found if one not in problems] if found else []
    return [place for place in places if place.lower().endswith(SUFFIXES)]


def by_subject(named: Sequence[tuple[str, str]], collector: FoundVolumes, ending: str = "") -> dict[str, str]:
    """Subject to place, for names that are the subject's id and then ``ending``; other names are reported."""
    places: dict[str, str] = {}
    for stem, place in named:
        subject = subject_id(stem.removesuffix(ending))
        if not stem.endswith(ending) or not subject:
            cause = f"has a name that does not end with {ending}"
            collector.report(DataIssue(thing=place, cause=cause, remedy="rename it, move it away or fix the option"))
        elif subject in places:
            where = PurePosixPath(place).parent.as_posix()
            cause = f"two files in {where}/ ({PurePosixPath(places[subject]).name}, {PurePosixPath(place).name})"
            collector.report(DataIssue(thing=subject, cause=cause, remedy="keep one of them"), subject)
        else:
            places[subject] = place
    return places


def name_subjects(collector: FoundVolumes, *endings: str) -> None:
    """Give an issue of a file the subject with which the file's name begins: the issue was found before the
    subject was known."""
    for at, problem in enumerate(collector.problems):
        stem = "" if problem.subject else stem_of(problem.thing, SUFFIXES)
        ending = next((one for one in endings if stem and stem.endswith(one)), None)
        if stem and ending is not None:
            subject = collector.patient(subject_id(stem.removesuffix(ending)))
            collector.problems[at] = problem.model_copy(update={"subject": subject})


def add_pairs(collector: FoundVolumes, images: dict[str, str], labels: dict[str, str], looked: tuple[str, str]) -> None:
    """Each image with the label of the same subject; ``looked`` says where, with {} for the subject."""
    for subject in sorted(images.keys() | labels.keys()):
        if subject not in labels:
            cause = f"no label beside the image (looked for {looked[1].format(subject)})"
            collector.report(
                DataIssue(thing=subject, cause=cause, remedy="add the file or leave the subject out"), subject
            )
        elif subject not in images:
            cause = f"no image for the label (looked for {looked[0].format(subject)})"
            collector.report(DataIssue(thing=subject, cause=cause, remedy="add the file or remove the label"), subject)
        else:
            collector.add(subject, {"image": images[subject], "label": labels[subject]})


def say_other_volumes(folder: Folder, collector: FoundVolumes, reads: Sequence[str]) -> None:
    """A warning for volumes that lie in other folders than those that a format ``reads``."""
    known = {one.lower() for one in reads}
    others = [
        place
        for place in all_volumes(folder, [])
        if place.rpartition("/")[0].lower() not in known and not is_of(place, folder.leaves_out)
    ]
    if others:
        cause = (
            f"holds {pluralise(len(others), 'volume')} in other folders ({abbreviate(others, 3)}), which are not read"
        )
        remedy = f"if they are part of the dataset, move them into {' and '.join(reads[:2])}; else no action is needed"
        collector.warn(DataIssue(thing=folder.root.name, cause=cause, remedy=remedy))


def nothing_found(folder: Folder, collector: FoundVolumes, looked: str) -> None:
    """Report that a folder has nothing of the format, unless another problem was reported already."""
    if not collector.problems:
        cause = f"no image found (looked in {looked})"
        remedy = "put the volumes there or name another folder"
        collector.report(DataIssue(thing=folder.root.name, cause=cause, remedy=remedy))


def listed(options: Options, name: str) -> tuple[str, ...]:
    """An option that is a list of names separated by commas."""
    return tuple(word.strip() for word in options.get(name, "").split(",") if word.strip())
