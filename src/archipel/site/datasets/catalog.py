"""What data this site has: datasets under the site's own names, each with its counts and how it is read.

A dataset enters only when nothing is wrong with it. The catalog keeps counts and shapes; it opens files and never
sends anything. Excluded and withdrawn subjects are treated as if their files did not exist.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection, RowMapping, delete, func, insert, select, update

from archipel.data import (
    DataIssue,
    DataMapping,
    DataSchema,
    Samples,
    Scan,
    format_named,
    scan,
)
from archipel.data.cohorts import name_faults, range_faults, still_open
from archipel.data.formats import checked_root, settled
from archipel.site.audit import DatasetAdded, DatasetMapped, DatasetRemoved, add_entry
from archipel.site.datasets import left_out, members, unclear_patients
from archipel.site.datasets.detected_format import DetectedFormat
from archipel.site.datasets.file_index import SqlFileIndex
from archipel.site.datasets.watched_index import WatchedIndex, is_shown
from archipel.site.state import (
    DatasetChange,
    OfferState,
    SiteJournalKind,
    StateFolder,
    UnjournaledKind,
    changes,
    schema,
)
from archipel.site.withdrawn import TakeOptOuts, register
from archipel.storage import Database, utc_now
from archipel.vocabulary import (
    UNWATCHED,
    Actor,
    BadInput,
    Conflict,
    DataKind,
    ErrorCode,
    Name,
    NotFound,
    Record,
    Thing,
    Watch,
)
from archipel.vocabulary.counting import pluralise
from archipel.vocabulary.remedies import AddDataset, CheckDataset, ExcludeSubjects, MountFolder, Remedy

_MEND = "fix the data, or leave subjects out with archipel site dataset exclude"
_NOT_YET = "fix the data and add it again"


class Dataset(Record):
    """One dataset of the catalog; it stays here. ``leave_out_faulty``: it is used without its faulty subjects."""

    name: Name
    format: str
    root: str
    subjects: int
    summary: DataSchema
    options: dict[str, str] = {}
    mapping: DataMapping = DataMapping()
    leave_out_faulty: bool = False
    added_at: str
    scanned_at: str

    @property
    def kind(self) -> DataKind:
        """The kind of data that plans ask for."""
        return format_named(self.format).kind

    def row(self) -> dict[str, str | int | bool]:
        """The columns of its row in the catalog's table; summary, options and mapping are JSON in it."""
        plain = self.model_dump(exclude={"summary", "options", "mapping"})
        texts = {"summary": self.summary.model_dump_json(), "mapping": self.mapping.model_dump_json()}
        return plain | texts | {"options": json.dumps(self.options)}


class DatasetProblems(BadInput):
    """A dataset cannot be used as it is; ``problems`` says everything that is wrong, one sentence each.

    ``detected`` is the format that was detected, if none was named.
    """

    code = ErrorCode.BAD_DATA

    def __init__(
        self, name: str, problems: tuple[DataIssue, ...], remedy: str = _MEND, command: Remedy | None = None
    ) -> None:
        cause = f"has {pluralise(len(problems), 'problem')}: {problems[0]}"
        super().__init__(
            f"dataset {name}", cause, remedy, values={"dataset": name, "problems": len(problems)}, command=command
        )
        self.problems = problems
        self.detected: DetectedFormat | None = None


class Added(NamedTuple):
    """A dataset that was entered, and what its scan found, with the warnings."""

    dataset: Dataset
    found: Scan


def add(
    site: StateFolder,
    name: str,
    root: Path,
    layout: str,
    take_opt_outs: TakeOptOuts,
    *,
    by: Actor,
    options: Mapping[str, str] | None = None,
    mapping: DataMapping | None = None,
    leave_out_faulty: bool = False,
    watch: Watch = UNWATCHED,
) -> Added:
    """Scan the folder and enter it in the catalog under ``name``, as a dataset of the format ``layout``.

    Raises DatasetProblems when anything is wrong with the data (unless faulty subjects are to be left out and others
    remain), UnclearPatients where names may be visits of one patient, Conflict when the name is taken, Cancelled when
    ``watch`` stops it; nothing is added then.
    """
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        raise BadInput(
            Thing.worded(f"dataset name {name}", dataset=name),
            "is not a valid name",
            "use letters, digits and _ . -, a letter first",
        ) from error
    folder = checked_root(root.resolve())
    with site.database.read() as connection:
        _check_free(connection, name)
    now = utc_now()
    entry = Dataset(
        name=name,
        format=layout,
        root=str(folder),
        subjects=0,
        summary=DataSchema(kind=format_named(layout).kind),
        options=settled(layout, folder, dict(options or {})),
        mapping=mapping or DataMapping(),
        leave_out_faulty=leave_out_faulty,
        added_at=now,
        scanned_at=now,
    )
    scan_result = usable_scan(site, entry, take_opt_outs, new=True, watch=watch)
    _check_names(name, entry.mapping, scan_result.schema)
    unclear_patients.check(name, layout, entry.options, scan_result)
    entry = brought_up_to_date(entry, scan_result)
    with site.database.write() as connection:
        _check_free(connection, name)
        body = DatasetAdded(name=name, format=layout, subjects=entry.subjects, by=by.journal_name)
        add_entry(connection, SiteJournalKind.DATASET_ADDED, body)
        connection.execute(insert(schema.datasets).values(**entry.row()))
        members.note(connection, site.cohort_key, name, subjects_of(scan_result))
    return Added(dataset(site.database, name), scan_result)


