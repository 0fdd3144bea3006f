"""What sites say about the packages that jobs name."""

import sqlalchemy as sa
from alembic import op

revision = "packages_of_sites"
down_revision = "first"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; sites that are connected say it again when the server starts."""
    op.add_column("approvals", sa.Column("packages", sa.Text(), nullable=True))
