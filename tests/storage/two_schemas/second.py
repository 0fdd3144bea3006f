"""Kelvin instead of degrees Celsius, in three statements; no two readings may be equal."""

import sqlalchemy as sa
from alembic import op

revision = "second"
down_revision = "first"


def upgrade() -> None:
    """Add the new column, fill it, and drop the old one."""
    op.add_column("readings", sa.Column("kelvin", sa.Float()))
    op.execute("UPDATE readings SET kelvin = celsius + 273")
    op.create_index("one_reading_per_kelvin", "readings", ["kelvin"], unique=True)
    op.drop_column("readings", "celsius")
