"""Data files: which file beside a header has its voxels, as the header says it and the index of files keeps it."""

from __future__ import annotations

import stat
from pathlib import Path

from archipel.data.files import HEADER_SUFFIXES, Folder, Purpose
from archipel.data.volumes.decoding import header_of
from archipel.data.volumes.detached_data import is_beside
from archipel.data.volumes.volume_header import damaged
from archipel.vocabulary import BadInput, Record


class DataFile(Record):
    """The name of the file with a header's voxels, "" where they follow the header."""

    name: str


DATA_FILE = Purpose("data-file/1", DataFile)


def data_beside(folder: Folder, place: str) -> str:
    """The place of the data of a header; "" for a volume in one file, or one whose header cannot be read."""
    if not place.lower().endswith(HEADER_SUFFIXES):
        return ""
    found = folder.look_at_bytes(place, DATA_FILE, _data_file)
    name = found.facts.name if found.facts is not None else ""
    # A link is not followed, not even to hash its target; reading the volume then says what is wrong.
    if (
        not name
        or not is_beside(place.rpartition("/")[2], name)
        or not _is_plain((folder.root / place).with_name(name))
    ):
        return ""
    return f"{place.rpartition('/')[0]}/{name}".removeprefix("/")


def _data_file(path: Path, content: bytes) -> DataFile:
    try:
        return DataFile(name=header_of(path, content).data_file)
    except (BadInput, MemoryError):
        raise
    except Exception as error:
        # Damaged headers raise nearly everything: struct, lookup, arithmetic, zlib's and nibabel's own errors.
        raise damaged(path, type(error).__name__) from error


def _is_plain(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False
