"""Excel workbooks (.xlsx): the rows of one sheet as texts, each with its number in the sheet."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from archipel.data.tables.foreign_files import not_a_workbook
from archipel.data.tables.reading_process import UNPACK_LIMITS, Reader, UnpackLimits, lines

SUFFIX = ".xlsx"
_READER = Reader(Path(__file__).with_name("workbook_reader.py"), "openpyxl", "an Excel workbook", gain=50)


def rows(
    path: Path, sheet: str = "", limits: UnpackLimits = UNPACK_LIMITS, most: int | None = None
) -> Iterator[tuple[int, list[str]]]:
    """Number and texts of each row that holds something, at most ``most``.

    Texts end at the last one that is not empty. Raises BadInput for a file that is not a workbook, for several
    sheets without a choice, where the file breaks off, and where it unpacks to too much.
    """
    error = not_a_workbook(path)
    if error is not None:
        raise error
    found = lines(path, _READER, limits, [sheet])
    try:
        yield from ((number, texts) for number, texts in islice(found, most))
    finally:
        found.close()
