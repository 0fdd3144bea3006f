"""Format ``table``: one CSV, TSV, Excel or Parquet file, one row per visit, with a data dictionary.

A row is known by its subject and session, so that a table may be sorted again, or gain rows, after a cohort was frozen
from it. When a dataset is added, the dictionary's content replaces its path: rows are read as the scan read them, even
if the dictionary's file has changed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np

from archipel.data.files import Folder, LeavesOut, Purpose, data_changed
from archipel.data.formats.base import Options
from archipel.data.sample_columns import Samples, SamplesBuilder
from archipel.data.sample_data import SampleData
from archipel.data.samples import DataIssue, DataSchema, Gap, Sample, Scan, sample_name
from archipel.data.tables import (
    COLUMN_OPTIONS,
    ColumnFacts,
    Key,
    PatientTable,
    Row,
    TableFacts,
    as_typed,
    examine,
    read_dictionary,
    repeated,
    unread,
)
from archipel.tensors import blob_hash
from archipel.vocabulary import DataKind

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".xlsx", ".csv.gz", ".tsv.gz")
TEXT_SUFFIXES = (".txt", ".dat", ".data", ".tab")
"""Endings of texts that may be tables, which are read when they are named."""
_EMPTY = DataSchema(kind="table")


class Tables:
    """One file of rows."""

    name: ClassVar[str] = "table"
    kind: ClassVar[DataKind] = "table"
    title: ClassVar[str] = "one .csv, .tsv, .xlsx or .parquet file, one row per visit"
    options: ClassVar[Mapping[str, str]] = {
        "file": "the file's name, where the folder holds several tables",
        "subject": "the column with the patient's id",
        "session": "the column with the visit, where a patient has several rows",
        "rows": "COLUMN=VALUE: only the rows with this value",
        "dictionary": "a .toml or .csv file that says what the columns are",
        "header": "the line of the columns' names (by default the first); no: the dictionary names them",
        "sheet": "the sheet of a workbook, where several hold values",
        "delimiter": "the delimiter of the columns: comma, semicolon, tab, pipe or space",
        "encoding": "utf-8, latin-1 or cp1252",
        **COLUMN_OPTIONS,
    }

    def fits(self, folder: Folder) -> str:
        """A table in the folder, or a file that holds one in a form that is not read: the scan says the way out."""
        places = list(folder.files("*", []))
        if any(_is_table(place, "") for place in places):
            return "it holds a table"
        if any(map(unread, places)) and next(folder.folders("*", []), None) is None:
            return "it holds a table in a form that is not read"
        return ""

    def settled(self, root: Path, options: Options) -> dict[str, str]:
        """The options with the dictionary's content in the place of its path, and with the file's name where there is
        no choice. Raises BadInput for a dictionary with faults."""
        given = options.get("dictionary", "")
        if given.startswith("{"):
            return dict(options)
        settings = dict(options)
        if given:
            inside = root / given
            path = inside if inside.is_file() else Path(given)
            settings["dictionary"] = read_dictionary(path).model_dump_json(exclude_defaults=True)
        if "file" not in options:
            tables = [place for place in Folder(root).files("*", []) if _is_table(place, "") and place != given]
            settings |= {"file": tables[0]} if len(tables) == 1 else {}
        return settings

    def scan(self, folder: Folder, options: Options) -> Scan:
        """Every row of the file; a table that has not changed is not opened again."""
        settled = self.settled(folder.root, options)
        problems: list[DataIssue] = []
        place = _place(folder, settled, problems)
        if place is None:
            return Scan((), tuple(problems), _EMPTY)
        name = f"table/7 {blob_hash(json.dumps(settled, sort_keys=True).encode())}"
        # Once a patient withdrew, the facts are of the others, and what is asked for says so.
        out: LeavesOut = folder.leaves_out if folder.withdrawn else lambda _: False
        purpose = Purpose(name, TableFacts, folder.withdrawn)
        table = folder.look(place, purpose, lambda path: examine(path, settled, out))
        if table.problem is not None:
            return Scan((), (*problems, table.problem), _EMPTY)
        whole = _samples(place, table.require_facts())
        gone = [subject for subject in whole.subjects if folder.leaves_out(subject)]
        samples = whole.of_subjects(frozenset(gone), inside=False)
        again = repeated(PurePosixPath(place).name, table.require_facts().several, folder, samples.subjects)
        columns: ColumnFacts = table.require_facts()
        if gone:
            name += f" without {blob_hash(json.dumps(gone).encode())}"
            looked = folder.look(place, Purpose(name, ColumnFacts), lambda path: _columns(path, settled, gone))
            if looked.problem is not None:
                return Scan((), (*problems, looked.problem), _EMPTY)
            columns = looked.require_facts()
        problems += [*columns.problems, *again]
        return Scan(samples, tuple(problems), _schema(columns, samples))

    def read(self, root: Path, samples: Sequence[Sample], options: Options) -> Iterator[SampleData]:
        """The samples' rows as values by column; one that is missing is not among them."""
        for table, row, _ in _found(root, samples, self.settled(root, options)):
            yield SampleData(values=table.values(row))

    def verify(self, root: Path, samples: Sequence[Sample], options: Options) -> None:
        """Hash every row again."""
        for table, row, sample in _found(root, samples, self.settled(root, options)):
            if table.hash(row) != sample.hash:
                cause = f"line {row.line} ({sample.name}) has other content than when the cohort was approved"
                raise data_changed(sample.files["table"], cause)


