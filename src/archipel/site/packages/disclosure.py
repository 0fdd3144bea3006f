"""What is disclosed to the server about packages: for which experiments, and the journal's line of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import func, select

from archipel.site.audit import PackagesDisclosed, add_entry
from archipel.site.state import OfferState, SiteJournalKind, StateFolder, schema
from archipel.storage import Database
from archipel.vocabulary import PlanReference

_ASKED = (OfferState.OFFERED, OfferState.APPROVED)


class AskedPackages(NamedTuple):
    """The packages that the job of an experiment names."""

    experiment: str
    job_hash: str
    packages: tuple[str, ...]


class OpenOffers:
    """The experiments at a site that wait or are approved; each job is read once for its packages."""

    def __init__(self, site: StateFolder) -> None:
        self._database = site.database
        self._read: dict[str, tuple[str, ...]] = {}

    def asked(self) -> list[AskedPackages]:
        """Those whose jobs name packages."""
        rows = schema.experiments
        query = select(rows.c.experiment, rows.c.job_hash).where(rows.c.state.in_(_ASKED))
        read: dict[str, tuple[str, ...]] = {}
        with self._database.read() as connection:
            here = connection.execute(query.order_by(rows.c.experiment)).all()
            for row in here:
                found = self._read.get(row.job_hash)
                if found is None:
                    job = connection.scalar(select(rows.c.job).where(rows.c.experiment == row.experiment))
                    found = _named(job or "")
                read[row.job_hash] = found
        # Two threads may ask at a time: neither changes what the other one reads.
        self._read = read
        asked = [AskedPackages(row.experiment, row.job_hash, read[row.job_hash]) for row in here]
        return [one for one in asked if one.packages]


def _named(job: str) -> tuple[str, ...]:
    """The packages that a stored job names; none for a job that is damaged, which the reporting of answers logs."""
    try:
        return PlanReference.model_validate(json.loads(job)["plan"]).packages
    except (ValueError, KeyError, TypeError):
        return ()


def note(database: Database, asked: AskedPackages, here: Mapping[str, str | None]) -> None:
    """Journal what is about to be disclosed for an experiment, unless it is the same as last time."""
    body = PackagesDisclosed(experiment=asked.experiment, job_hash=asked.job_hash, packages=dict(here))
    table = schema.journal
    last = (
        select(table.c.body)
        .where(
            table.c.kind == SiteJournalKind.PACKAGES_DISCLOSED,
            func.json_extract(table.c.body, "$.experiment") == asked.experiment,
        )
        .order_by(table.c.number.desc())
        .limit(1)
    )
    with database.write() as connection:
        before = connection.scalar(last)
        if before is None or json.loads(before) != body.document():
            add_entry(connection, SiteJournalKind.PACKAGES_DISCLOSED, body)
