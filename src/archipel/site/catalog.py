"""What data this site has: datasets under names of its own, and cohorts frozen from them.

A dataset enters only when nothing is wrong with it. The catalog keeps counts and shapes; it opens files and never
sends anything. A cohort is frozen by reading the dataset anew, so it is what lies on the disk when a person approves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection, delete, insert, select, update

from archipel.data import Cohort, DataMapping, DataSchema, Problem, Scan, cohort_hash, format_named, scan
from archipel.site import journal, schema
from archipel.site.file_index import SqlFileIndex
from archipel.site.state import SiteState
from archipel.storage import utc_now
from archipel.vocabulary import BadInput, Conflict, DataKind, ErrorCode, Name, NotFound, Record


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


class DatasetProblems(BadInput):
    """A dataset cannot be used as it is; ``problems`` says everything that is wrong, one sentence each."""

    code = ErrorCode.BAD_DATA

    def __init__(self, name: str, problems: tuple[Problem, ...]) -> None:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        super().__init__(f"dataset {name}", f"has {count}: {problems[0]}", "mend the data and add it again")
        self.problems = problems


def add(
    site: SiteState,
    name: str,
    root: Path,
    layout: str,
    *,
    options: Mapping[str, str] | None = None,
    mapping: DataMapping | None = None,
    leave_out_faulty: bool = False,
) -> Dataset:
    """Scan the folder and enter it in the catalog under ``name``, as a dataset of the format ``layout``.

    Raises DatasetProblems when anything is wrong with the data (unless faulty subjects are to be left out and others
    remain), Conflict when the name is taken; nothing is added then.
    """
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        raise BadInput(
            f"dataset name {name}", "is not one a dataset may have", "use letters, digits and _ . -, a letter first"
        ) from error
    folder = root.resolve()
    with site.database.read() as connection:
        _check_free(connection, name)
    now = utc_now()
    entry = Dataset(
        name=name,
        format=layout,
        root=str(folder),
        subjects=0,
        summary=DataSchema(kind=format_named(layout).kind),
        options=dict(options or {}),
        mapping=mapping or DataMapping(),
        leave_out_faulty=leave_out_faulty,
        added_at=now,
        scanned_at=now,
    )
    entry = _brought_up_to_date(entry, usable_scan(site, entry))
    with site.database.write() as connection:
        _check_free(connection, name)
        journal.append(connection, "dataset-added", {"name": name, "format": layout, "subjects": entry.subjects})
        connection.execute(insert(schema.datasets).values(**_row(entry)))
    site.ring()
    return entry


def scanned(site: SiteState, entry: Dataset) -> Scan:
    """What lies in the dataset's folder now; only files that changed are opened."""
    with SqlFileIndex(site, entry.name) as index:
        return scan(entry.format, Path(entry.root), entry.options, index)


def usable_scan(site: SiteState, entry: Dataset) -> Scan:
    """A scan of at least one usable subject, and without errors unless the dataset leaves faulty subjects out.

    Raises DatasetProblems that names everything wrong.
    """
    found = scanned(site, entry)
    if found.errors and not (entry.leave_out_faulty and found.samples):
        raise DatasetProblems(entry.name, found.errors)
    if not found.samples:
        nothing = Problem(thing=entry.root, cause="holds no subject", remedy="add data or name another folder")
        raise DatasetProblems(entry.name, (nothing,))
    return found


def _brought_up_to_date(entry: Dataset, found: Scan) -> Dataset:
    now = {"subjects": found.subjects, "summary": found.schema, "scanned_at": utc_now()}
    return entry.model_copy(update=now)


def _check_free(connection: Connection, name: str) -> None:
    row = connection.execute(select(schema.datasets.c.root).where(schema.datasets.c.name == name)).first()
    if row is not None:
        raise Conflict(
            f"dataset {name}", f"is in the catalog already ({row.root})", "remove it first or use a new name"
        )


