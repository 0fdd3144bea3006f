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

from archipel.data import Cohort, Scan, Subject, cohort_hash, scan
from archipel.site import journal, schema
from archipel.site.state import SiteState
from archipel.storage import utc_now
from archipel.vocabulary import BadInput, Conflict, ErrorCode, Name, NotFound, Record


class Dataset(Record):
    """One dataset of the catalog. ``root`` stays here; name, kind, counts and schema are what the server may list."""

    name: Name
    kind: str
    root: str
    subjects: int
    summary: dict[str, Any]
    labels: dict[str, str]
    added_at: str
    scanned_at: str

    def public(self) -> dict[str, Any]:
        """What a researcher may see: counts and schema, no path and no subject."""
        return self.model_dump(mode="json", include={"name", "kind", "subjects", "summary", "labels"})


class DatasetProblems(BadInput):
    """A dataset cannot be used as it is; ``problems`` says everything that is wrong, one sentence each."""

    code = ErrorCode.BAD_DATA

    def __init__(self, name: str, problems: tuple[str, ...]) -> None:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        super().__init__(f"dataset {name}", f"has {count}: {problems[0]}", "mend the data and add it again")
        self.problems = problems


def add(site: SiteState, name: str, root: Path, kind: str, labels: Mapping[str, str] | None = None) -> Dataset:
    """Scan the folder and enter it in the catalog under ``name``.

    ``labels`` gives label values their names ({"1": "anterior"}). Raises DatasetProblems when anything is wrong with
    the data, Conflict when the name is taken; nothing is added then.
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
    found = usable_scan(name, kind, folder)
    now = utc_now()
    entry = Dataset(
        name=name,
        kind=kind,
        root=str(folder),
        subjects=len(found.subjects),
        summary=found.schema,
        labels=dict(labels or {}),
        added_at=now,
        scanned_at=now,
    )
    with site.database.write() as connection:
        _check_free(connection, name)
        journal.append(connection, "dataset-added", {"name": name, "kind": kind, "subjects": entry.subjects})
        connection.execute(insert(schema.datasets).values(**_row(entry)))
    site.ring()
    return entry


def usable_scan(name: str, kind: str, root: Path) -> Scan:
    """A scan without problems of at least one subject. Raises DatasetProblems that names everything wrong."""
    found = scan(kind, root)
    if found.problems:
        raise DatasetProblems(name, found.problems)
    if not found.subjects:
        raise DatasetProblems(name, (f"{root}: holds no subject; add data or name another folder",))
    return found


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
    return Dataset(**(dict(row) | {"summary": json.loads(row["summary"]), "labels": json.loads(row["labels"])}))


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
        connection.execute(delete(schema.datasets).where(schema.datasets.c.name == name))
    site.ring()


class Frozen(NamedTuple):
    """A cohort and the dataset as it was when the cohort was frozen."""

    dataset: Dataset
    cohort: Cohort


def freeze(entry: Dataset) -> Frozen:
    """All subjects that the dataset holds now, as a cohort, with the catalog's entry brought up to date.

    Raises DatasetProblems when the files have become unusable since the dataset was added.
    """
    found = usable_scan(entry.name, entry.kind, Path(entry.root))
    subjects: tuple[Subject, ...] = tuple(sorted(found.subjects, key=lambda subject: subject.id))
    values = {"dataset": entry.name, "kind": entry.kind, "subjects": subjects, "labels": entry.labels}
    now = {"subjects": len(subjects), "summary": found.schema, "scanned_at": utc_now()}
    return Frozen(entry.model_copy(update=now), Cohort.model_validate(values))


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
    return entry.model_dump() | {"summary": json.dumps(entry.summary), "labels": json.dumps(entry.labels)}
