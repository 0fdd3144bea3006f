"""Rows of a table as samples: the subject of each, its values, and a hash that shows a change."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from archipel.data.tables.dictionary import ColumnReader, Dictionary, Misfit
from archipel.data.tables.table_files import Row, TableFile, bad, open_table
from archipel.tensors import blob_hash
from archipel.vocabulary import Value

_SUBJECT = ("subject", "subjectid", "participantid", "participant", "patientid", "patient", "ptid", "id")
"""What columns of patients' ids are usually called, without case, spaces and underscores."""
Key = tuple[str, str]
"""Subject and session."""


@dataclass(frozen=True)
class Columns:
    """Which columns of a file name the subject and session, and how the others are read; places count from 0.

    ``subject`` and ``session`` are None where no column says so, ``only`` a column and the value it must have.
    ``values`` are the columns that hold values: place, name and reader.
    """

    subject: int | None
    session: int | None
    only: tuple[int, str] | None
    values: tuple[tuple[int, str, ColumnReader], ...]


@dataclass(frozen=True)
class PatientTable:
    """An opened table whose rows are samples; ``notes`` are things to tell a person: cause and remedy."""

    file: TableFile
    columns: Columns
    notes: tuple[tuple[str, str], ...] = ()

    @classmethod
    def opened(cls, path: Path, options: Mapping[str, str]) -> PatientTable:
        """Raises BadInput for a file that is not a table, or options that do not fit it."""
        text = options.get("dictionary", "")
        dictionary = Dictionary.model_validate_json(text) if text else Dictionary()
        header = _has_header(path, options, dictionary)
        file = open_table(
            path,
            delimiter=options.get("delimiter", ""),
            encoding=options.get("encoding", ""),
            names=tuple(dictionary.column),
            header=header,
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
            notes.append((cause, "name the column with subject=COLUMN"))
        session = _told(file, options, "session")
        return cls(file, Columns(subject, session, _only(file, options), _values(file, options, dictionary, subject,
                                                                                 session)), tuple(notes))  # fmt: skip

    def rows(self) -> Iterator[tuple[int, Row]]:
        """Rows that the dataset is about, numbered from 1; rows of another width are among them."""
        only, width = self.columns.only, len(self.file.names)
        for number, row in enumerate(self.file.rows(), 1):
            if only is None or len(row.fields) != width or row.fields[only[0]].strip() == only[1]:
                yield number, row

    def fits(self, row: Row) -> bool:
        """Whether the row has as many fields as there are columns."""
        return len(row.fields) == len(self.file.names)

    def key(self, row: Row, number: int) -> Key:
        """Subject and session of a row that fits."""
        subject, session = self.columns.subject, self.columns.session
        return (
            f"row-{number:06d}" if subject is None else row.fields[subject].strip(),
            "" if session is None else row.fields[session].strip(),
        )

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
        fields = {name: text.strip() for name, text in zip(self.file.names, row.fields, strict=True)}
        return blob_hash(json.dumps(fields, sort_keys=True).encode())


def _is_number(text: str) -> bool:
    return text.strip().removeprefix("-").replace(".", "", 1).isdigit()


def _has_header(path: Path, options: Mapping[str, str], dictionary: Dictionary) -> bool:
    told = options.get("header", "")
    if told not in ("", "yes", "no"):
        raise bad(path, f"header={told} is not valid", "give header=yes or header=no")
    found = dictionary.header if not told else told == "yes"
    if not found and not dictionary.column:
        raise bad(path, "has no header and nothing names its columns", "give a dictionary, or leave header=no out")
    return found


def _against_dictionary(file: TableFile, dictionary: Dictionary) -> list[tuple[str, str]]:
    gone = [name for name in dictionary.column if name not in file.names]
    if gone and len(gone) == len(dictionary.column):
        cause = f"its first line names none of the dictionary's columns ({_first(gone)})"
        raise bad(file.path, cause, "set header=no if it is a row, or give the table's own dictionary")
    if not gone:
        return []
    return [(f"has no column {_first(gone)}", "the dictionary names it; a plan that needs it cannot run here")]


def _values(
    file: TableFile, options: Mapping[str, str], dictionary: Dictionary, *known: int | None
) -> tuple[tuple[int, str, ColumnReader], ...]:
    decimal = options.get("decimal", ".")
    if decimal not in (".", ","):
        raise bad(file.path, f"decimal={decimal} is not valid", "give decimal=. or decimal=,")
    return tuple(
        (at, name, ColumnReader(dictionary.column.get(name), dictionary.missing, decimal))
        for at, name in enumerate(file.names)
        if at not in known
    )


def _subject(file: TableFile, options: Mapping[str, str]) -> int | None:
    told = _told(file, options, "subject")
    if told is not None:
        return told
    plain = ["".join(one for one in name.lower() if one.isalnum()) for name in file.names]
    return next((plain.index(name) for name in _SUBJECT if name in plain), None)


def _told(file: TableFile, options: Mapping[str, str], role: str) -> int | None:
    name = options.get(role, "")
    if name and name not in file.names:
        raise bad(file.path, f"has no column {name} (it has {_first(file.names)})", f"name another with {role}=...")
    return file.names.index(name) if name else None


def _only(file: TableFile, options: Mapping[str, str]) -> tuple[int, str] | None:
    told = options.get("rows", "")
    name, equals, value = told.partition("=")
    if told and (name not in file.names or not equals):
        raise bad(file.path, f"rows={told} names no column of it ({_first(file.names)})", "give rows=COLUMN=VALUE")
    return (file.names.index(name), value) if told else None


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
