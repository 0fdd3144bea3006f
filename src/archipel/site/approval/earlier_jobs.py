"""The job that was approved here before and that a new offer is compared with.

It is the one that the new job continues, if it was approved here; else the newest approved one of the same asker on the
same dataset whose plan class has the same name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import Connection, select

from archipel.site.audit import journal
from archipel.site.state import SiteJournalKind, schema
from archipel.vocabulary import Job, ParentModel

_rows = schema.experiments
_MOST_READ = 50
"""How many of the newest approvals are looked at: a job may be long."""


class EarlierJob(NamedTuple):
    """A job that was approved here, its hash, and when (ISO 8601 in UTC)."""

    job: Job
    job_hash: str
    at: str


def approved_before(connection: Connection, site: str, job: Job, asked_by: str) -> EarlierJob | None:
    """The job to compare with at this site; None where no such job was approved here or its document is not kept."""
    newest = list(_approved(connection, job.experiment))
    parent = job.lineage.job_hash if isinstance(job.lineage, ParentModel) else None
    for found in newest:
        if found.job_hash == parent:
            return _read(found)
    for found in newest:
        if asked_by and found.asked_by == asked_by and _is_alike(json.loads(found.document), site, job):
            return _read(found)
    return None


class _Row(NamedTuple):
    document: str
    job_hash: str
    asked_by: str
    at: str


def _read(row: _Row) -> EarlierJob:
    return EarlierJob(Job.model_validate_json(row.document), row.job_hash, row.at)


def _approved(connection: Connection, but: str) -> Iterator[_Row]:
    """The approved jobs of other experiments, the newest approval first."""
    lines = journal.of_kinds(connection, {SiteJournalKind.APPROVED})
    seen: set[object] = set()
    for line in reversed(lines):
        experiment, digest = line.body.get("experiment"), line.body.get("job_hash")
        if experiment == but or digest in seen or len(seen) == _MOST_READ:
            continue
        seen.add(digest)
        query = select(_rows.c.job, _rows.c.asked_by).where(
            _rows.c.experiment == experiment, _rows.c.job_hash == digest
        )
        row = connection.execute(query).first()
        if row is not None:
            yield _Row(row.job, str(digest), row.asked_by, line.at)


def _is_alike(document: dict[str, object], site: str, job: Job) -> bool:
    match document:
        case {"plan": {"class_name": job.plan.class_name}, "roster": [*entries]}:
            return any(
                isinstance(one, dict) and (one.get("site"), one.get("dataset")) == (site, job.entry(site).dataset)
                for one in entries
            )
    return False
