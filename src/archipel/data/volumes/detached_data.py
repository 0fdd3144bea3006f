"""Detached data: voxels that lie in a file beside their header, as ``.mhd`` with ``.raw`` and ``.hdr`` with ``.img``.

The data is in the header's folder under the header's name, is a plain file, and has exactly the bytes that the header
says: a header can lead to no other file.
"""

from __future__ import annotations

import math
import stat
from pathlib import Path

from archipel.data.files import DATA_SUFFIXES, read_whole
from archipel.data.volumes.unpacking import MOST_GAIN
from archipel.data.volumes.volume_header import Stored, bad_volume, damaged

_ONE_FILE = "write header and voxels as one .nii.gz, .mha or .nrrd file"


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


def is_beside(header: str, name: str) -> bool:
    """Whether a file's name is the header's but for the suffix, so that it is in the header's folder.

    >>> is_beside("a.mhd", "a.zraw"), is_beside("a.mhd", "../a.raw"), is_beside("a.mhd", "b.raw")
    (True, False, False)
    """
    stem = header.rpartition(".")[0]
    return any(name == stem + suffix for suffix in DATA_SUFFIXES)
