"""Examine a table once: a summary of its valid rows, the content of its columns, and everything that is wrong, line
by line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from archipel.data.files import LeavesOut
from archipel.data.samples import ColumnSummary, DataIssue, Session, SubjectId
from archipel.data.tables.cells import is_comma_number, limit_of
from archipel.data.tables.column_tally import ColumnTally, empty_columns, unclear_marks
from archipel.data.tables.dictionary import Misfit
from archipel.data.tables.faults import Faults, ids_as_numbers, rounded_ids
from archipel.data.tables.odd_cells import as_typed
from archipel.data.tables.repeated_rows import RepeatedFacts, RepeatedRows
from archipel.data.tables.table_files import TableFile
from archipel.data.tables.table_rows import Key, PatientTable
from archipel.data.tables.text_tables import Row, bad
from archipel.vocabulary import Record, Value

_KEY = TypeAdapter(tuple[SubjectId, Session])


class ColumnFacts(Record):
    """The content of a table's columns, and what is wrong."""

    columns: dict[str, ColumnSummary]
    problems: tuple[DataIssue, ...]


class TableFacts(ColumnFacts):
    """The same with the valid rows: subject, session, hash and the columns that have no value."""

    rows: tuple[tuple[str, str, str, tuple[str, ...]], ...]
    several: RepeatedFacts


def examine(path: Path, options: Mapping[str, str], leaves_out: LeavesOut = lambda _: False) -> TableFacts:
    """Facts about a table; rows of subjects whom ``leaves_out`` names are skipped.

    Raises BadInput for a file that is not a table, and for one whose numbers may be read in two ways.
    """
    table = PatientTable.opened(path, options)
    faults = Faults(path.name)
    for cause, remedy in (*table.notes, *_identifying(table)):
        faults.add(path.name, cause, remedy, severity="warning")
    several = RepeatedRows(table, leaves_out)
    asks = asks_for_marks(table.file, options)
    nameless = table.file.nameless
    tallies = [
        ColumnTally(name, reader, asks_for_mark=asks, nameless=nameless.get(name, 0))
        for _, name, reader in table.columns.values
    ]
    rows: list[tuple[str, str, str, list[str]]] = []
    for number, row in table.every_row():
        if number in several.of_nobody:
            faults.no_patient(row, table.kinds.reason(row))
            continue
        if not table.fits(row):
            cause = f"has {len(row.fields)} fields where there are {len(table.file.names)} columns"
            faults.line(row, cause, "quote fields that hold the delimiter, or fix the line")
            continue
        key = table.key(row, number)
        if leaves_out(key[0]):
            continue
        if several.took(key, row):
            continue
        if not _is_named(key):
            cause = "has an id that is too long or holds / or control characters" if key[0] else _without_id(table, row)
            faults.line(row, cause, "give every row the id of its patient")
            continue
        values = _values(table, row, key, faults)
        if values is None:
            continue
        for tally, value, (at, _, _) in zip(tallies, values, table.columns.values, strict=True):
            tally.add(value, row.fields[at], row.line)
        missing = [tally.name for tally, value in zip(tallies, values, strict=True) if value is None]
        rows.append((*key, table.hash(row), missing))
    unclear = unclear_marks(tallies)
    if unclear is not None:
        raise bad(path, *unclear)
    if not rows and not faults.errors and not several:
        only = options.get("rows", "")
        faults.add(path.name, f"holds no row with {only}" if only else "holds no row", "add the patients' rows")
    empty = empty_columns(tallies, len(rows))
    for cause, remedy in (*([empty] if empty else ()), *(said for tally in tallies for said in tally.suspicions())):
        faults.add(path.name, cause, remedy, severity="warning")
    ids = [row[0] for row in rows] + [key[0] for key in several.keys]
    if (told := rounded_ids(ids)) is not None:
        faults.add_spoiling(path.name, *told)
    if (told := ids_as_numbers(ids)) is not None:
        faults.add(path.name, *told, severity="warning")
    shown = [tally for tally in tallies if not tally.identifies]
    gone = {tally.name for tally in tallies if tally.identifies}
    return TableFacts(
        rows=tuple((*key, tuple(name for name in missing if name not in gone)) for *key, missing in rows),
        columns={tally.name: tally.summary() for tally in shown},
        problems=tuple(faults.all()),
        several=several.facts(),
    )


def asks_for_marks(file: TableFile, options: Mapping[str, str]) -> bool:
    """Whether a point may stand between thousands: semicolons divide the columns where the comma divides decimals."""
    told = options.get("decimal") or options.get("thousands")
    return not told and file.text is not None and file.text.delimiter == ";"


def _identifying(table: PatientTable) -> Iterator[tuple[str, str]]:
    """Cause and remedy where columns hold what identifies a person, by their names."""
    found = table.columns.left_out
    if found:
        said = ", ".join(f"{name} ({what})" for name, what in found)
        noun = "column identifies" if len(found) == 1 else "columns identify"
        yield (
            f"{len(found)} {noun} persons and {'is' if len(found) == 1 else 'are'} left out: {said}",
            f"if a plan needs one all the same: {as_typed('keep', found[0][0])}",
        )


def _without_id(table: PatientTable, row: Row) -> str:
    held = row.fields[table.columns.subject].strip() if table.columns.subject is not None else ""
    return f"has no subject id (it holds {held})" if held else "has no subject id"


def _is_named(key: Key) -> bool:
    try:
        _KEY.validate_python(key)
    except ValidationError:
        return False
    return True


def _values(table: PatientTable, row: Row, key: Key, faults: Faults) -> list[Value | None] | None:
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
                remedy = "set --option decimal=, or fix the value"
            elif reader.rule is not None and reader.rule.type == "number":
                limit = f"{as_typed('censored', name)}, " if limit_of(row.fields[at].strip()) else ""
                remedy = f"fix the value, or choose {limit}{as_typed('number', name)} (what is not a number is missing)"
            faults.line(row, f"{name} {error}", remedy, key[0])
    return values if sound else None
