"""Detached data: voxels that lie in a file beside their header, as ``.mhd`` with ``.raw`` and ``.hdr`` with ``.img``.

The data is in the header's folder under the header's name, is a plain file, and has exactly the bytes that the header
says: a header can lead to no other file.
"""

from __future__ import annotations

import math
import stat
from pathlib import Path

from archipel.data.files import DATA_SUFFIXES, HEADER_SUFFIXES, Folder, Purpose, read_whole
from archipel.data.volumes.unpacking import MOST_GAIN
from archipel.data.volumes.volume_header import Stored, bad_volume, damaged
from archipel.vocabulary import BadInput, Record

_ONE_FILE = "write header and voxels as one .nii.gz, .mha or .nrrd file"


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
    # Decoding knows this module.
    from archipel.data.volumes.decoding import header_of

    try:
        return DataFile(name=header_of(path, content).data_file)
    except (BadInput, MemoryError):
        raise
    except Exception as error:
        # Damaged headers raise nearly everything: struct, lookup, arithmetic, zlib's and nibabel's own errors.
        raise damaged(path, type(error).__name__) from error


def read_data(path: Path, stored: Stored, most: int) -> bytes:
    """The bytes that a header keeps in a file beside it. Raises BadInput for one that may not be read."""
    name = stored.data_file
    if not is_beside(path.name, name):
        cause = f"keeps its voxels in another file ({name[:80]}), which is not called as the header is"
        raise bad_volume(path, cause, f"give both files one name, or {_ONE_FILE}")
    data = path.with_name(name)
    try:
        found = data.lstat()
    except OSError as error:
        raise bad_volume(path, f"keeps its voxels in {name}, which is not there", "copy it to its header") from error
    if not stat.S_ISREG(found.st_mode):
        cause = f"keeps its voxels in {name}, which is not a plain file"
        raise bad_volume(path, cause, f"copy it there, or {_ONE_FILE}")
    length = stored.first + math.prod(stored.shape) * stored.type.itemsize
    if min(stored.shape) < 0 or (stored.packed is None and found.st_size != length):
        cause = f"{name} has {found.st_size} bytes, and its header says {length}"
        raise bad_volume(path, cause, "copy both files again from their source, or leave the subject out")
    if stored.packed is not None and length > found.st_size * MOST_GAIN:
        raise damaged(path, f"its header declares {math.prod(stored.shape)} voxels")
    if length > most:
        cause = f"would take {length >> 20} MiB in memory; at most {most >> 20} MiB are allowed"
        raise bad_volume(path, cause, "export it with fewer voxels or a smaller type, or leave the subject out")
    try:
        return read_whole(data)
    except OSError as error:
        cause = f"keeps its voxels in {name}, which cannot be opened ({error.strerror})"
        raise bad_volume(path, cause, "check the permissions of the file") from error


def _is_plain(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def is_beside(header: str, name: str) -> bool:
    """Whether a file's name is the header's but for the suffix, so that it is in the header's folder.

    >>> is_beside("a.mhd", "a.zraw"), is_beside("a.mhd", "../a.raw"), is_beside("a.mhd", "b.raw")
    (True, False, False)
    """
    stem = header.rpartition(".")[0]
    return any(name == stem + suffix for suffix in DATA_SUFFIXES)