def datasets(site: SiteState) -> list[Dataset]:
    """Every dataset, by name."""
    with site.database.read() as connection:
        rows = connection.execute(select(schema.datasets).order_by(schema.datasets.c.name)).mappings().all()
    return [_entry(row) for row in rows]


def dataset(site: SiteState, name: str) -> Dataset:
    """One dataset. Raises NotFound."""
    with site.database.read() as connection:
        row = connection.execute(select(schema.datasets).where(schema.datasets.c.name == name)).mappings().first()
    if row is None:
        names = ", ".join(entry.name for entry in datasets(site)) or "none yet"
        raise NotFound(
            f"dataset {name}", f"is not in the catalog (there: {names})", "add it with archipel site dataset add"
        )
    return _entry(row)


def _entry(row: Mapping[Any, Any]) -> Dataset:
    read = {name: json.loads(row[name]) for name in ("summary", "options", "mapping") if row[name]}
    unknown = {} if row["summary"] else {"summary": {"kind": format_named(row["format"]).kind}}
    return Dataset.model_validate(dict(row) | read | unknown)


def remove(site: SiteState, name: str) -> None:
    """Take a dataset out of the catalog; its files are not touched.

    Raises Conflict while an approved experiment trains on it.
    """
    dataset(site, name)
    with site.database.write() as connection:
        query = (
            select(schema.experiments.c.experiment)
            .join(schema.cohorts, schema.cohorts.c.hash == schema.experiments.c.cohort_hash)
            .where(schema.cohorts.c.dataset == name, schema.experiments.c.state == "approved")
        )
        using = [row.experiment for row in connection.execute(query)]
        if using:
            raise Conflict(
                f"dataset {name}",
                f"is what approved experiments train on ({', '.join(using)})",
                "revoke them first, or wait for their end",
            )
        journal.append(connection, "dataset-removed", {"name": name})
        connection.execute(delete(schema.files).where(schema.files.c.dataset == name))
        connection.execute(delete(schema.datasets).where(schema.datasets.c.name == name))
    site.ring()


class Frozen(NamedTuple):
    """A cohort and the dataset as it was when the cohort was frozen."""

    dataset: Dataset
    cohort: Cohort


def freeze(site: SiteState, entry: Dataset) -> Frozen:
    """All usable subjects that the dataset holds now, as a cohort, with the catalog's entry brought up to date.

    Raises DatasetProblems when the files have become unusable since the dataset was added.
    """
    found = usable_scan(site, entry)
    cohort = Cohort(
        dataset=entry.name,
        format=entry.format,
        options=entry.options,
        mapping=entry.mapping,
        samples=tuple(sorted(found.samples, key=lambda sample: sample.key)),
    )
    return Frozen(_brought_up_to_date(entry, found), cohort)


def hash_of(site: SiteState, cohort: Cohort) -> str:
    """The cohort's hash under this site's own key; it tells nobody else who is in it."""
    return cohort_hash(cohort, site.cohort_key)


def keep(connection: Connection, frozen: Frozen, hashed: str) -> None:
    """Keep a frozen cohort and the dataset's new counts, in the transaction of the approval that names them.

    Raises NotFound when the dataset was removed meanwhile.
    """
    entry, cohort = frozen
    there = schema.datasets.c.name == entry.name
    if connection.execute(update(schema.datasets).where(there).values(**_row(entry))).rowcount == 0:
        raise NotFound(f"dataset {entry.name}", "was removed meanwhile", "add it again, then approve")
    row = {"dataset": cohort.dataset, "subjects": len(cohort.subjects), "body": cohort.model_dump_json()}
    same = schema.cohorts.c.hash == hashed
    if connection.execute(select(schema.cohorts.c.hash).where(same)).first():
        connection.execute(update(schema.cohorts).where(same).values(**row))
    else:
        connection.execute(insert(schema.cohorts).values(hash=hashed, frozen_at=utc_now(), **row))


def _row(entry: Dataset) -> dict[str, Any]:
    return entry.model_dump() | {
        "summary": entry.summary.model_dump_json(),
        "options": json.dumps(entry.options),
        "mapping": entry.mapping.model_dump_json(),
    }
