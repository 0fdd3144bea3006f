"""Of each withdrawal it is known whether a dataset here ever had the patient; a mistyped id shows by that.

Of older ones it is known who was in a frozen cohort; of others the next scan says it that meets their files.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column and fill it."""
    with op.batch_alter_table("withdrawals") as table:
        table.add_column(sa.Column("known", sa.Boolean(), nullable=False, server_default="0"))
    op.execute("UPDATE withdrawals SET known = 1 WHERE token IN (SELECT token FROM sides)")
