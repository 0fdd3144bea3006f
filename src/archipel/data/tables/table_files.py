"""Tables on disk: the rows of a CSV, TSV or Parquet file as texts, each with the line that it came from.

A file is checked before it is read: what encoding it is in, what divides its columns, whether it is a table at
all. If that is not certain, an error says how to settle it; a guess could shift columns.
"""

from __future__ import annotations

import codecs
import csv
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from archipel.data.tables import parquet_files
from archipel.data.tables.parquet_files import PARQUET_LIMITS, ParquetLimits
from archipel.vocabulary import BadInput, ErrorCode, Thing

_DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "\\t": "\t"}
_SEEN = 200
"""How many rows decide which delimiter divides the columns."""
_LONGEST_LINE = 32 << 20
"""Bytes; a line is taken into memory whole, and its fields one by one take many times as much."""
_BINARY = {b"PK\x03\x04": "a zip archive (an Excel workbook, perhaps)", b"PAR1": "Parquet", b"\x1f\x8b": "gzip",
           b"\x00\x05\x16\x07": "a resource fork"}  # fmt: skip
_SYMBOLS = frozenset("°µ²³±·§¹¼½¾ºª×÷€")


class Row(NamedTuple):
    """A row of a table: where it begins in the file (line of a text, row of a Parquet file, from 1) and its fields."""

    line: int
    fields: Sequence[str]


@dataclass(frozen=True)
class TableFile:
    """An opened table: its columns, and how its rows are read. ``notes`` are things to tell a person."""

    path: Path
    names: tuple[str, ...]
    delimiter: str = ","
    encoding: str = "utf-8"
    has_header: bool = True
    notes: tuple[tuple[str, str], ...] = field(default=())
    parquet: ParquetLimits = PARQUET_LIMITS

    def rows(self) -> Iterator[Row]:
        """Every row but the header; empty lines are passed over. Raises BadInput where the text breaks off."""
        if self.path.suffix.lower() == parquet_files.SUFFIX:
            yield from (
                Row(number, fields) for number, fields in enumerate(parquet_files.rows(self.path, self.parquet), 1)
            )
            return
        text_rows = _text_rows(self.path, self.delimiter, self.encoding)
        if self.has_header:
            next(text_rows, None)
        yield from text_rows


def open_table(
    path: Path,
    *,
    delimiter: str = "",
    encoding: str = "",
    names: Sequence[str] = (),
    header: bool = True,
    parquet: ParquetLimits = PARQUET_LIMITS,
) -> TableFile:
    """Open a table. ``names`` are its columns when it has no ``header``; ``parquet`` limits a Parquet file.

    Raises BadInput for a file that is not a table, is not in the given encoding or does not have the given delimiter.
    """
    notes: list[tuple[str, str]] = []
    if path.suffix.lower() == parquet_files.SUFFIX:
        named = _header(path, parquet_files.columns(path, parquet), notes)
        return TableFile(path, named, notes=tuple(notes), parquet=parquet)
    code_page = _encoding(path, encoding, notes)
    divider = _divider(path, _delimiter(path, delimiter), code_page, len(names) if not header else 0)
    first = next(_text_rows(path, divider, code_page)).fields
    if not header:
        if len(names) != len(first):
            cause = f"has {len(first)} columns, the dictionary names {len(names)}"
            raise bad(path, cause, "name every column of the file in the dictionary, in their order")
        return TableFile(path, tuple(names), divider, code_page, False, tuple(notes))
    return TableFile(path, _header(path, first, notes), divider, code_page, True, tuple(notes))


def bad(path: Path, cause: str, remedy: str) -> BadInput:
    """The error for a table that cannot be used."""
    return BadInput(Thing.file(path.name), cause, remedy, code=ErrorCode.BAD_DATA)


def _header(path: Path, first: Sequence[str], notes: list[tuple[str, str]]) -> tuple[str, ...]:
    names = []
    for place, text in enumerate(first, 1):
        name = text.strip()
        if not name:
            name = f"column_{place}"
            notes.append((f"column {place} has no name", f"it is called {name} here; name it in the file"))
        names.append(name)
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise bad(path, f"has more than one column named {', '.join(twice)}", "give each column a name of its own")
    return tuple(names)


def _text_rows(path: Path, delimiter: str, encoding: str) -> Iterator[Row]:
    begins = 1
    try:
        with path.open(encoding=encoding, newline="") as file:
            lines = csv.reader(file, delimiter=delimiter, strict=True, skipinitialspace=True)
            for fields in lines:
                if fields:
                    yield Row(begins, fields)
                begins = lines.line_num + 1
    except csv.Error as error:
        remedy = "close or double the quotation mark there"
        raise bad(path, f"cannot be read from line {begins} on ({error})", remedy) from error
    except UnicodeError as error:
        raise bad(
            path, f"is not in encoding {encoding} from line {begins} on", "set its encoding with encoding=..."
        ) from error


# What divides the columns


def _delimiter(path: Path, told: str) -> str:
    found = _DELIMITERS.get(told, told)
    if found and (len(found) != 1 or found.isalnum() or found in '"\n\r'):
        raise bad(path, f"cannot be divided by {told!r}", "give delimiter=, or ; or tab or |")
    return found


