"""Tables on disk: the rows of a text, a workbook or a Parquet file as texts, each with the line that it came from.

A file is checked before it is read: what encoding it is in, what divides its columns, whether it is a table at
all. If that is not certain, an error says how to settle it; a guess could shift columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from archipel.data.tables import parquet_files, workbook_files
from archipel.data.tables.encodings import encoding_of
from archipel.data.tables.reading_process import UNPACK_LIMITS, UnpackLimits
from archipel.data.tables.text_tables import Row, TextLayout, bad, check_width, found_layout, text_rows

_ABOVE = 30
"""Rows of a sheet among which the columns' names are searched."""


@dataclass(frozen=True)
class TableFile:
    """An opened table: its columns, and how its rows are read. ``notes`` are things to tell a person.

    ``text`` is None for a workbook and a Parquet file; ``sheet`` is the sheet of a workbook, ``begins`` its first row.
    ``nameless`` are columns to which the file gives no name, by the name that they have here.
    """

    path: Path
    names: tuple[str, ...]
    text: TextLayout | None = None
    has_header: bool = True
    notes: tuple[tuple[str, str], ...] = field(default=())
    limits: UnpackLimits = UNPACK_LIMITS
    sheet: str = ""
    begins: int = 1
    nameless: Mapping[str, int] = field(default_factory=dict)
    head: tuple[Row, ...] = ()
    """The first rows of a workbook, the header among them: each reading of it begins a process."""

    def first_rows(self, count: int) -> list[Row]:
        """So many rows, or as many as there are; of a workbook at most those that were read when it was opened."""
        if not self.head:
            return list(islice(self.rows(), count))
        return [self._padded(row) for row in self.head[int(self.has_header) :][:count]]

    def rows(self) -> Iterator[Row]:
        """Every row but the header; empty lines are passed over. Raises BadInput where the text breaks off."""
        if self.text is not None:
            found = text_rows(self.path, self.text)
        elif is_workbook(self.path):
            found = self._of_sheet()
        else:
            yield from (Row(number, fields) for number, fields in enumerate(
                parquet_files.rows(self.path, self.limits), 1))  # fmt: skip
            return
        if self.has_header:
            next(found, None)
        yield from found

    def _of_sheet(self) -> Iterator[Row]:
        for number, texts in workbook_files.rows(self.path, self.sheet, self.limits):
            if number >= self.begins:
                yield self._padded(Row(number, texts))

    def _padded(self, row: Row) -> Row:
        """A row of a workbook with the empty cells at its end, which a sheet does not store."""
        return Row(row.line, [*row.fields, *[""] * (len(self.names) - len(row.fields))])


def is_workbook(path: Path) -> bool:
    """Whether a file is called an Excel workbook."""
    return path.suffix.lower() == workbook_files.SUFFIX


def open_table(
    path: Path,
    *,
    delimiter: str = "",
    encoding: str = "",
    names: Sequence[str] = (),
    header: bool = True,
    header_line: int = 1,
    sheet: str = "",
    limits: UnpackLimits = UNPACK_LIMITS,
) -> TableFile:
    """Open a table. ``names`` are its columns when it has no ``header``, ``header_line`` is the line that has it.

    Raises BadInput for a file that is not a table, is not in the given encoding or does not have the given delimiter.
    """
    notes: list[tuple[str, str]] = []
    if path.suffix.lower() == parquet_files.SUFFIX:
        named, nameless = _header(path, parquet_files.columns(path, limits))
        return TableFile(path, named, notes=tuple(notes), limits=limits, nameless=nameless)
    if is_workbook(path):
        return _open_workbook(path, names, header, header_line, sheet, limits)
    code_page = encoding_of(path, encoding, notes, limits)
    layout = found_layout(path, delimiter, code_page, header_line, len(names) if not header else 0)
    first = next(text_rows(path, layout)).fields
    if not header:
        return TableFile(path, _named(path, names, first), layout, False, tuple(notes), limits)
    named, nameless = _header(path, first)
    return TableFile(path, named, layout, True, tuple(notes), limits, nameless=nameless)


def _open_workbook(
    path: Path, names: Sequence[str], header: bool, header_line: int, sheet: str, limits: UnpackLimits
) -> TableFile:
    rows = workbook_files.rows(path, sheet, limits, header_line + _ABOVE)
    first = [Row(number, texts) for number, texts in rows if number >= header_line]
    if not first:
        raise bad(path, "holds no row" + (f" from {header_line} on" if header_line > 1 else ""), "export it again")
    if len(first[0].fields) < 2:
        wider = next((row.line for row in first if len(row.fields) > 1), 0)
        remedy = f"if the columns' names are in row {wider}: --option header={wider}"
        cause = f"has a single column in row {first[0].line}"
        raise bad(path, cause, remedy if wider else "a table needs two columns at least")
    nameless: dict[str, int] = {}
    if header:
        named, nameless = _header(path, first[0].fields)
    else:
        widest = max(first, key=lambda row: len(row.fields))
        named = _named(path, names, widest.fields)
    return TableFile(path, named, None, header, (), limits, sheet, first[0].line, nameless, tuple(first))


def _named(path: Path, names: Sequence[str], first: Sequence[str]) -> tuple[str, ...]:
    """The names that a dictionary gives. Raises BadInput where they are not as many as there are columns."""
    if len(names) != len(first):
        cause = f"has {len(first)} columns, the dictionary names {len(names)}"
        raise bad(path, cause, "name every column of the file in the dictionary, in their order")
    return tuple(names)


def _header(path: Path, first: Sequence[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    """The columns' names, and the places of those to which the file gives none."""
    check_width(path, 1, len(first))
    names, nameless = [], {}
    for place, text in enumerate(first, 1):
        name = text.strip()
        if not name:
            name = f"column_{place}"
            nameless[name] = place
        names.append(name)
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise bad(path, f"has more than one column named {', '.join(twice)}", "give each column a name of its own")
    return tuple(names), nameless