def _columns(path: Path, options: Options, left_out: Sequence[str]) -> ColumnFacts:
    """What a table's columns contain without some subjects, and what is wrong then; its rows are known already."""
    found = examine(path, options, frozenset(left_out).__contains__)
    return ColumnFacts(columns=found.columns, problems=found.problems)


def _place(folder: Folder, options: Options, problems: list[DataIssue]) -> str | None:
    """The table's place inside the folder; a problem when there is not exactly one."""
    named = options.get("file", "")
    tables = [place for place in folder.files("**/*" if named else "*", problems) if _is_table(place, named)]
    if named:
        problems[:] = [problem for problem in problems if problem.thing == named]
    if len(tables) == 1 or (problems and not tables):
        return tables[0] if tables else None
    if named:
        cause, remedy = f"has no file {named}", "name a file that is there"
    elif tables:
        cause = f"holds {len(tables)} tables ({', '.join(sorted(tables)[:5])})"
        remedy = f"name one, for example {as_typed('file', min(tables))}"
    else:
        cause, remedy = "holds no table", _instead(list(folder.files("*", [])))
    problems.append(DataIssue(thing=folder.root.name, cause=cause, remedy=remedy))
    return None


def _instead(places: Sequence[str]) -> str:
    """The way out where a folder holds no table that is read: for one in another form, or for a text."""
    for place in places:
        found = unread(place)
        if found is not None:
            return f"{place} is {found[0]}, which is not read: {found[1]}"
    text = next((place for place in places if place.lower().endswith(TEXT_SUFFIXES)), "")
    return f"if {text} is one: {as_typed('file', text)}" if text else "add a .csv file"


def _is_table(place: str, named: str) -> bool:
    # Excel keeps a file ~$NAME beside a workbook that is open.
    return place == named if named else place.lower().endswith(TABLE_SUFFIXES) and not place.startswith("~$")


def _samples(place: str, facts: TableFacts) -> Samples:
    """In the order of subject and session; of what has no value there are few kinds."""
    built = SamplesBuilder()
    kinds: dict[tuple[str, tuple[str, ...]], int] = {}
    for subject, session, content, missing in facts.rows:
        scheme, _, digest = content.partition(":")
        kind = kinds.get((scheme, missing))
        if kind is None:
            beside = {"files": {"table": place}} | ({"missing": missing} if missing else {})
            kind = kinds[scheme, missing] = built.kind(scheme, beside)
        built.add_row(subject, session, bytes.fromhex(digest), None, kind)
    return built.samples().sorted()


def _found(root: Path, samples: Sequence[Sample], options: Options) -> Iterator[tuple[PatientTable, Row, Sample]]:
    """Each sample's row, found by its subject and session. Rows are kept as one text each until they are asked for."""
    opened: dict[str, tuple[PatientTable, dict[Key, str]]] = {}
    for place in sorted({sample.files["table"] for sample in samples}):
        if not (root / place).is_file():
            raise data_changed(place, "is missing, and was there when the cohort was approved")
        wanted = {sample.key for sample in samples if sample.files["table"] == place}
        table = PatientTable.opened(root / place, options)
        rows: dict[Key, str] = {}
        for number, row in table.rows():
            if not table.fits(row):
                continue
            key = table.key(row, number)
            if key in rows:
                raise data_changed(place, f"has {sample_name(*key)} a second time in line {row.line}")
            if key in wanted:
                rows[key] = json.dumps(row)
        opened[place] = table, rows
    for sample in samples:
        table, rows = opened[sample.files["table"]]
        if sample.key not in rows:
            raise data_changed(sample.files["table"], f"no longer holds a row of {sample.name}")
        line, fields = json.loads(rows[sample.key])
        yield table, Row(line, fields), sample


def _schema(facts: ColumnFacts, samples: Samples) -> DataSchema:
    of_each = np.bincount(samples.kinds, minlength=len(samples.others)).tolist()
    lacking = ((samples.rest(kind).get("missing", ()), count) for kind, count in enumerate(of_each))
    gaps = {together: count for together, count in lacking if together and count}
    missing: Counter[str] = Counter()
    for together, count in gaps.items():
        missing.update(dict.fromkeys(together, count))
    return DataSchema(
        kind="table",
        subjects=len(samples.subjects),
        samples=len(samples),
        columns={name: one.model_copy(update={"missing": missing[name]}) for name, one in facts.columns.items()},
        gaps=tuple(Gap(columns=together, samples=count) for together, count in sorted(gaps.items())),
    )
