"""Rows of a table as samples: the subject of each, its values, and a hash that shows a change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from json.encoder import encode_basestring_ascii
from pathlib import Path

from archipel.data.tables.cells import MARKS
from archipel.data.tables.dictionary import (
    LIMITS_OF,
    POINT,
    ColumnReader,
    ColumnRule,
    Dictionary,
    LimitReader,
    Misfit,
    NumberMarks,
)
from archipel.data.tables.identifiers import column_of_ids, identifying_column, second_id
from archipel.data.tables.odd_cells import listed_columns, listed_units
from archipel.data.tables.row_kinds import RowKinds, holds_no_id
from archipel.data.tables.table_files import TableFile, open_table
from archipel.data.tables.text_tables import Row, bad
from archipel.data.tables.yes_no import YesNoReader
from archipel.tensors import blob_hash
from archipel.vocabulary import Value

_LOOKED_AT = 21
"""Rows by which a row of units is known."""
_LONGEST_UNIT = 40
Key = tuple[str, str]
"""Subject and session."""


@dataclass(frozen=True)
class Columns:
    """Which columns of a file name the subject and session, and how the others are read; places count from 0.

    ``subject`` and ``session`` are None where no column says so, ``only`` a column and the value it must have.
    ``values`` are the columns that hold values: place, name and reader; ``left_out`` the columns that hold what
    identifies a person: name and what that is.
    """

    subject: int | None
    session: int | None
    only: tuple[int, str] | None
    values: tuple[tuple[int, str, ColumnReader], ...]
    left_out: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class PatientTable:
    """An opened table whose rows are samples; ``notes`` are things to tell a person: cause and remedy."""

    file: TableFile
    columns: Columns
    kinds: RowKinds
    notes: tuple[tuple[str, str], ...] = ()

    @classmethod
    def opened(cls, path: Path, options: Mapping[str, str]) -> PatientTable:
        """Raises BadInput for a file that is not a table, or options that do not fit it."""
        text = options.get("dictionary", "")
        dictionary = Dictionary.model_validate_json(text) if text else Dictionary()
        header = _header_line(path, options, dictionary)
        file = open_table(
            path,
            delimiter=options.get("delimiter", ""),
            encoding=options.get("encoding", ""),
            names=tuple(dictionary.column),
            header=header > 0,
            header_line=max(header, 1),
            sheet=options.get("sheet", ""),
        )
        notes = [*file.notes, *_against_dictionary(file, dictionary)]
        if header and not options.get("header") and len(file.names) > 1 and all(map(_is_number, file.names)):
            cause = "has numbers where the columns' names should be, in its first line"
            notes.append(
                (cause, "if it is a row: --option header=no --option dictionary=FILE, which names the columns")
            )
        subject = _subject(file, options)
        if subject is None:
            cause = "has no column of patients' ids: each row is a patient of its own, named by its number"
            notes.append((cause, "name the column with --option subject=COLUMN"))
        session = _told(file, options, "session")
        columns = _columns(file, options, dictionary, subject, session)
        # The types of a Parquet file leave no place for a row of units.
        first = [] if file.path.suffix.lower() == ".parquet" else file.first_rows(_LOOKED_AT)
        return cls(file, columns, RowKinds.of(file.names, subject or 0, first), tuple(notes))

    def every_row(self) -> Iterator[tuple[int, Row]]:
        """Rows that the dataset is about, numbered from 1; rows of another width, and such that are not a patient's,
        are among them."""
        only, width = self.columns.only, len(self.file.names)
        for number, row in enumerate(self.file.rows(), 1):
            if self.kinds.holds_nothing(row):
                continue
            if only is None or len(row.fields) != width or row.fields[only[0]].strip() == only[1]:
                yield number, row

    def rows(self) -> Iterator[tuple[int, Row]]:
        """The same without rows that are not a patient's."""
        return ((number, row) for number, row in self.every_row() if not self.kinds.reason(row))

    def fits(self, row: Row) -> bool:
        """Whether the row has as many fields as there are columns."""
        return len(row.fields) == len(self.file.names)

    def key(self, row: Row, number: int) -> Key:
        """Subject and session of a row that fits; a word for a missing value is not a subject."""
        subject, session = self.columns.subject, self.columns.session
        named = f"row-{number:06d}" if subject is None else row.fields[subject].strip()
        return "" if holds_no_id(named) else named, "" if session is None else row.fields[session].strip()

    def values(self, row: Row) -> dict[str, Value]:
        """The values of a row, by column. Raises BadInput for a value that does not fit its column."""
        values = {}
        for at, name, reader in self.columns.values:
            try:
                value = reader(row.fields[at])
            except Misfit as error:
                raise bad(self.file.path, f"line {row.line}: {name} {error}", "fix the value") from error
            if value is not None:
                values[name] = value
        return values

    def hash(self, row: Row) -> str:
        """A hash of the row as it is written, whatever order the columns have."""
        # As JSON of the fields by name, in the order of names.
        fields = [name + encode_basestring_ascii(row.fields[at].strip()) for name, at in self._hashed]
        return blob_hash(f"{{{', '.join(fields)}}}".encode())

    @cached_property
    def _hashed(self) -> tuple[tuple[str, int], ...]:
        places = {name: at for at, name in enumerate(self.file.names)}
        return tuple((f"{encode_basestring_ascii(name)}: ", places[name]) for name in sorted(places))


