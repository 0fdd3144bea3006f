"""The rows of one sheet of an Excel workbook, each as its number and its texts; read by the program
``limited_reader.py``.

A workbook is a zip archive of XML, and a few KiB of it may unpack to any size. The archive's directory is read first,
so that too large a part is refused before it is unpacked; Python unpacks no more of a part than the directory says.
Formulas are not computed: their stored values are read. A formula without a stored value is given as it is written.
"""

from __future__ import annotations

import datetime
import re
import shlex
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from archipel.data.tables.limited_reader import Allowance

_FORMULA = re.compile(rb"<(\w+:)?f[ />]")
_MOST_PARTS = 10_000
_MOST_STRINGS = 1 << 29
"""Bytes of the part with the texts, which is read as a whole."""
_MOST_COLUMNS = 16_384
_LAST_ROW = 1_048_576
_LOOKED_AT = 100
"""Rows that decide whether a sheet holds something."""


def lines(path: str, allowance: Allowance, sheet: str) -> Iterator[tuple[int, list[str]]]:
    """Number and texts of each row that holds something."""
    from openpyxl import load_workbook

    has_formulas = _checked(path, allowance)
    book = load_workbook(path, read_only=True, data_only=True, keep_links=False)
    name = _chosen(book, allowance, sheet)
    values = _rows(book[name], allowance)
    if has_formulas:
        written = _rows(load_workbook(path, read_only=True, keep_links=False)[name], allowance)
        values = (_with_formulas(row, texts) for row, texts in zip(values, written, strict=True))
    for number, cells in enumerate(values, 1):
        if number > _LAST_ROW:
            allowance.refuse("rows")
        fields = [_text(value) for value in cells]
        while fields and not fields[-1].strip():
            fields.pop()
        if fields:
            allowance.take(fields)
            yield number, fields


def _checked(path: str, allowance: Allowance) -> bool:
    """Whether a sheet has formulas. Ends the reading for what the archive's directory says."""
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        if len(parts) > _MOST_PARTS or sum(part.file_size for part in parts) > allowance.text:
            allowance.refuse("text")
        names = {part.filename for part in parts}
        if "xl/workbook.xml" not in names:
            allowance.say("is not an Excel workbook but another zip archive", "unpack it, or export the table as CSV")
        found = False
        for part in parts:
            if part.filename.lower().endswith("sharedstrings.xml") and part.file_size > _MOST_STRINGS:
                allowance.refuse("text")
            if part.filename.startswith("xl/worksheets/") and part.filename.endswith(".xml") and not found:
                with archive.open(part) as file:
                    before = b""
                    while chunk := file.read(1 << 20):
                        if _FORMULA.search(before + chunk):
                            found = True
                            break
                        before = chunk[-32:]
    return found


def _chosen(book: Any, allowance: Allowance, sheet: str) -> str:
    """The name of the sheet to be read. Ends the reading when there are several, or none of the name."""
    named: list[str] = [one.title for one in book.worksheets]
    if sheet in named:
        return sheet
    if not named:
        allowance.say("holds no sheet with values", "export the table again")
    if sheet:
        allowance.say(f"has no sheet {sheet} (it has {_listed(named)})", f"choose one with {_option(named[0])}")
    visible = (one for one in book.worksheets if one.sheet_state == "visible")
    filled: list[str] = [one.title for one in visible if _holds_something(one, allowance)]
    if not filled:
        allowance.say("holds no sheet with values", "export the table again")
    if len(filled) > 1:
        cause = f"has {len(filled)} sheets with values ({_listed(filled)})"
        allowance.say(cause, f"choose one, for example {_option(filled[0])}")
    return filled[0]


def _option(name: str) -> str:
    """As a person types it."""
    return f"--option {shlex.quote(f'sheet={name}')}"


def _listed(names: list[str]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")


def _holds_something(sheet: Any, allowance: Allowance) -> bool:
    rows = _rows(sheet, allowance)
    return any(value is not None for _, row in zip(range(_LOOKED_AT), rows, strict=False) for value in row)


def _rows(sheet: Any, allowance: Allowance) -> Iterator[tuple[Any, ...]]:
    # What the file states as the sheet's extent may be wrong.
    sheet.reset_dimensions()
    for row in sheet.iter_rows(values_only=True):
        allowance.cells -= len(row)
        if len(row) > _MOST_COLUMNS or allowance.cells < 0:
            allowance.refuse("cells")
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
