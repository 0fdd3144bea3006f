"""The job that was approved here before and that a new offer is compared with.

It is the one that the new job continues, if it was approved here; else the newest approved one of the same asker on the
same dataset whose plan class has the same name.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from sqlalchemy import Connection, select

from archipel.site.audit import journal
from archipel.site.state import SiteJournalKind, schema
from archipel.vocabulary import Job, ParentModel

_rows = schema.experiments
_MOST_READ = 20
"""How many of the newest approvals are looked at for a similar job: a job may be long."""


class EarlierJob(NamedTuple):
    """A job that was approved here, its hash, and when (ISO 8601 in UTC)."""

    job: Job
    job_hash: str
    at: str


def approved_before(connection: Connection, site: str, job: Job, asked_by: str) -> EarlierJob | None:
    """The job to compare with at this site; None where no such job was approved here or its document is not kept."""
    approved = _approved(connection, job.experiment)
    parent = job.lineage.job_hash if isinstance(job.lineage, ParentModel) else None
    if parent in approved:
        document = connection.scalar(select(_rows.c.job).where(_rows.c.job_hash == parent))
        if document is not None:
            return EarlierJob(Job.model_validate_json(document), parent, approved[parent])
    for digest in list(approved)[:_MOST_READ] if asked_by else ():
        query = select(_rows.c.job).where(_rows.c.job_hash == digest, _rows.c.asked_by == asked_by)
        document = connection.scalar(query)
        if document is not None and _is_alike(json.loads(document), site, job):
            return EarlierJob(Job.model_validate_json(document), digest, approved[digest])
    return None


def _approved(connection: Connection, but: str) -> dict[str, str]:
    """The hashes of the jobs of other experiments that were approved, the newest approval first, each with its time."""
    lines = journal.of_kinds(connection, {SiteJournalKind.APPROVED})
    found: dict[str, str] = {}
    for line in reversed(lines):
        if line.body.get("experiment") != but:
            found.setdefault(str(line.body.get("job_hash")), line.at)
    return found


def _is_alike(document: dict[str, object], site: str, job: Job) -> bool:
    match document:
        case {"plan": {"class_name": job.plan.class_name}, "roster": [*entries]}:
            return any(
                isinstance(one, dict) and (one.get("site"), one.get("dataset")) == (site, job.entry(site).dataset)
                for one in entries
            )
    return False