def _divider(path: Path, given: str, encoding: str, width: int) -> str:
    """The delimiter that makes a table of the first rows, or the given one."""
    if given:
        own = _width(path, given, encoding)
        if own > 1:
            return given
        others = [(one, _width(path, one, encoding)) for one in ",;\t|" if one != given]
        better = [f"delimiter={_word(one)} gives {columns}" for one, columns in others if columns > 1]
        _check_agreement(path, [given], encoding, better)
        cause = f"has a single column when divided by {_word(given)}"
        raise bad(path, cause, "; ".join(better) or "a table needs two columns at least")
    widths = {one: _width(path, one, encoding) for one in ",;\t|"}
    fitting = {one: columns for one, columns in widths.items() if columns > 1}
    if width and width in fitting.values():
        fitting = {one: columns for one, columns in fitting.items() if columns == width}
    if not fitting:
        _check_agreement(path, ",;\t|", encoding)
        cause = "has a single column whether divided by comma, semicolon, tab or |"
        raise bad(path, cause, "set delimiter=..., or export it as CSV")
    if len(fitting) > 1:
        ways = " or ".join(f"by {_word(one)} ({columns} columns)" for one, columns in fitting.items())
        raise bad(path, f"may be divided {ways}", "choose one with delimiter=...")
    return next(iter(fitting))


def _check_agreement(path: Path, delimiters: Iterable[str], encoding: str, better: Sequence[str] = ()) -> None:
    """Raise BadInput when the first row has columns by one of these, and too many of the next have other numbers."""
    for delimiter in delimiters:
        rows = _rows_seen(path, delimiter, encoding)
        if not rows or len(rows[0].fields) < 2:
            continue
        width = len(rows[0].fields)
        odd = [row.line for row in rows if len(row.fields) != width]
        lines = ", ".join(map(str, odd[:5])) + (", ..." if len(odd) > 5 else "")
        first = f"has {width} columns in its first line when divided by {_word(delimiter)}"
        cause = f"{first}, and another number in line {lines}"
        remedy = "quote fields that hold the delimiter or fix the lines, or set delimiter=..."
        raise bad(path, cause, "; ".join(better) or remedy)


def _rows_seen(path: Path, delimiter: str, encoding: str) -> list[Row]:
    found: list[Row] = []
    # A text that breaks off is reported when its rows are read.
    with suppress(BadInput):
        found.extend(islice(_text_rows(path, delimiter, encoding), _SEEN))
    return found


def _width(path: Path, delimiter: str, encoding: str) -> int:
    """How many columns nearly all of the first rows have, 1 when they do not agree on the first row's."""
    widths = [len(row.fields) for row in _rows_seen(path, delimiter, encoding)]
    agreeing = sum(width == widths[0] for width in widths) if widths else 0
    # A few ragged rows are named one by one later; more of them mean another delimiter.
    return widths[0] if agreeing > len(widths) / 2 else 1


def _word(delimiter: str) -> str:
    return "tab" if delimiter == "\t" else delimiter


# Encoding


def _encoding(path: Path, given: str, notes: list[tuple[str, str]]) -> str:
    """The encoding's name for Python. Reads the whole file once, in pieces."""
    try:
        name = codecs.lookup(given).name if given else ""
        # Codecs that are not of texts, such as base64, are refused here too.
        "".encode(given or "utf-8")
    except LookupError as error:
        raise bad(path, f"encoding {given} is unknown", "give utf-8, latin-1 or cp1252") from error
    decoder = codecs.getincrementaldecoder(name or "utf-8")()
    fits, line, first, high, running = True, 1, b"", set[int](), 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                if not first:
                    first = chunk[:4]
                    _check_text(path, first, name)
                if b"\0" in chunk and not name.startswith("utf-16"):
                    line += chunk[: chunk.index(b"\0")].count(b"\n")
                    raise bad(path, f"holds a NUL byte in line {line}", "it is damaged or is not text; export it again")
                ended = max(chunk.find(b"\n"), chunk.find(b"\r"))
                running += len(chunk) if ended < 0 else ended
                if running > _LONGEST_LINE:
                    cause = f"has a line {line} of more than {_LONGEST_LINE >> 20} MiB"
                    raise bad(path, cause, "it is not a table, or damaged; export it again")
                if ended >= 0:
                    running = len(chunk) - 1 - max(chunk.rfind(b"\n"), chunk.rfind(b"\r"))
                high.update(set(chunk).difference(range(128)))
                try:
                    decoder.decode(chunk)
                except UnicodeDecodeError as error:
                    if name:
                        line += chunk[: error.start].count(b"\n")
                        raise _not_in(path, given, line) from error
                    fits = False
                    decoder.reset()
                line += chunk.count(b"\n")
    except OSError as error:
        raise bad(path, f"cannot be read ({error.strerror})", "check the file and its permissions") from error
    if not first:
        raise bad(path, "is empty", "export the table again")
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        if name:
            raise _not_in(path, given, line) from error
        fits = False
    if name:
        return "utf-8-sig" if name == "utf-8" else name
    if fits:
        return "utf-8-sig"
    if all(_is_latin1(byte) for byte in high):
        notes.append(("is not UTF-8; it was read as Latin-1", "check its accented letters, and set encoding=latin-1"))
        return "latin-1"
    raise bad(path, "is not UTF-8", "set its encoding, for example encoding=cp1252 for a file from Windows")


def _not_in(path: Path, told: str, line: int) -> BadInput:
    return bad(
        path,
        f"is not in encoding {told} (line {line})",
        "set its encoding, for example encoding=latin-1 or encoding=cp1252",
    )


def _check_text(path: Path, first: bytes, told: str) -> None:
    if first[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) and not told.startswith("utf-16"):
        raise bad(path, "is UTF-16", "set encoding=utf-16, or export it as UTF-8")
    for magic, what in _BINARY.items():
        if first.startswith(magic):
            raise bad(path, f"is not text but {what}", "export the table as CSV, or name the file by what it is")


def _is_latin1(byte: int) -> bool:
    character = chr(byte)
    return unicodedata.category(character).startswith("L") or character in _SYMBOLS