def _is_number(text: str) -> bool:
    return text.strip().removeprefix("-").replace(".", "", 1).isdigit()


def _header_line(path: Path, options: Mapping[str, str], dictionary: Dictionary) -> int:
    """The line with the columns' names, 0 where the file has none."""
    told = options.get("header", "")
    if told.isascii() and told.isdigit() and 0 < int(told) < 10_000:
        return int(told)
    if told not in ("", "yes", "no"):
        raise bad(path, f"header={told} is not valid", "give --option header=no, or the line of the columns' names")
    found = dictionary.header if not told else told == "yes"
    if not found and not dictionary.column:
        raise bad(path, "has no header and nothing names its columns", "give a dictionary, or leave header=no out")
    return int(found)


def _against_dictionary(file: TableFile, dictionary: Dictionary) -> list[tuple[str, str]]:
    gone = [name for name in dictionary.column if name not in file.names]
    if gone and len(gone) == len(dictionary.column):
        cause = f"its first line names none of the dictionary's columns ({_first(gone)})"
        raise bad(file.path, cause, "set header=no if it is a row, or give the table's own dictionary")
    if not gone:
        return []
    return [(f"has no column {_first(gone)}", "the dictionary names it; a plan that needs it cannot run here")]


def _columns(
    file: TableFile, options: Mapping[str, str], dictionary: Dictionary, subject: int | None, session: int | None
) -> Columns:
    rules = _rules(file, options, dictionary)
    marks, kept = number_marks(file.path, options), _asked(file, options, "keep")
    yes_no = {name: option == "marked" for option in ("yes_no", "marked") for name in _asked(file, options, option)}
    values: list[tuple[int, str, ColumnReader]] = []
    left_out: list[tuple[str, str]] = []
    for at, name in enumerate(file.names):
        if at in (subject, session):
            continue
        what = "" if name in kept else identifying_column(name) or (second_id(name) if subject is not None else "")
        if what:
            left_out.append((name, what))
            continue
        rule, keeps = rules.get(name), name in kept
        if name in yes_no:
            choice = YesNoReader(dictionary.missing, marks, marked=yes_no[name], keeps_identifiers=keeps)
            values.append((at, name, choice))
            continue
        values.append((at, name, ColumnReader(rule, dictionary.missing, marks, keeps_identifiers=keeps)))
        if rule is not None and rule.type == "censored":
            if name + LIMITS_OF in file.names:
                cause = f"has a column {name + LIMITS_OF}, which says of {name} which values are limits"
                raise bad(file.path, cause, "give it another name in the file")
            reader = LimitReader(rule, dictionary.missing, marks, keeps_identifiers=keeps)
            values.append((at, name + LIMITS_OF, reader))
    return Columns(subject, session, _only(file, options), tuple(values), tuple(left_out))


