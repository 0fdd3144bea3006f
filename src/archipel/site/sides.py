"""On which side of a split each subject of a dataset stands, from the first time it is frozen: by keyed tokens."""

from __future__ import annotations

from sqlalchemy import Connection, select
from sqlalchemy.dialects.sqlite import insert

from archipel.data import Cohort, subject_token
from archipel.site import schema
from archipel.site.state import SiteState

_rows = schema.sides


def settled(connection: Connection, dataset: str, fraction: float) -> dict[str, bool]:
    """Whether each who has a side validates."""
    query = select(_rows.c.token, _rows.c.validates).where(_rows.c.dataset == dataset, _rows.c.fraction == fraction)
    return {row.token: row.validates for row in connection.execute(query)}


def settle(connection: Connection, site: SiteState, cohort: Cohort) -> None:
    """Keep the sides of a new cohort, in the caller's transaction; who has one already keeps it."""
    if cohort.validation is None or cohort.validation_fraction is None or not cohort.samples:
        return
    held_out = frozenset(cohort.validation)
    rows = [
        {
            "dataset": cohort.dataset,
            "fraction": cohort.validation_fraction,
            "token": subject_token(subject, site.cohort_key),
            "validates": subject in held_out,
        }
        for subject in cohort.subjects
    ]
    connection.execute(insert(_rows).on_conflict_do_nothing(), rows)
