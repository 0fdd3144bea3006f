"""Files of arrays: what is in a ``.npz`` file, opened only when its headers say that it is not too large."""

from __future__ import annotations

import errno
import json
import lzma
import math
import tokenize
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archipel.data.limits import DATA_LIMITS, DataLimits
from archipel.data.samples import FoundValues
from archipel.data.text_columns import TextColumn
from archipel.data.zip_archives import directory_bytes
from archipel.vocabulary import BadInput, ErrorCode, Thing

_ARRAYS = ("x", "y", "subject")
PARTS = ("train", "val", "test")
"""The parts of a file as MedMNIST has it."""
_AT_ONCE = 4096
_MOST_NAMES = 1 << 16
"""Bytes of the list of a file's arrays."""
_FEW_BYTES, _MOST_GAIN = 64 << 20, 100
"""Compressed, a file holds so many bytes and so many times its size; what unpacks to more is empty."""


class Rows:
    """The rows of one or more arrays of one type and shape, one after the other; they are not copied together."""

    def __init__(self, *arrays: NDArray[Any]) -> None:
        self.arrays = arrays
        self._ends = [int(end) for end in np.cumsum([len(array) for array in arrays])]
        self.dtype, self.shape = np.result_type(*(array.dtype for array in arrays)), arrays[0].shape[1:]

    def __getitem__(self, row: int) -> Any:
        which = bisect_right(self._ends, row)
        start = self._ends[which - 1] if which else 0
        return self.arrays[which][row - start].astype(self.dtype, copy=False)

    def range(self, without: Sequence[int]) -> FoundValues | None:
        """The least and the greatest finite number in all rows but these; None without any."""
        found: FoundValues | None = None
        is_asked, first = np.ones(self._ends[-1], np.bool_), 0
        is_asked[list(without)] = False
        for array in self.arrays if self.dtype.kind in "biuf" else ():
            # Some rows at a time: a mask of all numbers would take much memory.
            for at in range(0, len(array), _AT_ONCE):
                some, asked = array[at : at + _AT_ONCE], is_asked[first + at : first + at + _AT_ONCE]
                if not asked.all():
                    some = some[asked[: len(some)]]
                if some.size:
                    found = FoundValues(minimum=float(some.min()), maximum=float(some.max())).joined(found)
            first += len(array)
        return found


class Arrays(NamedTuple):
    """A file's rows, how many of them are in which part of the file ("" when it has no parts), in order, and the
    session of each row, None without any."""

    x: Rows
    y: Rows
    ids: TextColumn
    parts: tuple[tuple[str, int], ...]
    sessions: TextColumn | None = None


def bad_file(path: Path, cause: str, remedy: str) -> BadInput:
    """The error for a file of arrays that cannot be used."""
    return BadInput(Thing.file(path.name), cause, remedy, code=ErrorCode.BAD_DATA)


def _damaged(path: Path, error: Exception) -> BadInput:
    cause = f"cannot be read ({type(error).__name__}); it is damaged or holds Python objects"
    return bad_file(path, cause, "write it with numpy.savez from plain arrays")


def _check_headers(path: Path, limits: DataLimits) -> None:
    """Raise BadInput for arrays of too many bytes, by what their headers say, before memory is allocated for them."""
    _check_size(path, path.stat().st_size, limits)
    with path.open("rb") as file:
        names = directory_bytes(file)
        if names == math.inf:
            raise zipfile.BadZipFile("something follows the list of arrays")
        if names > _MOST_NAMES:
            raise bad_file(path, "lists more arrays than are allowed", "keep those that are used")
        with zipfile.ZipFile(file) as packed:
            # A header may be as long as the whole member.
            _check_size(path, sum(member.file_size for member in packed.infolist()), limits)
            size = 0
            for member in packed.infolist():
                with packed.open(member) as array:
                    shape, kind = _header(array)
                size += max(member.file_size, kind.itemsize * math.prod(shape))
                _check_size(path, size, limits)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    formats = np.lib.format
    first = formats.read_magic(file) == (1, 0)
    shape, _, kind = (formats.read_array_header_1_0 if first else formats.read_array_header_2_0)(file)
    return shape, kind


def _check_size(path: Path, size: int, limits: DataLimits) -> None:
    """Raise BadInput for arrays of too many bytes, at all or for what they take on the disk."""
    if size > limits.npz_bytes:
        cause = f"would take {size >> 20} MiB in memory; at most {limits.npz_bytes >> 20} MiB are allowed"
        raise bad_file(path, cause, "split it into several datasets")
    most = _FEW_BYTES + _MOST_GAIN * path.stat().st_size
    if size > most:
        cause = f"would take {size >> 20} MiB in memory; at most {most >> 20} MiB are allowed for a file of its size"
        raise bad_file(path, cause, "write it again from arrays that hold values")


