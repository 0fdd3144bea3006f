"""Readings of a scanner, by name."""

import sqlalchemy as sa
from alembic import op

revision = "first"
down_revision = None


def upgrade() -> None:
    """Create the table."""
    op.create_table("readings", sa.Column("name", sa.Text(), primary_key=True), sa.Column("celsius", sa.Float()))