def scanned(
    site: StateFolder,
    entry: Dataset,
    take_opt_outs: TakeOptOuts,
    watch: Watch = UNWATCHED,
    index: SqlFileIndex | None = None,
) -> Scan:
    """What the dataset's folder contains now, without excluded and withdrawn subjects; only changed files are opened.

    The opt-out list is applied first. With an ``index`` that is open already, what it has read serves the scan and
    what its owner looks at afterwards. Raises BadInput when the folder is not there, Cancelled when ``watch``
    stops it (what was found in files until then is remembered for the next scan), and as ``take_opt_outs`` does.
    """
    try:
        checked_root(Path(entry.root))
    except BadInput as error:
        remedy = f"mount it again, or remove the dataset (archipel site dataset remove {entry.name})"
        raise BadInput(
            Thing("dataset", entry.name),
            f"its folder {entry.root} is not there",
            remedy,
            values={"folder": entry.root},
            command=MountFolder(dataset=entry.name, folder=entry.root),
        ) from error
    take_opt_outs(entry.name)
    met: set[str] = set()
    with SqlFileIndex(site.database, entry.name) if index is None else nullcontext(index) as known:
        out = left_out.by(site.database, site.cohort_key, entry.name, met)
        scan_result = scan(
            entry.format,
            Path(entry.root),
            entry.options,
            WatchedIndex(known, watch, total=known.count() if is_shown(watch) else 0),
            out.leaves_out,
            withdrawn=out.withdrawn,
        )
    watch.check()
    register.mark_seen(site.database, entry.name, met)
    return replace(scan_result, problems=still_open(scan_result.problems, entry.mapping))


def subjects_of(found: Scan) -> Sequence[str]:
    """The subjects that a scan found, each once and in order."""
    return Samples.of(found.samples).subjects


def usable_scan(
    site: StateFolder, entry: Dataset, take_opt_outs: TakeOptOuts, *, new: bool = False, watch: Watch = UNWATCHED
) -> Scan:
    """A scan of at least one usable subject, and without errors unless the dataset leaves faulty subjects out.

    Raises DatasetProblems that names everything wrong, for a ``new`` dataset with what helps to add it.
    """
    scan_result = scanned(site, entry, take_opt_outs, watch)
    some_usable = scan_result.samples and not any(problem.spoils_all for problem in scan_result.errors)
    if scan_result.errors and not (entry.leave_out_faulty and some_usable):
        everybody = {*subjects_of(scan_result), *(problem.subject for problem in scan_result.errors if problem.subject)}
        of_all = f" of {len(everybody)}" if len(everybody) > scan_result.subjects else ""
        usable = f"usable subjects: {scan_result.subjects}{of_all}"
        otherwise = (
            f", or leave out the subjects that have errors: {usable} (--leave-out-faulty)" if some_usable else ""
        )
        if new:
            raise DatasetProblems(entry.name, scan_result.errors, _NOT_YET + otherwise)
        faulty = tuple(sorted({problem.subject for problem in scan_result.errors if problem.subject}))
        leave_out = ExcludeSubjects(dataset=entry.name, subjects=faulty) if faulty else None
        raise DatasetProblems(entry.name, scan_result.errors, _MEND, leave_out)
    if not scan_result.samples:
        nothing = DataIssue(thing=entry.root, cause="holds no subject", remedy="add data or name another folder")
        raise DatasetProblems(entry.name, (nothing,), _NOT_YET)
    return scan_result


def brought_up_to_date(entry: Dataset, found: Scan) -> Dataset:
    """The entry with what a scan counted."""
    now = {"subjects": len(subjects_of(found)), "summary": found.schema, "scanned_at": utc_now()}
    return entry.model_copy(update=now)


def _check_names(name: str, mapping: DataMapping, schema: DataSchema) -> None:
    faults = (*name_faults(mapping, schema), *range_faults(mapping, schema))
    if faults:
        raise DatasetProblems(name, faults, "fix the mapping")


def _check_free(connection: Connection, name: str) -> None:
    table = schema.datasets.c
    row = connection.execute(select(table.name, table.root).where(func.lower(table.name) == name.lower())).first()
    if row is not None:
        also = "" if row.name == name else f" as {row.name}"
        remedy = f"use another name, or scan its folder again (archipel site dataset check {row.name})"
        raise Conflict(
            Thing("dataset", name),
            f"is in the catalog already{also} ({row.root})",
            remedy,
            values={"known": row.name, "folder": row.root},
            command=CheckDataset(dataset=row.name),
        )


