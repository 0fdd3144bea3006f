"""What a site keeps of an experiment, by the kind of task that made it: local models have a local part too."""

import sqlalchemy as sa
from alembic import op

revision = "states_by_kind"
down_revision = "members_by_id"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Put the states, all of which rounds of training made, into a table that also says the kind."""
    op.create_table(
        "kept_states",
        sa.Column("experiment", sa.String(length=63), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("committed", sa.Boolean(create_constraint=False), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["experiment"], ["experiments.experiment"]),
        sa.PrimaryKeyConstraint("experiment", "kind", "round", "attempt"),
    )
    columns = "experiment, kind, round, attempt, path, committed"
    op.execute(
        f"INSERT INTO kept_states ({columns}) "  # noqa: S608 - names of columns
        "SELECT experiment, 'train', round, attempt, path, committed FROM optimiser_states"
    )
    op.drop_table("optimiser_states")
