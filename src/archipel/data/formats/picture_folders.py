"""Where pictures are in a folder of classes: ``<class>/<picture>``, ``<class>/<patient>/<picture>``, and both of these
below ``train``, ``val`` and ``test``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from archipel.data.cohorts import TRAINING, VALIDATION
from archipel.data.files import Folder
from archipel.data.formats.picture_masks import AS_VOLUMES, MASKS, masks_of
from archipel.data.picture_files import PICTURE_SUFFIXES
from archipel.data.samples import DataIssue
from archipel.vocabulary.counting import pluralise

PARTS = {
    **dict.fromkeys(("train", "training"), TRAINING),
    **dict.fromkeys(("val", "valid", "validation"), VALIDATION),
    **dict.fromkeys(("test", "testing"), ""),
}
"""Folders that divide a dataset, and on which side of a split their pictures are; "" is neither."""
_IMAGES = frozenset(("image", "images", "imagestr", "imagests", "img", "imgs", "picture", "pictures", "scan", "scans"))
UNREAD_PICTURES = (".gif", ".webp", ".jp2", ".heic", ".avif")
"""Endings of pictures that are not read."""
_UNREAD = {
    **dict.fromkeys(UNREAD_PICTURES, "save these pictures as PNG"),
    ".dcm": "export the images as PNG with 16 bits, or convert them to NIfTI",
    ".npy": "save these arrays in one .npz file (format npz), or as TIFF",
}
_UNREAD_SUFFIXES = tuple(_UNREAD)
_MANY = 5
_DEEPEST = 4


IsGone = Callable[[str], bool]
"""Whether the file at a place is of a patient who is left out: nothing that is kept may name it."""


class Place(NamedTuple):
    """Where a picture is: its path, the part of the dataset, its class, its patient's folder ("" without one), and its
    name without ending."""

    place: str
    part: str
    group: str
    patient: str
    stem: str

    @property
    def folder(self) -> str:
        """The folder of the class, within its part of the dataset."""
        return f"{self.part}/{self.group}" if self.part else self.group


class Layout(NamedTuple):
    """The pictures of a folder, places that are not pictures of a class, and files whose kind is not read."""

    places: tuple[Place, ...]
    misplaced: tuple[str, ...]
    unread: tuple[str, ...]
    is_divided: bool = False
    """Whether the classes are below ``train``, ``val`` and ``test``."""
    masks: Mapping[str, str] = {}
    """Pictures that are masks by their names, each with the picture beside it."""
    empty: tuple[str, ...] = ()
    """Folders of a class that hold no picture."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The folders of classes, in order."""
        return tuple(sorted({place.group for place in self.places}))


def found_pictures(folder: Folder, problems: list[DataIssue]) -> Layout:
    """Every picture of the folder by its place; no file is opened."""
    listed, unread = listed_pictures(folder, problems)
    masks = masks_of(listed)
    pictures = [path for path in listed if str(path) not in masks]
    inside = [path for path in pictures if len(path.parts) > 1]
    tops = {path.parts[0] for path in inside}
    is_divided = bool(tops) and all(top.lower() in PARTS for top in tops) and all(len(one.parts) > 2 for one in inside)
    placed = {str(path): place_of(str(path), is_divided) for path in pictures}
    places = sorted(place for place in placed.values() if place is not None)
    misplaced = tuple(path for path, place in placed.items() if place is None)
    held = {place.group for place in places}
    held |= {parts[is_divided] for parts in (one.split("/") for one in (*masks, *unread, *misplaced)) if len(parts) > 1}
    own = {name.rpartition("/")[2] for name in folder.folders("*/*" if is_divided else "*", [])} if places else set()
    # Programs write folders of their own beside those of people: __MACOSX, @eaDir.
    empty = tuple(sorted(name for name in own - held if name[0].isalnum()))
    return Layout(tuple(places), misplaced, unread, is_divided, masks, empty)


def place_of(place: str, is_divided: bool) -> Place | None:
    """The class and patient of a picture by its folders; None where it is not in the folder of a class."""
    path = PurePosixPath(place)
    part, parts = (path.parts[0], path.parts[1:]) if is_divided and len(path.parts) > 1 else ("", path.parts)
    if len(parts) not in (2, 3):
        return None
    return Place(place, part, parts[0], parts[1] if len(parts) == 3 else "", path.stem)


