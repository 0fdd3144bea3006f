"""Who is left out of each scan of a dataset: patients who are withdrawn, and subjects who are excluded."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, select

from archipel.data import LeavesOut, subject_token
from archipel.data.formats import subject_id
from archipel.site.state import schema
from archipel.site.withdrawn import register
from archipel.storage import Database
from archipel.tensors import blob_hash


class LeftOut(NamedTuple):
    """Whether a subject is left out, and another text whenever other patients are withdrawn, "" while nobody is."""

    leaves_out: LeavesOut
    withdrawn: str


def by(database: Database, cohort_key: bytes, dataset: str, met: set[str]) -> LeftOut:
    """Who is left out of a dataset; the tokens of those who are withdrawn are added to ``met``."""
    with database.read() as connection:
        tokens = register.tokens_out_of(connection, dataset)
        excluded = frozenset(map(subject_id, excluded_from(connection, dataset)))

    def leaves_out(subject: str) -> bool:
        if not tokens and not excluded:
            return False
        token = subject_token(subject, cohort_key) if tokens else ""
        if token in tokens:
            met.add(token)
        return token in tokens or subject_id(subject) in excluded

    return LeftOut(leaves_out, blob_hash("".join(sorted(tokens)).encode()) if tokens else "")


def excluded_from(connection: Connection, name: str) -> list[str]:
    """The subjects who are left out of a dataset because their data is not usable, in order."""
    table = schema.exclusions
    query = select(table.c.subject).where(table.c.dataset == name).order_by(table.c.subject)
    return list(connection.scalars(query))
