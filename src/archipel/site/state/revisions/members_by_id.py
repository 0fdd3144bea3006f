"""The members of datasets with their ids, and withdrawals with a token of the id's form: other spellings are found."""

import sqlalchemy as sa
from alembic import op

revision = "members_by_id"
down_revision = "cohorts_in_pieces"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the ids, which the next scan of each dataset writes down, and the forms of those who withdraw from now on."""
    op.add_column("members", sa.Column("subject", sa.String(length=200), server_default="", nullable=False))
    op.add_column("withdrawals", sa.Column("form", sa.String(length=64), server_default="", nullable=False))
