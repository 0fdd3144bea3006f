"""The formats Archipel reads, each a layout on disk; one conformance suite holds for all of them."""

from __future__ import annotations

from pathlib import Path

from archipel.data.files import FileIndex, Folder
from archipel.data.formats.base import Format, Options
from archipel.data.formats.nifti_pairs import NiftiPairs
from archipel.data.formats.npz import NpzTable
from archipel.data.samples import Scan
from archipel.vocabulary import BadInput

FORMATS: dict[str, Format] = {one.name: one for one in (NiftiPairs(), NpzTable())}


def format_named(name: str) -> Format:
    """The format of this name. Raises BadInput."""
    if name not in FORMATS:
        raise BadInput(f"dataset format {name}", "is unknown", f"choose one of {', '.join(sorted(FORMATS))}")
    return FORMATS[name]


def scan(name: str, root: Path, options: Options | None = None, index: FileIndex | None = None) -> Scan:
    """Every sample under ``root`` and every problem with it; files that ``index`` knows are not opened again.

    Raises BadInput when ``root`` is not a folder, or the format or an option is unknown.
    """
    found = format_named(name)
    for option in options or {}:
        if option not in found.options:
            known = ", ".join(sorted(found.options)) or "none"
            raise BadInput(f"option {option} of format {name}", "is unknown", f"the format has: {known}")
    if not root.is_dir():
        raise BadInput(str(root), "is not a folder", "name the folder that holds the dataset")
    return found.scan(Folder(root, index), options or {})


__all__ = ["FORMATS", "Format", "Options", "format_named", "scan"]