def listed_pictures(folder: Folder, problems: list[DataIssue]) -> tuple[tuple[PurePosixPath, ...], tuple[str, ...]]:
    """All pictures of a folder, and the files of kinds that are not read, which people take for pictures.

    The folder is listed once.
    """
    if folder.pictures is None:
        found: list[DataIssue] = []
        read, unread = [], []
        for place in folder.files_down_to(_DEEPEST, found):
            lower = place.lower()
            if lower.endswith(PICTURE_SUFFIXES):
                read.append(PurePosixPath(place))
            elif lower.endswith(_UNREAD_SUFFIXES):
                unread.append(place)
        folder.pictures = tuple(read), tuple(unread), found
    pictures, others, found = folder.pictures
    problems += [one for one in found if one not in problems]
    return pictures, others


def why_not_classes(layout: Layout) -> tuple[str, str] | None:
    """Cause and remedy where the folders of pictures are not classes; None where they may be."""
    masks = [name for name in layout.classes if name.lower() in MASKS]
    if masks:
        cause = f"holds masks in folder {masks[0]}, beside pictures in others: a folder is not a class here"
        remedy = (
            f"{AS_VOLUMES}; if the folders are classes all the same, name them with --option "
            f"classes={','.join(layout.classes)}"
        )
        return cause, remedy
    return None


def is_of_images(layout: Layout) -> bool:
    """Whether a folder is named after what all of them hold, images, and so is not a class."""
    return any({place.group.lower(), place.patient.lower()} & _IMAGES for place in layout.places)


def looks_like_patients(layout: Layout) -> str:
    """What makes the folders look like patients rather than classes; "" if nothing does.

    Patients are numbered alike, with two digits or more, or are more than the pictures that each of them has.
    """
    counts = Counter(place.group for place in layout.places)
    usual = len(layout.places) / max(1, len(counts))
    forms = Counter(re.sub(r"\d+", "#", name) for name in counts if re.search(r"\d", name))
    alike = max(forms.values(), default=0) * 5 > len(counts) * 4
    has_long_numbers = len(counts) > 2 and all(re.search(r"\d\d", name) for name in counts)
    if alike and (has_long_numbers or (len(counts) > _MANY and usual < len(counts))):
        return f"{len(counts)} folders with numbers hold {usual:.0f} pictures each"
    return ""


def report_unread(unread: Sequence[str], name: str, is_gone: IsGone, problems: list[DataIssue], severity: str) -> None:
    """Say how many files there are of each kind that is not read, and what can be done."""
    unread = [place for place in unread if not is_gone(place)]
    for suffix in sorted({PurePosixPath(place).suffix.lower() for place in unread}):
        those = [place for place in unread if place.lower().endswith(suffix)]
        cause = f"{pluralise(len(those), 'file')} with the ending {suffix}, which is not read (first {those[0]})"
        problems.append(DataIssue(thing=name, cause=cause, remedy=_UNREAD[suffix], severity=severity))


def report_masks(layout: Layout, name: str, is_gone: IsGone, problems: list[DataIssue]) -> None:
    """Say how many pictures are masks of others, by their names: they are not pictures of a class."""
    masks = [place for place in layout.masks if not is_gone(place)]
    if masks:
        which = f"first {masks[0]} beside {PurePosixPath(layout.masks[masks[0]]).name}"
        cause = f"{pluralise(len(masks), 'mask')} beside pictures, by their names ({which}); left out of the classes"
        remedy = "no action is needed; if they are pictures of a class, give them other names"
        problems.append(DataIssue(thing=name, cause=cause, remedy=remedy, severity="warning"))


def report_empty(layout: Layout, asked: Sequence[str], problems: list[DataIssue]) -> None:
    """Say which folders of a class hold no picture; nothing where classes are ``asked`` for by name, which are checked
    one by one."""
    for name in () if asked else layout.empty:
        cause = "holds no picture, and is not a class here"
        remedy = "add its pictures, or remove the folder; a plan that names this class gets no picture of it here"
        problems.append(DataIssue(thing=f"{name}/", cause=cause, remedy=remedy, severity="warning"))


def report_misplaced(layout: Layout, name: str, is_gone: IsGone, problems: list[DataIssue]) -> None:
    """Say how many pictures are not in the folder of a class."""
    misplaced = [place for place in layout.misplaced if not is_gone(place)]
    if misplaced:
        many = pluralise(len(misplaced), "picture")
        cause = f"{many} outside of the folders of classes (first {misplaced[0]}), not used"
        remedy = "put each picture in the folder of its class: <class>/<picture> or <class>/<patient>/<picture>"
        problems.append(DataIssue(thing=name, cause=cause, remedy=remedy, severity="warning"))
