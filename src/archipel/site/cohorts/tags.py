"""Names of the versions of a dataset: a name belongs to one version, and a version keeps its name."""

from __future__ import annotations

from sqlalchemy import Connection, select, update

from archipel.site.audit import CohortNamed, add_entry
from archipel.site.state import SiteJournalKind, schema
from archipel.vocabulary import Actor, Conflict, Thing

_rows = schema.cohorts


def give(connection: Connection, dataset: str, hashed: str, name: str, *, by: Actor) -> None:
    """Name the kept cohort with this hash ``name``, in the caller's transaction, and journal it.

    Does nothing when it has this name. Raises Conflict when another version has the name, or this one another name.
    """
    query = select(_rows.c.version, _rows.c.name, _rows.c.hash).where(_rows.c.dataset == dataset)
    rows = connection.execute(query).all()
    mine = next(row for row in rows if row.hash == hashed)
    if mine.name == name:
        return
    if mine.name:
        raise Conflict(
            Thing("dataset", dataset),
            f"holds nothing new since version {mine.version}, which is called {mine.name}",
            "it keeps that name; freeze without --name, or when something is new",
            values={"version": mine.version, "name": mine.name},
        )
    for row in rows:
        if row.name == name:
            raise Conflict(
                Thing("name", name),
                f"is that of version {row.version} of dataset {dataset}",
                "choose another --name",
                values={"dataset": dataset, "version": row.version},
            )
    body = CohortNamed(dataset=dataset, version=mine.version, cohort_hash=hashed, name=name, by=by.journal_name)
    add_entry(connection, SiteJournalKind.COHORT_NAMED, body)
    connection.execute(update(_rows).where(_rows.c.hash == hashed).values(name=name))
