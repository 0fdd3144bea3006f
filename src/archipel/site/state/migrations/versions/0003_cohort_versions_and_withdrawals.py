"""Cohorts have versions, subjects keep their side of the split, and patients can be withdrawn from both.

A cohort of an older schema has no version and no validation list: an approval that named it asks again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from archipel.site.state.migrations.asking_again import ask_again

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the new tables and ask again for what was approved."""
    ask_again(op.get_bind(), "cohorts have versions and validation lists now")
    with op.batch_alter_table("cohorts") as table:
        table.add_column(sa.Column("version", sa.Integer(), nullable=False))
        table.add_column(sa.Column("name", sa.String(length=200), nullable=False, server_default=""))
        table.create_unique_constraint("uq_cohorts_dataset_version", ["dataset", "version"])
    op.create_table(
        "members",
        sa.Column("dataset", sa.String(length=63), nullable=False),
        sa.Column("token", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("dataset", "token"),
    )
    op.create_table(
        "exclusions",
        sa.Column("dataset", sa.String(length=63), nullable=False),
        sa.Column("subject", sa.String(length=200), nullable=False),
        sa.Column("excluded_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("dataset", "subject"),
    )
    op.create_table(
        "withdrawals",
        sa.Column("dataset", sa.String(length=63), nullable=False),
        sa.Column("token", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False, server_default=""),
        sa.Column("withdrawn_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("dataset", "token"),
    )
    op.create_table(
        "sides",
        sa.Column("dataset", sa.String(length=63), nullable=False),
        sa.Column("fraction", sa.Float(), nullable=False),
        sa.Column("token", sa.String(length=64), nullable=False),
        sa.Column("validates", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("dataset", "fraction", "token"),
    )
    op.create_table(
        "subtractions",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("cohort_hash", sa.String(length=71), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["cohort_hash"], ["cohorts.hash"]),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index("ix_subtractions_cohort_hash", "subtractions", ["cohort_hash"])
