"""Which format a named folder has, and which folder is meant if the one above or below a dataset was named."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

from archipel.data.formats import FORMATS, Fit, detect
from archipel.data.formats.medical_folder import TABLE
from archipel.vocabulary import BadInput, Thing
from archipel.vocabulary.remedies import ListFormats

_VAGUE = frozenset({"medical-folder", "nifti-groups", "class-folders", "picture-table", "table", "npz"})
"""Layouts that a part of another dataset may also look like."""
_MOST = 20
"""How many folders inside are searched."""


def guessed(root: Path, options: Mapping[str, str]) -> tuple[Fit, ...]:
    """The formats that a folder looks like and that have these options, the likeliest first.

    Raises BadInput when there is none, and when another folder is more likely meant.
    """
    possible = [name for name, one in FORMATS.items() if options.keys() <= one.options.keys()]
    fits = tuple(fit for fit in detect(root) if fit.format in possible)
    if not fits and len(possible) == 1:
        return (Fit(possible[0], f"no other has the option {' and '.join(options)}"),)
    another = _meant(root, fits[0].format if fits else "")
    if another is not None:
        raise BadInput(Thing.folder(root), *another)
    if not fits:
        remedy = "name one with --format; see archipel site dataset formats"
        raise BadInput(Thing.folder(root), "does not look like a known format", remedy, command=ListFormats())
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
    fit = _looks_like(above)
    return (root.parent if root.name else above, fit) if fit is not None else None


def _meant(root: Path, guess: str) -> tuple[str, str] | None:
    """Cause and remedy if another folder is more likely meant than this one, whose detected format is ``guess``."""
    is_vague = guess in _VAGUE and FORMATS[guess].kind == "volumes" and not (root / TABLE).is_file()
    if guess and not is_vague:
        return None
    inside = _datasets_inside(root)
    if inside:
        folder, fit = next(iter(inside.items()))
        several = f"{len(inside)} folders that look like a dataset each"
        cause = f"holds {several if len(inside) > 1 else 'a folder that looks like a dataset'}"
        return cause, f"name one, for example {folder} ({fit.format}), or name the format with --format"
    around = None if guess else _dataset_around(root)
    if around is None:
        return None
    folder, fit = around
    return "looks like a part of a dataset", f"name the folder above, {folder} ({fit.format}: {fit.reason})"


def _folders(root: Path) -> list[Path]:
    try:
        names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
    except OSError:
        return []
    return [root / name for name in names]


def _looks_like(folder: Path) -> Fit | None:
    try:
        return next((fit for fit in detect(folder) if fit.format not in _VAGUE), None)
    except (BadInput, OSError):
        return None