def _rules(file: TableFile, options: Mapping[str, str], dictionary: Dictionary) -> dict[str, ColumnRule]:
    """The dictionary's rules, changed by the options that name columns."""
    rules = dict(dictionary.column)
    for kind in ("number", "censored", "text"):
        for name in _asked(file, options, kind):
            known = rules.get(name, ColumnRule(type="text"))
            rules[name] = known.model_copy(update={"type": kind, "odd": "missing"})
    for name, rule in rules_with_units(file.path, options, file.names).items():
        _check_there(file, name, "unit")
        rules[name] = rule
    return rules


def rules_with_units(path: Path, options: Mapping[str, str], names: Sequence[str]) -> dict[str, ColumnRule]:
    """The columns of numbers that have their unit in each cell, by the option ``unit``.

    Raises BadInput for one without a unit.
    """
    units = listed_units(options, frozenset(names))
    for name, unit in units.items():
        if not 0 < len(unit) <= _LONGEST_UNIT:
            raise bad(path, f"unit={name}:{unit} names no unit", "give COLUMN:UNIT, for example unit=chol:mg/dl")
    return {name: ColumnRule(type="number", unit=unit, odd="missing") for name, unit in units.items()}


def number_marks(path: Path, options: Mapping[str, str]) -> NumberMarks:
    """How a site says that numbers are written. Raises BadInput for marks that cannot be."""
    decimal, told = options.get("decimal", "."), options.get("thousands", "")
    if decimal not in (".", ","):
        raise bad(path, f"decimal={decimal} is not valid", "give --option decimal=. or --option decimal=,")
    if told and (told not in MARKS or told == options.get("decimal", "")):
        raise bad(path, f"thousands={told} is not valid", f"give one of {' '.join(MARKS)}")
    if told == decimal:
        # The other mark stands before decimals then.
        decimal = "," if told == "." else "."
    return NumberMarks(decimal, MARKS.get(told, "")) if told or decimal != POINT.decimal else POINT


def _asked(file: TableFile, options: Mapping[str, str], option: str) -> tuple[str, ...]:
    """The columns that an option names. Raises BadInput for one that the file does not have."""
    asked = listed_columns(options, option, frozenset(file.names))
    for name in asked:
        _check_there(file, name, option)
    return asked


def _check_there(file: TableFile, name: str, option: str) -> None:
    if name not in file.names:
        remedy = f"name others with --option {option}=..."
        raise bad(file.path, f"has no column {name} (it has {_first(file.names)})", remedy)


def _subject(file: TableFile, options: Mapping[str, str]) -> int | None:
    told = _told(file, options, "subject")
    if told is not None:
        return told
    found = column_of_ids(file.names)
    return file.names.index(found) if found else None


def _told(file: TableFile, options: Mapping[str, str], role: str) -> int | None:
    name = options.get(role, "")
    if name and name not in file.names:
        raise bad(
            file.path, f"has no column {name} (it has {_first(file.names)})", f"name another with --option {role}=..."
        )
    return file.names.index(name) if name else None


def _only(file: TableFile, options: Mapping[str, str]) -> tuple[int, str] | None:
    told = options.get("rows", "")
    name, equals, value = told.partition("=")
    if told and (name not in file.names or not equals):
        raise bad(
            file.path, f"rows={told} names no column of it ({_first(file.names)})", "give --option rows=COLUMN=VALUE"
        )
    return (file.names.index(name), value) if told else None


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