def arrays_in(path: Path, limits: DataLimits = DATA_LIMITS) -> Arrays:
    """x, y, the ids and the parts of the file.

    Raises BadInput when the file is damaged, an array is missing or would need pickle, the lengths differ, or it holds
    too much; OSError when the disk does not give it, and MemoryError.
    """
    try:
        _check_headers(path, limits)
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive}
        # numpy gives a member that is not an array as its bytes.
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            raise TypeError("a member is not an array")
    except OSError as error:
        # zipfile says EINVAL, and numpy nothing, where a file is damaged; all else is the disk's or the network's.
        if error.errno not in (None, errno.EINVAL):
            raise
        raise _damaged(path, error) from error
    except (ValueError, TypeError, EOFError, KeyError, NotImplementedError, RuntimeError, AttributeError, OverflowError,
            zipfile.BadZipFile, zlib.error, lzma.LZMAError, tokenize.TokenError) as error:  # fmt: skip
        raise _damaged(path, error) from error
    parts = [part for part in PARTS if f"{part}_images" in arrays]
    if parts and "x" not in arrays:
        return _in_parts(path, arrays, parts, limits.npz_rows)
    missing = [name for name in _ARRAYS if name not in arrays]
    if missing:
        raise bad_file(path, f"has no array named {', '.join(missing)}", "save arrays x, y and subject")
    x, y, subject = (arrays[name] for name in _ARRAYS)
    if subject.ndim != 1 or not x.ndim or not y.ndim or not len(x) == len(y) == len(subject):
        raise bad_file(
            path,
            f"x, y and subject have shapes {list(x.shape)}, {list(y.shape)} and {list(subject.shape)}",
            "give all three the same number of rows",
        )
    _check_rows(path, limits.npz_rows, [x], [y])
    session = arrays.get("session")
    if session is not None and session.shape != subject.shape:
        cause = f"subject and session have shapes {list(subject.shape)} and {list(session.shape)}"
        raise bad_file(path, cause, "give both the same number of rows")
    sessions = None if session is None else TextColumn.of(_texts(session))
    return Arrays(Rows(x), Rows(y), TextColumn.of(_texts(subject)), (("", len(subject)),), sessions)


def _check_rows(path: Path, most: int, *arrays: Sequence[NDArray[Any]]) -> None:
    rows = sum(len(array) for array in arrays[0])
    if rows > most:
        raise bad_file(path, f"has {rows} rows; at most {most} are allowed", "split it into several datasets")
    if any(len(array) and not array.nbytes for several in arrays for array in several):
        raise bad_file(path, "has rows that hold nothing", "save arrays whose rows hold numbers")


def _in_parts(path: Path, arrays: Mapping[str, NDArray[Any]], parts: Sequence[str], most_rows: int) -> Arrays:
    images, labels = [], []
    for part in parts:
        x, y = arrays[f"{part}_images"], arrays.get(f"{part}_labels")
        if y is None or not x.ndim or not y.ndim or len(x) != len(y):
            shape = "nothing" if y is None else list(y.shape)
            cause = f"{part}_images and {part}_labels have shapes {list(x.shape)} and {shape}"
            raise bad_file(path, cause, "give each image a label")
        images.append(x)
        # One label per row is stored as a column of its own.
        labels.append(y[:, 0] if y.shape[1:] == (1,) else y)
    _check_rows(path, most_rows, images, labels)
    shapes = {(array.dtype.str, array.shape[1:]) for array in images}
    kinds = {array.dtype.kind in "biuf" for array in labels}
    if len(shapes) > 1 or len(kinds) > 1 or len({array.shape[1:] for array in labels}) > 1:
        listed = json.dumps(sorted(str(list(shape)) for _, shape in shapes))
        raise bad_file(path, f"its parts hold images of different kinds ({listed})", "give all the same size and type")
    counts = tuple((part, len(x)) for part, x in zip(parts, images, strict=True))
    ids = TextColumn.of(f"{part}-{row:05d}" for part, count in counts for row in range(count))
    return Arrays(Rows(*images), Rows(*labels), ids, counts)


def _texts(subject: NDArray[Any]) -> Iterator[str]:
    for first in range(0, len(subject), _AT_ONCE):
        for value in subject[first : first + _AT_ONCE].tolist():
            # What is not Unicode gets characters that no id may have.
            yield str(value).encode("utf-8", "backslashreplace").decode()
