"""Of each experiment it is known who asks, as the server named them; of older ones nobody said."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, empty."""
    with op.batch_alter_table("experiments") as table:
        table.add_column(sa.Column("asked_by", sa.String(100), nullable=False, server_default=""))
