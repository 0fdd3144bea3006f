"""Parquet files: columns and rows as texts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from archipel.data.tables.foreign_files import not_parquet
from archipel.data.tables.reading_process import UNPACK_LIMITS, Reader, UnpackLimits, lines

SUFFIX = ".parquet"
# A text is stored once, however many rows have it.
_READER = Reader(Path(__file__).with_name("parquet_reader.py"), "pyarrow", "a Parquet file", gain=500)


def columns(path: Path, limits: UnpackLimits = UNPACK_LIMITS) -> tuple[str, ...]:
    """The columns' names. Raises BadInput for a file that is not Parquet, or declares too large a size."""
    error = not_parquet(path)
    if error is not None:
        raise error
    found = lines(path, _READER, limits)
    names = next(found)
    found.close()
    return tuple(names)


def rows(path: Path, limits: UnpackLimits = UNPACK_LIMITS) -> Iterator[list[str]]:
    """The texts of each row. Raises BadInput where the file breaks off, or unpacks to too much."""
    found = lines(path, _READER, limits)
    next(found)
    yield from found
