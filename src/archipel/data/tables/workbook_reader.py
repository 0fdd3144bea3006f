"""A program that prints one sheet of an Excel workbook as lines of JSON: for each row its number and its texts.

It runs in a process of its own that limits its memory: a workbook is a zip archive of XML, and a few KiB of it may
unpack to any size. The archive's directory is read first, so that too large a part is refused before it is unpacked;
Python unpacks no more of a part than the directory says. Formulas are not computed: their stored values are read. A
formula without a stored value is printed as it is written. The last line is an object that says why there are no more:
``{"end": ...}`` with ``""`` when all rows were printed. It imports nothing of Archipel, so that it starts fast.
"""

from __future__ import annotations

import datetime
import json
import re
import resource
import sys
import zipfile
from collections.abc import Iterator
from typing import Any

_FORMULA = re.compile(rb"<(\w+:)?f[ />]")
_MOST_PARTS = 10_000
_MOST_STRINGS = 1 << 29
"""Bytes of the part with the texts, which is read as a whole."""
_MOST_COLUMNS = 16_384
_LAST_ROW = 1_048_576
_LOOKED_AT = 100
"""Rows that decide whether a sheet holds something."""


class _TooMuch(Exception):
    """The text is what there is too much of."""


class _Said(Exception):
    """Cause and remedy."""


def main(path: str, limits: list[int], sheet: str) -> None:
    """Print the sheet. Limits are bytes of memory, rows, letters, letters of a row, and cells."""
    most_memory, *most = limits
    resource.setrlimit(resource.RLIMIT_DATA, (most_memory, most_memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    last: dict[str, str] = {"end": ""}
    try:
        for line in _lines(path, sheet, *most):
            sys.stdout.write(f"{line}\n")
    except MemoryError:
        last = {"end": "memory"}
    except _TooMuch as error:
        last = {"end": str(error)}
    except _Said as error:
        last = {"end": "said", "cause": error.args[0], "remedy": error.args[1]}
    except Exception as error:
        # openpyxl raises nearly everything on damaged files.
        last = {"end": type(error).__name__}
    sys.stdout.write(json.dumps(last) + "\n")


def _lines(path: str, sheet: str, most_rows: int, most_text: int, longest_row: int, most_cells: int) -> Iterator[str]:
    from openpyxl import load_workbook

    has_formulas = _checked(path, most_text)
    book = load_workbook(path, read_only=True, data_only=True, keep_links=False)
    name = _chosen(book, sheet)
    values = _rows(book[name], most_cells)
    if has_formulas:
        written = _rows(load_workbook(path, read_only=True, keep_links=False)[name], most_cells)
        values = (_with_formulas(row, texts) for row, texts in zip(values, written, strict=True))
    rows = text = 0
    for number, cells in enumerate(values, 1):
        if number > _LAST_ROW:
            raise _TooMuch("rows")
        fields = [_text(value) for value in cells]
        while fields and not fields[-1].strip():
            fields.pop()
        if not fields:
            continue
        length = sum(map(len, fields)) + len(fields)
        rows, text = rows + 1, text + length
        if rows > most_rows:
            raise _TooMuch("rows")
        if length > longest_row:
            raise _TooMuch("row")
        if text > most_text:
            raise _TooMuch("text")
        yield json.dumps([number, fields])


def _checked(path: str, most_text: int) -> bool:
    """Whether a sheet has formulas. Raises _TooMuch for what the archive's directory says."""
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        if len(parts) > _MOST_PARTS or sum(part.file_size for part in parts) > most_text:
            raise _TooMuch("text")
        names = {part.filename for part in parts}
        if "xl/workbook.xml" not in names:
            raise _Said("is not an Excel workbook but another zip archive", "unpack it, or export the table as CSV")
        found = False
        for part in parts:
            if part.filename.lower().endswith("sharedstrings.xml") and part.file_size > _MOST_STRINGS:
                raise _TooMuch("text")
            if part.filename.startswith("xl/worksheets/") and part.filename.endswith(".xml") and not found:
                with archive.open(part) as file:
                    before = b""
                    while chunk := file.read(1 << 20):
                        if _FORMULA.search(before + chunk):
                            found = True
                            break
                        before = chunk[-32:]
    return found


def _chosen(book: Any, sheet: str) -> str:
    """The name of the sheet to be read. Raises _Said when there are several, or none of the name."""
    filled: list[str] = [one.title for one in book.worksheets if one.sheet_state == "visible" and _holds_something(one)]
    named: list[str] = [one.title for one in book.worksheets]
    if sheet:
        if sheet not in named:
            raise _Said(f"has no sheet {sheet} (it has {_listed(named)})", f"choose one with --option sheet={named[0]}")
        return sheet
    if not filled:
        raise _Said("holds no sheet with values", "export the table again")
    if len(filled) > 1:
        option = f'"sheet={filled[0]}"' if " " in filled[0] else f"sheet={filled[0]}"
        cause = f"has {len(filled)} sheets with values ({_listed(filled)})"
        raise _Said(cause, f"choose one, for example --option {option}")
    return filled[0]


def _listed(names: list[str]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")


def _holds_something(sheet: Any) -> bool:
    rows = _rows(sheet, _LOOKED_AT * _MOST_COLUMNS)
    return any(value is not None for _, row in zip(range(_LOOKED_AT), rows, strict=False) for value in row)


def _rows(sheet: Any, most_cells: int) -> Iterator[tuple[Any, ...]]:
    # What the file states as the sheet's extent may be wrong.
    sheet.reset_dimensions()
    cells = 0
    for row in sheet.iter_rows(values_only=True):
        cells += len(row)
        if len(row) > _MOST_COLUMNS or cells > most_cells:
            raise _TooMuch("cells")
        yield row


def _with_formulas(values: tuple[Any, ...], written: tuple[Any, ...]) -> tuple[Any, ...]:
    """The stored values; where a formula has none, the formula."""
    return tuple(
        _formula(one) if value is None and one is not None else value
        for value, one in zip(values, written, strict=False)
    )


def _formula(written: Any) -> str:
    return written if isinstance(written, str) else "=" + str(getattr(written, "text", ""))


def _text(value: Any) -> str:
    """A stored value as a text that reads back as the same value."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case datetime.datetime() if value.time() == datetime.time():
            return str(value.date())
        case datetime.datetime():
            return str(value)
    return str(value)


if __name__ == "__main__":
    main(sys.argv[1], [int(one) for one in sys.argv[2:7]], sys.argv[7])
