"""Covariates: what is known of subjects beside their volumes, from ``demographics.csv`` or ``participants.tsv``.

A faulty row is left out and named; faults of a table remove values, never volumes. Columns with names of
persons or birthdays are not used, unless a person asks for one by name.
"""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from archipel.data.files import Folder, LeavesOut, Purpose
from archipel.data.formats.found_volumes import FoundVolumes, subject_id
from archipel.data.formats.path_templates import suffix_and_rest
from archipel.data.limits import DATA_LIMITS
from archipel.data.samples import DataIssue, sample_name
from archipel.data.tables import COLUMN_OPTIONS, Row, RowKinds, TableFile, WholeColumns, open_table
from archipel.tensors import blob_hash
from archipel.vocabulary import BadInput, ErrorCode, Record, Thing, Value

MISSING = frozenset(("", "-", "n/a", "na", "nan", "none", "null", "unknown", "?"))
"""Texts that mean no value, in upper or lower case."""
_HEADER_BYTES = 1 << 20
_LOOKED_AT = 21
"""Rows by which a row of units is known."""


@dataclass(frozen=True)
class CovariateTable:
    """Values by the text that names a subject in the table, and by the column that does."""

    place: str
    key: str = ""
    rows: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    repeated: frozenset[str] = frozenset()
    """Subjects of whom no row is used, because they have several."""

    @property
    def named(self) -> frozenset[str]:
        """The subjects in the table."""
        return self.repeated | {key.partition("\t")[0] for key in self.rows}

    def of(self, subject: str, collector: FoundVolumes) -> Mapping[str, Value]:
        """The values of a subject, in a row of the format's name for it or of the patient whose visit it is."""
        return self.rows.get(subject) or self.rows.get(collector.patient(subject), {})


class CovariateIds(Record):
    """The subjects that a table names."""

    ids: tuple[str, ...]


class Remark(Record):
    """What a person should check in a table; ``subject`` if it is about one."""

    cause: str
    remedy: str
    subject: str = ""


class CovariateFacts(Record):
    """A table's values by the id and the column; ``key`` is the column with the ids."""

    key: str
    rows: dict[str, dict[str, Value]]
    remarks: tuple[Remark, ...]
    repeated: tuple[str, ...] = ()


def read_covariates(
    folder: Folder,
    place: str,
    collector: FoundVolumes,
    *,
    key: str = "",
    delimiter: str = "",
    subject: str = "",
    options: Mapping[str, str] | None = None,
    prefix: str = "",
    session: str = "",
    patient: str = "",
) -> CovariateTable | None:
    """The table at this place; None, with a warning, when there is none or it cannot be read.

    ``key`` is the column with the ids, by default the first. ``subject`` is the subject whose sessions the rows are;
    without it each row is a subject's, and rows of subjects who are left out are neither kept nor reported.
    ``options`` are those of ``COLUMN_OPTIONS``. ``prefix`` is put before ids that lack it. Where the table has the
    column ``session``, a row is a session's and is kept under ``row_of``. The column ``patient`` is not a value.
    """
    # A place and not a pattern, whatever characters it has.
    present = list(folder.files(glob.escape(place), collector.problems))
    if not present:
        return None
    asked = {name: text for name, text in sorted((options or {}).items()) if name in COLUMN_OPTIONS}
    how = " ".join(filter(None, (f"{delimiter!r} {key} {asked}", prefix, session)))
    what = "session" if subject else "subject"
    leaves_out: LeavesOut = (lambda _: False) if subject else folder.leaves_out
    # Once a patient withdrew, the ids are of the others, and what is asked for says so.
    ids = Purpose(f"side-table-ids/5 {how}", CovariateIds, folder.withdrawn)
    named = folder.look(
        place,
        ids,
        lambda path: _opened(path, key, delimiter, prefix).ids(leaves_out if folder.withdrawn else lambda _: False),
    )
    gone = [] if named.facts is None else sorted(filter(leaves_out, named.facts.ids))
    # An answer without a subject replaces the answer before, so that the index forgets what it had of this subject.
    without = blob_hash("\n".join([folder.withdrawn, *gone]).encode())
    purpose = Purpose(f"side-table/7 {how}{patient and f' {patient!r}'}", CovariateFacts, without)

    def examine(path: Path) -> CovariateFacts:
        return _examine(_opened(path, key, delimiter, prefix, session), leaves_out, what, asked, patient)

    looked = folder.look(place, purpose, examine)
    if looked.problem is not None:
        collector.warn(looked.problem, subject)
        return None
    for remark in looked.require_facts().remarks:
        collector.warn(DataIssue(thing=place, cause=remark.cause, remedy=remark.remedy), subject or remark.subject)
    known = looked.require_facts()
    return CovariateTable(place, known.key, known.rows, frozenset(known.repeated))


def row_of(subject: str, session: str) -> str:
    """The key of a session's row in a table that has several of a subject."""
    return f"{subject}\t{session}"


def compare(collector: FoundVolumes, table: CovariateTable, subjects: Sequence[str]) -> None:
    """Warn of subjects without a row and of rows without a subject."""
    named = table.named
    patients = {subject: collector.patient(subject) for subject in subjects}
    for subject in sorted(one for one, patient in patients.items() if not {one, patient} & named):
        cause = f"has no row in {table.place}"
        collector.warn(
            DataIssue(thing=subject, cause=cause, remedy="add the row, or use the volumes without its values"), subject
        )
    without = sorted(named - patients.keys() - set(patients.values()))
    for subject in without[: DATA_LIMITS.findings]:
        cause = f"has a row in {table.place} and no folder with volumes"
        collector.warn(DataIssue(thing=subject, cause=cause, remedy="add the volumes or remove the row"), subject)
    more = len(without) - DATA_LIMITS.findings
    if more > 0:
        cause = f"{more} subjects more have a row here and no folder with volumes"
        collector.warn(DataIssue(thing=table.place, cause=cause, remedy="add the volumes or remove the rows"))


