"""Tables as text: what divides the columns, in which line the columns' names are, and the rows."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from archipel.data.limits import DATA_LIMITS
from archipel.data.tables.encodings import PACKING_ERRORS, broken_off, open_bytes
from archipel.vocabulary import BadInput, ErrorCode, Thing

_DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "space": " ", "\\t": "\t"}
_USUAL = ",;\t|"
_SEEN = 200
"""How many rows decide which delimiter divides the columns."""
_LINES_ABOVE = 20
"""Below how many lines of a title or of remarks a table is searched."""
_SEP_LINE = re.compile(r'"?sep=(.)"?')
_LONGEST_FIRST = 1 << 20
_FIELDS_SEEN = 1 << 19
"""Fields in memory while a delimiter is searched."""


class Row(NamedTuple):
    """A row of a table: where it begins in the file (line of a text, row of a sheet or a Parquet file, from 1) and its
    fields."""

    line: int
    fields: Sequence[str]


class TextLayout(NamedTuple):
    """How a text is a table: its delimiter, its encoding, and the line with which it begins."""

    delimiter: str
    encoding: str
    begins: int = 1


class _TooWide(BadInput):
    """A row has more fields than a table may have columns."""


def bad(path: Path, cause: str, remedy: str) -> BadInput:
    """The error for a table that cannot be used."""
    return BadInput(Thing.file(path.name), cause, remedy, code=ErrorCode.BAD_DATA)


def text_rows(path: Path, layout: TextLayout) -> Iterator[Row]:
    """The rows, the first one among them; empty lines are passed over. Raises BadInput where the text breaks off."""
    begins = layout.begins
    try:
        with io.TextIOWrapper(open_bytes(path), encoding=layout.encoding, newline="") as file:
            for _ in range(layout.begins - 1):
                file.readline()
            lines = csv.reader(file, delimiter=layout.delimiter, strict=True, skipinitialspace=True)
            for fields in lines:
                check_width(path, begins, len(fields))
                if fields:
                    yield Row(begins, fields)
                begins = layout.begins + lines.line_num
    except csv.Error as error:
        remedy = "close or double the quotation mark there"
        raise bad(path, f"cannot be read from line {begins} on ({error})", remedy) from error
    except UnicodeError as error:
        cause = f"is not in encoding {layout.encoding} from line {begins} on"
        raise bad(path, cause, "set its encoding with --option encoding=...") from error
    except PACKING_ERRORS as error:
        raise broken_off(path) from error


def check_width(path: Path, line: int, columns: int, most: int = DATA_LIMITS.columns) -> None:
    """Raise BadInput for a row with more fields than a table may have columns."""
    if columns > most:
        cause = f"has {columns} fields in line {line}; at most {most} are allowed"
        remedy = "export the columns that are needed, or a table with a row for each patient"
        raise _TooWide(Thing.file(path.name), cause, remedy, code=ErrorCode.BAD_DATA)


def found_layout(path: Path, given: str, encoding: str, begins: int, width: int) -> TextLayout:
    """The delimiter that makes a table of the first rows, or the given one; ``begins`` is the line of the first row,
    ``width`` the number of columns where that is known, else 0.

    A first line ``sep=;``, which Excel writes, says the delimiter and is not a row. Raises BadInput.
    """
    told = _told(path, given)
    if begins == 1 and (found := _SEP_LINE.fullmatch(_first_line(path, encoding))):
        begins, told = 2, told or found[1]
    at = TextLayout("", encoding, begins)
    return at._replace(delimiter=_checked(path, told, at) if told else _searched(path, at, width))


def _told(path: Path, given: str) -> str:
    found = _DELIMITERS.get(given, given)
    if found and (len(found) != 1 or found.isalnum() or found in '"\n\r'):
        names = ", ".join(name for name in _DELIMITERS if name.isalpha())
        raise bad(path, f"cannot be divided by {given!r}", f"give --option delimiter= and one of {names}")
    return found


def _first_line(path: Path, encoding: str) -> str:
    with (
        suppress(UnicodeError, *PACKING_ERRORS),
        io.TextIOWrapper(open_bytes(path), encoding=encoding) as text,
    ):
        return text.readline(_LONGEST_FIRST).strip()
    return ""


def _checked(path: Path, told: str, at: TextLayout) -> str:
    if _width(path, at._replace(delimiter=told)) > 1:
        return told
    others = [(one, _width(path, at._replace(delimiter=one))) for one in _USUAL if one != told]
    better = [f"{_option(one)} gives {columns}" for one, columns in others if columns > 1]
    _check_agreement(path, [told], at, better)
    cause = f"has a single column when divided by {delimiter_name(told)}"
    raise bad(path, cause, "; ".join(better) or "a table needs two columns at least")


def _searched(path: Path, at: TextLayout, width: int) -> str:
    widths = {one: _width(path, at._replace(delimiter=one)) for one in _USUAL}
    fitting = {one: columns for one, columns in widths.items() if columns > 1}
    if width and width in fitting.values():
        fitting = {one: columns for one, columns in fitting.items() if columns == width}
    if not fitting:
        _point_to_header(path, at)
        _check_agreement(path, _USUAL, at)
        cause = "has a single column whether divided by comma, semicolon, tab or |"
        if _width(path, at._replace(delimiter=" ")) > 1:
            raise bad(path, cause, f"if spaces divide it: {_option(' ')}")
        raise bad(path, cause, "set --option delimiter=..., or export it as CSV")
    if len(fitting) > 1:
        ways = " or ".join(f"by {delimiter_name(one)} ({columns} columns)" for one, columns in fitting.items())
        raise bad(path, f"may be divided {ways}", f"choose {' or '.join(map(_option, fitting))}")
    return next(iter(fitting))


def _point_to_header(path: Path, at: TextLayout) -> None:
    """Raise BadInput when the file is a table from a later line on: a title or remarks are above it."""
    for line in range(at.begins + 1, at.begins + _LINES_ABOVE):
        for one in _USUAL:
            rows = _rows_seen(path, TextLayout(one, at.encoding, line))
            widths = {len(row.fields) for row in rows}
            if len(rows) > 2 and len(widths) == 1 and widths != {1} and not _is_remark(rows[0]):
                cause = f"has other lines above its table; line {rows[0].line} may hold the columns' names"
                raise bad(path, cause, f"if so: --option header={rows[0].line}")


def _is_remark(row: Row) -> bool:
    return row.fields[0].startswith("#")


def _check_agreement(path: Path, delimiters: Iterable[str], at: TextLayout, better: Sequence[str] = ()) -> None:
    """Raise BadInput when the first row has columns by one of these, and too many of the next have other numbers."""
    for delimiter in delimiters:
        rows = _rows_seen(path, at._replace(delimiter=delimiter))
        if not rows or len(rows[0].fields) < 2:
            continue
        width = len(rows[0].fields)
        odd = [row.line for row in rows if len(row.fields) != width]
        lines = ", ".join(map(str, odd[:5])) + (", ..." if len(odd) > 5 else "")
        first = f"has {width} columns in its first line when divided by {delimiter_name(delimiter)}"
        cause = f"{first}, and another number in line {lines}"
        remedy = "quote fields that hold the delimiter or fix the lines, or set --option delimiter=..."
        raise bad(path, cause, "; ".join(better) or remedy)


def _rows_seen(path: Path, layout: TextLayout) -> list[Row]:
    found: list[Row] = []
    fields = 0
    try:
        for row in islice(text_rows(path, layout), _SEEN):
            found.append(row)
            fields += len(row.fields)
            if fields > _FIELDS_SEEN:
                break
    except _TooWide:
        raise
    except BadInput:
        # A text that breaks off is reported when its rows are read.
        pass
    return found


def _width(path: Path, layout: TextLayout) -> int:
    """How many columns nearly all of the first rows have, 1 when they do not agree on the first row's."""
    widths = [len(row.fields) for row in _rows_seen(path, layout)]
    agreeing = sum(width == widths[0] for width in widths) if widths else 0
    # A few ragged rows are named one by one later; more of them mean another delimiter.
    return widths[0] if agreeing > len(widths) / 2 else 1


def delimiter_name(delimiter: str) -> str:
    """A delimiter as a sentence names it."""
    return {"\t": "tab", " ": "space"}.get(delimiter, delimiter)


def _option(delimiter: str) -> str:
    """The option that chooses a delimiter, as it is typed into a shell."""
    names = {mark: name for name, mark in _DELIMITERS.items() if name.isalpha()}
    return f"--option delimiter={names.get(delimiter, delimiter)}"
