"""Offers that wait for a decision: a server may not fill this site's disk with them.

Offers that ended without a decision are kept for people to see, and make room for new ones.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, delete, func, select

from archipel.site.state import OfferState, schema
from archipel.storage import BlobStore, Database
from archipel.vocabulary import Job, Refused, Thing
from archipel.vocabulary.bounds import LONGEST_JOB
from archipel.vocabulary.remedies import ListOffers


@dataclass(frozen=True)
class OfferLimits:
    """How many offers may wait here, and how many bytes all their jobs together may have; a test passes its own."""

    offers: int = 100
    job_bytes: int = 64 << 20


OFFER_LIMITS = OfferLimits()

_rows = schema.experiments
_ended_undecided = and_(_rows.c.state == OfferState.ENDED, _rows.c.decided_at.is_(None))


def check_limits(connection: Connection, job: Job, length: int, limits: OfferLimits) -> None:
    """Raise Refused when a job of ``length`` bytes is too long, or too many offers wait already."""
    thing = Thing("experiment", job.experiment)
    if length > LONGEST_JOB:
        cause = f"is a document of {length} bytes; at most {LONGEST_JOB} are accepted"
        raise Refused(thing, cause, "it was not taken on", values={"bytes": length, "limit": LONGEST_JOB})
    others = (_rows.c.state == OfferState.OFFERED, _rows.c.experiment != job.experiment)
    query = select(func.count(), func.coalesce(func.sum(func.length(_rows.c.job)), 0)).where(*others)
    count, taken = connection.execute(query).one()
    if count >= limits.offers or taken + length > limits.job_bytes:
        cause = f"finds {count} offers of {taken} bytes here without a decision"
        raise Refused(
            thing,
            cause,
            "approve or reject some of them: archipel site plans",
            values={"offers": count, "bytes": taken},
            command=ListOffers(),
        )


def forget_ended(connection: Connection, limits: OfferLimits) -> set[str]:
    """Remove offers that ended undecided when there are too many of them; returns the hashes of their plans' files."""
    query = select(func.count(), func.coalesce(func.sum(func.length(_rows.c.job)), 0)).where(_ended_undecided)
    count, taken = connection.execute(query).one()
    if count < limits.offers and taken <= limits.job_bytes:
        return set()
    files = plan_blobs(connection, _ended_undecided)
    connection.execute(delete(_rows).where(_ended_undecided))
    return files


def plan_blobs(connection: Connection, *which: ColumnElement[bool]) -> set[str]:
    """The hashes of the files of the plans of these offers, by default of all."""
    return set().union(*map(files_in, connection.scalars(select(_rows.c.job).where(*which))))


def files_in(job: str) -> set[str]:
    """The hashes of the plan's files in a job's document."""
    return set(json.loads(job)["plan"]["files"].values())


def frozen_parts(connection: Connection, *which: ColumnElement[bool]) -> set[str]:
    """The hashes of the frozen parts of these jobs, by default of all that did not end."""
    # SQLite looks for it: Python would read each job of 60,000 tensors for seconds.
    part = func.json_extract(_rows.c.job, "$.frozen.blob")
    chosen = which or (_rows.c.state != OfferState.ENDED,)
    return set(connection.scalars(select(part).where(part.is_not(None), *chosen)))


def drop_files(database: Database, blobs: BlobStore, files: set[str]) -> None:
    """Delete those of these files that belong to the plan of no offer, and are the frozen part of no job that did not
    end.
    """
    if not files:
        return
    with database.read() as connection:
        files = files - plan_blobs(connection) - frozen_parts(connection)
    for one in files:
        blobs.delete(one)
