"""Datasets have a format, options and a mapping; files are remembered; cohorts are frozen again in their new form.

A cohort of the first schema is another document than one of this: an approval that named it asks again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from archipel.site.state.migrations.asking_again import ask_again

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change the tables and ask again for what was approved."""
    ask_again(op.get_bind(), "cohorts are frozen with a format and a mapping now")
    with op.batch_alter_table("datasets") as table:
        table.alter_column("kind", new_column_name="format")
        table.add_column(sa.Column("options", sa.Text(), nullable=False, server_default="{}"))
        table.add_column(sa.Column("mapping", sa.Text(), nullable=False, server_default="{}"))
        table.add_column(sa.Column("leave_out_faulty", sa.Boolean(), nullable=False, server_default="0"))
    op.execute("UPDATE datasets SET mapping = json_object('label_names', json(labels)) WHERE labels != ''")
    op.execute("UPDATE datasets SET summary = ''")
    with op.batch_alter_table("datasets") as table:
        table.drop_column("labels")
    op.create_table(
        "files",
        sa.Column("dataset", sa.String(length=63), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("purpose", sa.String(length=63), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("modified_ns", sa.Integer(), nullable=False),
        sa.Column("changed_ns", sa.Integer(), nullable=False),
        sa.Column("inode", sa.Integer(), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("dataset", "place", "purpose"),
    )