def datasets(database: Database) -> list[Dataset]:
    """Every dataset, by name."""
    with database.read() as connection:
        rows = connection.execute(select(schema.datasets).order_by(schema.datasets.c.name)).mappings().all()
    return [_entry(row) for row in rows]


def dataset(database: Database, name: str) -> Dataset:
    """One dataset. Raises NotFound."""
    with database.read() as connection:
        row = connection.execute(select(schema.datasets).where(schema.datasets.c.name == name)).mappings().first()
    if row is None:
        names = ", ".join(entry.name for entry in datasets(database)) or "none yet"
        raise NotFound(
            Thing("dataset", name),
            f"is not in the catalog (there: {names})",
            "add it with archipel site dataset add",
            command=AddDataset(dataset=name),
        )
    return _entry(row)


def _entry(row: RowMapping) -> Dataset:
    read = {name: json.loads(row[name]) for name in ("summary", "options", "mapping") if row[name]}
    unknown = {} if row["summary"] else {"summary": {"kind": format_named(row["format"]).kind}}
    return Dataset.model_validate(dict(row) | read | unknown)


def is_behind(database: Database, entry: Dataset) -> bool:
    """Whether a patient withdrew since the dataset was scanned: then all counts but that of subjects are older."""
    with database.read() as connection:
        return any(since > entry.scanned_at for _, since in register.out_of(connection, entry.name))


def remove(database: Database, name: str, *, by: Actor) -> None:
    """Take a dataset out of the catalog; its files are not touched.

    Raises Conflict while an approved experiment trains on it.
    """
    dataset(database, name)
    with database.write() as connection:
        query = (
            select(schema.experiments.c.experiment)
            .join(schema.cohorts, schema.cohorts.c.hash == schema.experiments.c.cohort_hash)
            .where(schema.cohorts.c.dataset == name, schema.experiments.c.state == OfferState.APPROVED)
        )
        using = [row.experiment for row in connection.execute(query)]
        if using:
            raise Conflict(
                Thing("dataset", name),
                f"is used by approved experiments ({', '.join(using)})",
                "revoke them first, or wait for their end",
                values={"experiments": ", ".join(using)},
            )
        add_entry(connection, SiteJournalKind.DATASET_REMOVED, DatasetRemoved(name=name, by=by.journal_name))
        for table in (schema.files, schema.members, schema.exclusions):
            connection.execute(delete(table).where(table.c.dataset == name))
        connection.execute(delete(schema.datasets).where(schema.datasets.c.name == name))


def check(site: StateFolder, name: str, take_opt_outs: TakeOptOuts, watch: Watch = UNWATCHED) -> Scan:
    """Scan a dataset again and update its entry with what is usable; everything that is wrong is in the answer.

    Raises NotFound, BadInput when its folder is gone, and Cancelled when ``watch`` stops it; the entry stays as it is.
    """
    entry = dataset(site.database, name)
    scan_result = scanned(site, entry, take_opt_outs, watch)
    with site.database.write() as connection:
        keep(connection, site.cohort_key, brought_up_to_date(entry, scan_result), subjects_of(scan_result))
        changes.append(connection, DatasetChange(kind=UnjournaledKind.DATASET_CHECKED, dataset=name))
    return scan_result


def remap(database: Database, cohort_key: bytes, name: str, mapping: DataMapping, *, by: Actor) -> Dataset:
    """Give a dataset another mapping, for cohorts frozen from now on.

    Raises NotFound, and DatasetProblems for names of labels that the dataset does not have or calls otherwise, and for
    a scale on which its numbers are not.
    """
    entry = dataset(database, name).model_copy(update={"mapping": mapping})
    _check_names(name, mapping, entry.summary)
    with database.write() as connection:
        add_entry(
            connection, SiteJournalKind.DATASET_MAPPED, DatasetMapped(name=name, mapping=mapping, by=by.journal_name)
        )
        keep(connection, cohort_key, entry)
    return entry


def keep(connection: Connection, cohort_key: bytes, entry: Dataset, subjects: Sequence[str] | None = None) -> None:
    """Keep a dataset's entry, and who was found in it where that is known, in the caller's transaction.

    Raises NotFound when the dataset was removed in the meantime.
    """
    there, row = schema.datasets.c.name == entry.name, entry.row()
    if subjects is None:
        # Without a scan the stored counts may be newer: a withdrawal since the entry was read made them smaller.
        row = {name: value for name, value in row.items() if name not in ("subjects", "summary", "scanned_at")}
    if connection.execute(update(schema.datasets).where(there).values(**row)).rowcount == 0:
        raise NotFound(
            Thing("dataset", entry.name),
            "was removed in the meantime",
            "add it again, then approve",
            command=AddDataset(dataset=entry.name),
        )
    if subjects is not None:
        members.note(connection, cohort_key, entry.name, subjects)
