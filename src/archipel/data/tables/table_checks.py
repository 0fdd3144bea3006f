"""Examine a table once: a summary of its valid rows, the content of its columns, and everything that is wrong, line
by line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from archipel.data.samples import ColumnSummary, DataIssue, Session, SubjectId
from archipel.data.tables.dictionary import ColumnReader, Misfit, is_comma_number
from archipel.data.tables.repeated_rows import RepeatedFacts, RepeatedRows
from archipel.data.tables.table_files import Row
from archipel.data.tables.table_rows import Key, PatientTable
from archipel.vocabulary import Record, Value

_LISTED = 20
"""So many faulty lines of one kind are listed; the others are counted."""
_MOST_CATEGORIES = 30
_SUSPICIOUS = frozenset({"-9999", "-999", "-99", "9999"})
_KEY = TypeAdapter(tuple[SubjectId, Session])


class ColumnFacts(Record):
    """The content of a table's columns, and what is wrong."""

    columns: dict[str, ColumnSummary]
    problems: tuple[DataIssue, ...]


class TableFacts(ColumnFacts):
    """The same with the valid rows: subject, session, hash and the columns that have no value."""

    rows: tuple[tuple[str, str, str, tuple[str, ...]], ...]
    several: RepeatedFacts


def examine(path: Path, options: Mapping[str, str], left_out: Collection[str] = frozenset()) -> TableFacts:
    """Facts about a table; rows of subjects who are ``left_out`` are skipped.

    Raises BadInput for a file that is not a table.
    """
    table = PatientTable.opened(path, options)
    faults = _Faults(path.name)
    for cause, remedy in table.notes:
        faults.add(path.name, cause, remedy, severity="warning")
    several = RepeatedRows(table)
    tallies = [_Tally(name, reader) for _, name, reader in table.columns.values]
    rows: list[tuple[str, str, str, tuple[str, ...]]] = []
    for number, row in table.rows():
        if not table.fits(row):
            cause = f"has {len(row.fields)} fields where there are {len(table.file.names)} columns"
            faults.line(row, cause, "quote fields that hold the delimiter, or fix the line")
            continue
        key = table.key(row, number)
        if key[0] in left_out:
            continue
        if several.took(key, row):
            continue
        if not _is_named(key):
            cause = "has an id that is too long or holds / or control characters" if key[0] else "has no subject id"
            faults.line(row, cause, "give every row the id of its patient")
            continue
        values = _values(table, row, key, faults)
        if values is None:
            continue
        for tally, value in zip(tallies, values, strict=True):
            tally.add(value)
        missing = tuple(tally.name for tally, value in zip(tallies, values, strict=True) if value is None)
        rows.append((*key, table.hash(row), missing))
    if not rows and not faults.errors and not several:
        only = options.get("rows", "")
        faults.add(path.name, f"holds no row with {only}" if only else "holds no row", "add the patients' rows")
    for tally in tallies:
        for cause, remedy in tally.suspicions():
            faults.add(path.name, cause, remedy, severity="warning")
    return TableFacts(
        rows=tuple(rows),
        columns={tally.name: tally.summary() for tally in tallies},
        problems=tuple(faults.all()),
        several=several.facts(),
    )


def _is_named(key: Key) -> bool:
    try:
        _KEY.validate_python(key)
    except ValidationError:
        return False
    return True


def _values(table: PatientTable, row: Row, key: Key, faults: _Faults) -> list[Value | None] | None:
    """The row's values, None for one that is missing; no list when one does not fit its column."""
    values: list[Value | None] = []
    sound = True
    for at, name, reader in table.columns.values:
        try:
            values.append(reader(row.fields[at]))
        except Misfit as error:
            sound = False
            remedy = "fix the value, or name it in the dictionary as a missing code or a category"
            if is_comma_number(row.fields[at]):
                remedy = "set decimal=, or fix the value"
            faults.line(row, f"{name} {error}", remedy, key[0])
    return values if sound else None


class _Faults:
    """What is wrong with a table; of a fault that many lines have, only the first are listed."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._found: list[DataIssue] = []
        self._lines: Counter[tuple[str, str]] = Counter()

    @property
    def errors(self) -> bool:
        return any(problem.severity == "error" for problem in self._found)

    def add(self, thing: str, cause: str, remedy: str, subject: str = "", severity: str = "error") -> None:
        self._found.append(DataIssue(thing=thing, cause=cause, remedy=remedy, subject=subject, severity=severity))

    def line(self, row: Row, cause: str, remedy: str, subject: str = "") -> None:
        self._lines[cause, remedy] += 1
        if self._lines[cause, remedy] <= _LISTED:
            self.add(f"{self._file} line {row.line}", cause, remedy, subject)

    def all(self) -> Iterator[DataIssue]:
        """Everything, and how many lines more each kind of fault has."""
        yield from self._found
        for (cause, remedy), count in self._lines.items():
            if count > _LISTED:
                yield DataIssue(thing=f"{self._file}, {count - _LISTED} lines more", cause=cause, remedy=remedy)


class _Tally:
    """What a column holds, counted row by row."""

    def __init__(self, name: str, reader: ColumnReader) -> None:
        self.name = name
        self._reader = reader
        self._numbers = self._texts = self._commas = 0
        self._low, self._high = float("inf"), float("-inf")
        self._categories: Counter[str] | None = Counter()
        self._suspicious: Counter[str] = Counter()

    def add(self, value: Value | None) -> None:
        if value is None:
            return
        if isinstance(value, str):
            shown = value
            self._texts += 1
            self._commas += is_comma_number(value)
        else:
            shown = f"{value:g}"
            self._numbers += 1
            self._low, self._high = min(self._low, value), max(self._high, value)
            if shown in _SUSPICIOUS:
                self._suspicious[shown] += 1
        if self._categories is not None:
            self._categories[shown] += 1
            if len(self._categories) > _MOST_CATEGORIES:
                self._categories = None

    def suspicions(self) -> Iterator[tuple[str, str]]:
        """Values that look like a code, or like numbers that were read as text: cause and remedy."""
        for code, count in self._suspicious.items():
            remedy = "name it in the dictionary as a missing code, if it is one"
            yield f"column {self.name} holds {code} in {count} rows", remedy
        if self._reader.rule is None and self._commas > self._texts / 2:
            yield f"column {self.name} holds numbers with a decimal comma, read as text", "set decimal=,"

    def summary(self) -> ColumnSummary:
        """The column as the catalog knows it; what is missing is counted from the rows in use."""
        rule = self._reader.rule
        kind = rule.type if rule else self._guessed()
        numeric = kind == "number" and self._numbers > 0
        return ColumnSummary(
            type=kind,
            unit=rule.unit if rule else "",
            missing_codes=dict(sorted(self._reader.codes.items())),
            categories=dict(sorted(self._listed(kind).items())),
            minimum=self._low if numeric else None,
            maximum=self._high if numeric else None,
        )

    def _guessed(self) -> str:
        if not self._texts:
            return "number" if self._numbers else "text"
        few = self._categories is not None and len(self._categories) <= self._texts / 2
        return "category" if few else "text"

    def _listed(self, kind: str) -> Mapping[str, int]:
        found: Mapping[str, int] = self._categories or {}
        # Numbers are listed only where they look like codes: never the ages or weights of single patients.
        codes = len(found) <= 10 and all(one.isdigit() and len(one) < 3 for one in found)
        return found if kind == "category" or (kind == "number" and codes) else {}
