"""Lines of the journal are found by their kind: each task's proof counts those that tell of a withdrawal."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the index."""
    op.create_index("ix_journal_kind", "journal", ["kind", "number"])
