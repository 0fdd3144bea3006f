"""When a new schema gives cohorts another form, approvals that named the old ones no longer prove anything."""

from __future__ import annotations

import sqlalchemy as sa

from archipel.governance import append
from archipel.site.state import schema


def ask_again(connection: sa.Connection, why: str) -> None:
    """Make every approved experiment an offered one, forget the cohorts, and write both into the journal."""
    names = "SELECT experiment FROM experiments WHERE state = 'approved' ORDER BY experiment"
    for experiment in connection.execute(sa.text(names)).scalars().all():
        append(connection, schema.journal, "approval-asked-again", {"experiment": experiment, "reason": why})
    connection.execute(sa.text("UPDATE experiments SET state = 'offered' WHERE state = 'approved'"))
    connection.execute(sa.text("UPDATE experiments SET cohort_hash = NULL, approval = NULL"))
    connection.execute(sa.text("DELETE FROM cohorts"))
