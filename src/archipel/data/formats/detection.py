"""Which format a named folder has, and which folder is meant if the one above or below a dataset was named."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path

from archipel.data.files import Folder
from archipel.data.formats import FORMATS, Fit, checked_root, detect, explains
from archipel.data.formats.delimited import TEXT_SUFFIXES
from archipel.data.formats.layout_finder import find_layout, in_each_folder
from archipel.data.formats.medical_folder import TABLE
from archipel.data.formats.picture_folders import found_pictures, is_of_images, listed_pictures, looks_like_patients
from archipel.data.formats.picture_masks import segmentation_in
from archipel.data.formats.picture_table import tables_of_pictures
from archipel.data.formats.unclear_folders import typed, why_no_layout
from archipel.data.formats.unread_files import IMAGES, unread_files
from archipel.data.formats.volume_names import all_volumes
from archipel.data.tables import as_typed, open_table
from archipel.vocabulary import BadInput, Thing
from archipel.vocabulary.counting import abbreviate, pluralise
from archipel.vocabulary.remedies import ListFormats

_VAGUE = frozenset({"medical-folder", "nifti-groups", "class-folders", "picture-table", "table", "npz"})
"""Layouts that a part of another dataset may also look like."""
_MOST_AROUND = 20_000
"""Files in the folder above; in a larger one no dataset is searched."""
_FEW = 5
_AS_CLASSES = "--format class-folders"
_MOST = 20
"""How many folders inside are searched."""


def guessed(root: Path, options: Mapping[str, str]) -> tuple[Fit, ...]:
    """The formats that a folder looks like and that have these options, the likeliest first.

    Raises BadInput when there is none, and when another folder is more likely meant.
    """
    possible = [name for name, one in FORMATS.items() if options.keys() <= one.options.keys()]
    # The option label of other formats names a folder or an ending.
    if any("{" not in options.get(name, "{") for name in ("image", "label")):
        possible = [name for name in possible if name != "layout"]
    folder = Folder(checked_root(root), once=True)
    fits = detect(root, possible, folder)
    if not fits and len(possible) == 1:
        return (Fit(possible[0], f"no other has the option {' and '.join(options)}"),)
    another = _meant(root, folder, fits[0].format if fits else "")
    if another is not None:
        raise BadInput(Thing.folder(root), *another)
    if not fits:
        raise BadInput(Thing.folder(root), *_why_not(folder), command=ListFormats())
    if fits[0].format == "table" and "file" not in options and (beside := _beside_a_table(folder)) is not None:
        raise BadInput(Thing.folder(root), *beside)
    return fits


def _datasets_inside(root: Path) -> dict[Path, Fit]:
    """The folders inside that each look like a dataset, by a layout that a part of another dataset does not have."""
    found = {}
    for folder in islice(_folders(root), _MOST):
        fit = _looks_like(folder)
        if fit is not None:
            found[folder] = fit
    return found


def _dataset_around(root: Path) -> tuple[Path, Fit] | None:
    """The folder above, if it looks like a dataset of which this is a part."""
    above = root.resolve().parent
    places = list(islice(Folder(above).files("**/*", []), _MOST_AROUND + 1))
    if len(places) > _MOST_AROUND or len({place.split("/")[0] for place in places}) < 2:
        return None
    fit = _looks_like(above)
    return (root.parent if root.name else above, fit) if fit is not None else None


def _meant(root: Path, folder: Folder, guess: str) -> tuple[str, str] | None:
    """Cause and remedy if another folder is more likely meant than this one, whose detected format is ``guess``."""
    has_images_alone = guess == "layout" and _has_images_alone(folder)
    is_vague = guess in _VAGUE and FORMATS[guess].kind == "volumes" and not (root / TABLE).is_file()
    if guess and not is_vague and not has_images_alone:
        return None
    inside = _datasets_inside(root)
    if inside:
        one, fit = next(iter(inside.items()))
        several = f"{len(inside)} folders that look like a dataset each"
        cause = f"holds {several if len(inside) > 1 else 'a folder that looks like a dataset'}"
        every = in_each_folder(all_volumes(folder, [])) if len(inside) > 1 else None
        otherwise = (
            f"add them as one dataset with {typed(every)}" if every is not None else "name the format with --format"
        )
        return cause, f"name one, for example {one} ({fit.format}), or {otherwise}"
    around = _dataset_around(root) if has_images_alone or not guess else None
    if around is None:
        return None
    above, fit = around
    return "looks like a part of a dataset", f"name the folder above, {above} ({fit.format}: {fit.reason})"


def _has_images_alone(folder: Folder) -> bool:
    found = find_layout(all_volumes(folder, []))
    return found is not None and not found.label


def _why_not(folder: Folder) -> tuple[str, str]:
    """Cause and remedy for a folder that looks like no format."""
    unread = unread_files(folder.root, folder.files("**/*", []))
    places = all_volumes(folder, [])
    if unread is not None and (not places or "Git LFS" in unread[0]):
        return unread
    if not places:
        return (
            _pictures(folder)
            or _text_tables(folder)
            or ("does not look like a known format", "name one with --format; see archipel site dataset formats")
        )
    return why_no_layout(places)


def _beside_a_table(folder: Folder) -> tuple[str, str] | None:
    """Cause and remedy for a folder with images that nothing explains: a table beside them describes them, and is not
    the data itself."""
    alone = "if the table alone is the dataset, --format table"
    places = all_volumes(folder, [])
    if places:
        cause, remedy = why_no_layout(places)
        return cause, f"{remedy}; {alone}"
    unread = unread_files(folder.root, folder.files("**/*", []), only=IMAGES)
    if unread is not None:
        return unread[0], f"{unread[1]}; {alone}"
    tables = tables_of_pictures(folder)
    if len(tables) > 1:
        cause = f"holds pictures and {len(tables)} tables that name them ({abbreviate(tables)})"
        remedy = f"name the table: --format picture-table --option table={shlex.quote(tables[0])}; {alone}"
        return cause, remedy
    return None


def _pictures(folder: Folder) -> tuple[str, str] | None:
    """What is said of pictures that are neither in folders of classes nor named by a table."""
    pictures, _ = listed_pictures(folder, [])
    if not pictures:
        return None
    found = segmentation_in(pictures)
    if found is not None:
        return found
    cause = f"holds {pluralise(len(pictures), 'picture')} ({pictures[0]})"
    remedy = "add a .csv with a row for each: image,label"
    layout = found_pictures(folder, [])
    patients = looks_like_patients(layout)
    if patients:
        classes = "put the patients' folders in a folder for each class"
        return (
            f"{cause}, and {patients}, as patients do",
            f"{classes}, or {remedy}; if these are classes: {_AS_CLASSES}",
        )
    if len(layout.classes) == 1 and not layout.misplaced and not is_of_images(layout):
        return f"{cause} in one folder, {layout.classes[0]}", f"if it is a class: {_AS_CLASSES}; else {remedy}"
    return f"{cause} without a class: no folder and no table says it", f"put them in one folder per class, or {remedy}"


def _text_tables(folder: Folder) -> tuple[str, str] | None:
    """What is said of a text that may be a table, by its content."""
    texts = (place for place in folder.files("*", []) if place.lower().endswith(TEXT_SUFFIXES))
    for place in islice(texts, _FEW):
        with suppress(BadInput):
            names = open_table(folder.root / place).names
            remedy = f"if it is the dataset's table: {as_typed('file', place)}"
            return f"holds a text that may be a table ({place}: columns {abbreviate(names, _FEW)})", remedy
    return None


def _folders(root: Path) -> list[Path]:
    try:
        names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
    except OSError:
        return []
    return [root / name for name in names]


def _looks_like(folder: Path) -> Fit | None:
    try:
        listed = Folder(folder, once=True)
        fits = [fit for fit in detect(folder, folder=listed) if fit.format not in _VAGUE and explains(fit, listed)]
        fit = fits[0] if fits else None
        return None if fit is not None and fit.format == "layout" and _has_images_alone(listed) else fit
    except (BadInput, OSError):
        return None
