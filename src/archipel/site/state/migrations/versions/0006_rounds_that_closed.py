"""Of each task it is known when the last word on its round came; of older ones the state or the journal says it.

Of a task that failed only the journal does: its state tells of the failure.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_JOURNALED = """
EXISTS (SELECT 1 FROM journal WHERE journal.kind = 'round-closed' AND CASE WHEN json_valid(journal.body) THEN
        json_extract(journal.body, '$.experiment') = tasks.experiment
        AND json_extract(journal.body, '$.round') = tasks.round
        AND json_extract(journal.body, '$.attempt') = tasks.attempt
        AND json_extract(journal.body, '$.kind') = tasks.kind
        AND json_extract(journal.body, '$.about') = tasks.about
    END)
"""
"""A line that somebody damaged says nothing here, and must not keep the site from opening."""


def upgrade() -> None:
    """Add the column and fill it."""
    with op.batch_alter_table("tasks") as table:
        table.add_column(sa.Column("closed_at", sa.String(32)))
    over = f"state IN ('closed', 'rolled-back') OR (state = 'failed' AND {_JOURNALED})"
    op.execute(f"UPDATE tasks SET closed_at = coalesce(done_at, accepted_at) WHERE {over}")  # noqa: S608 - no input
