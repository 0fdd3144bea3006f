"""Kept cohorts that are proven before they are used: the keyed hash of each, and that the newest one is there.

A person who can write the site's database could change what the next version takes over otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, RowMapping, func, select

from archipel.data import Cohort, cohort_hash
from archipel.site.cohorts import stored_cohorts
from archipel.site.state import SiteJournalKind, schema
from archipel.vocabulary import NotFound, Refused, Thing
from archipel.vocabulary.remedies import CheckJournal, ListCohorts

_rows, _lines = schema.cohorts, schema.journal


def check_none_is_gone(connection: Connection, dataset: str, newest: int) -> None:
    """Raise Refused when the journal has a newer version than the newest kept one: an older one's settings would be
    taken for the newest."""
    body = func.json_extract(_lines.c.body, "$.dataset"), func.json_extract(_lines.c.body, "$.version")
    frozen = select(func.max(body[1])).where(_lines.c.kind == SiteJournalKind.COHORT_FROZEN, body[0] == dataset)
    journaled = connection.scalar(frozen) or 0
    if journaled > newest:
        raise _changed(dataset, journaled, "is gone")


def row(connection: Connection, dataset: str, number: int | None) -> RowMapping:
    """The row of one version, the newest without a number. Raises NotFound, and Refused when the newest is gone."""
    query = select(_rows).where(_rows.c.dataset == dataset).order_by(_rows.c.version.desc())
    if number is not None:
        query = query.where(_rows.c.version == number)
    found = connection.execute(query.limit(1)).mappings().first()
    if number is None:
        check_none_is_gone(connection, dataset, 0 if found is None else found["version"])
    if found is None:
        thing = Thing.worded(f"cohort {dataset}", dataset=dataset) if number is None else _thing(dataset, number)
        raise NotFound(thing, "was never frozen", "see archipel site cohort list", command=ListCohorts())
    return found


def _thing(dataset: str, version: int) -> Thing:
    return Thing.worded(f"cohort {dataset} version {version}", dataset=dataset, version=version)


def checked(connection: Connection, cohort_key: bytes, row: RowMapping) -> Cohort:
    """The cohort of a row. Raises Refused when it is not what was frozen."""
    with _unreadable_named(row):
        cohort = stored_cohorts.read(connection, row["hash"])
        hashed = cohort_hash(cohort, cohort_key)
    if (hashed, cohort.dataset, cohort.version) != (row["hash"], row["dataset"], row["version"]):
        raise _changed(row["dataset"], row["version"], "is not what was frozen")
    return cohort


@contextmanager
def _unreadable_named(row: RowMapping) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise _changed(row["dataset"], row["version"], "cannot be read") from error


def _changed(dataset: str, version: int, cause: str) -> Refused:
    remedy = (
        "this site's database was changed by hand: check its journal; to freeze the dataset without what this version "
        "says, give --validation-fraction, --pseudonymise or --no-pseudonymise, and --spacing"
    )
    return Refused(_thing(dataset, version), cause, remedy, command=CheckJournal())