@dataclass(frozen=True)
class _Opened:
    """A table's columns and rows; ``at`` is the place of the ids among the columns."""

    path: Path
    names: tuple[str, ...]
    at: int
    lines: Sequence[Row]
    table: TableFile | None
    prefix: str = ""
    session_at: int | None = None

    def id_in(self, row: Row) -> str:
        """The subject of a row, even if the row has too many or too few fields; "" when the row names no subject."""
        text = subject_id(row.fields[self.at].strip()) if len(row.fields) > self.at else ""
        suffix, bare = suffix_and_rest(text)
        # A table may name the file instead of the subject.
        text = bare.rpartition("/")[2] if suffix else text
        return text if not text or text.startswith(self.prefix) else f"{self.prefix}{text}"

    def key_in(self, row: Row) -> str:
        """Under what a row is kept: its subject, and its session where the table says that."""
        session = "" if self.session_at is None else row.fields[self.session_at].strip()
        return self.id_in(row) if session.lower() in MISSING else row_of(self.id_in(row), session)

    def ids(self, leaves_out: LeavesOut) -> CovariateIds:
        """The subjects named, without those left out."""
        ids = {self.id_in(row) for row in self.lines} - {""}
        return CovariateIds(ids=tuple(sorted(one for one in ids if not leaves_out(one))))


def _opened(path: Path, key: str, delimiter: str, prefix: str = "", session: str = "") -> _Opened:
    """The table. Raises BadInput for a file that is not a table, or has no such column."""
    with path.open("rb") as file:
        header = file.readline(_HEADER_BYTES).strip()
    # A participants.tsv may hold nothing but the ids.
    is_bare = delimiter and header and delimiter.encode() not in header
    table = None if is_bare else open_table(path, delimiter=delimiter)
    names = (header.decode("utf-8-sig", "replace"),) if table is None else table.names
    column = key or names[0]
    if column not in names:
        cause = f"has no column {column} (it has {', '.join(names)[:200]})"
        raise BadInput(Thing.file(path.name), cause, "name the column with the ids", code=ErrorCode.BAD_DATA)
    if table is None:
        return _Opened(path, names, 0, (), None, prefix)
    session_at = names.index(session) if session in names else None
    return _Opened(path, names, names.index(column), list(table.rows()), table, prefix, session_at)


def _examine(
    table: _Opened, leaves_out: LeavesOut, what: str, options: Mapping[str, str], patient: str
) -> CovariateFacts:
    """Facts about a table; rows of subjects whom ``leaves_out`` names are skipped."""
    names, at = table.names, table.at
    remarks = [Remark(cause=cause, remedy=remedy) for cause, remedy in (table.table.notes if table.table else ())]
    texts: dict[str, list[str]] = {}
    times: Counter[str] = Counter()
    kinds = RowKinds.of(names, at, table.lines[:_LOOKED_AT])
    left = 0
    for row in table.lines:
        line, fields = row
        subject = table.id_in(row)
        if (subject and leaves_out(subject)) or kinds.holds_nothing(row):
            continue
        cause = remedy = ""
        if reason := kinds.reason(row):
            cause, remedy = f"line {line} {reason}; it is left out", "remove the line"
        elif len(fields) != len(names):
            cause = f"line {line} has {len(fields)} fields, the header {len(names)}; the row is left out"
            remedy = "fix the line"
        elif not subject:
            cause, remedy = f"line {line} names no {what}; the row is left out", "fill in the id"
        if cause:
            left += 1
            if left <= DATA_LIMITS.findings:
                remarks.append(Remark(cause=cause, remedy=remedy))
            continue
        key = table.key_in(row)
        times[key] += 1
        texts[key] = [one.strip() for one in fields]
    repeated = sorted(one for one, count in times.items() if count > 1)
    for key in repeated:
        subject, _, session = key.partition("\t")
        cause = f"{sample_name(subject, session)} has {times[key]} rows; none is used"
        left += 1
        if left <= DATA_LIMITS.findings:
            remarks.append(Remark(cause=cause, remedy="keep one of them", subject=subject))
        del texts[key]
    if left > DATA_LIMITS.findings:
        cause = f"{left - DATA_LIMITS.findings} lines more are left out or not used"
        remarks.append(Remark(cause=cause, remedy="fix the lines above first"))
    rows: dict[str, dict[str, Value]] = {subject: {} for subject in sorted(texts)}
    columns = WholeColumns(table.path, names, table.table, options)
    for place, name in enumerate(names):
        if place in (at, table.session_at) or name == patient or columns.names_a_person(name):
            continue
        stored = {key: "" if fields[place].lower() in MISSING else fields[place] for key, fields in texts.items()}
        for made, values in columns.values(name, stored).items():
            for subject, value in values.items():
                rows[subject][made] = value
    remarks += [Remark(cause=cause, remedy=remedy) for cause, remedy in columns.remarks(of_everybody=what == "subject")]
    # Of tables of sessions each has columns of its own.
    for name, option in columns.absent.items() if what == "subject" else ():
        cause = f"has no column {name}, which the option {option} names"
        remarks.append(Remark(cause=cause, remedy=f"name another with --option {option}=..."))
    whose = tuple(sorted({key.partition("\t")[0] for key in repeated}))
    return CovariateFacts(key=names[at], rows=rows, remarks=tuple(remarks), repeated=whose)
