"""Two columns go that nothing was ever written to: what a person notes of an answer stays at their hospital."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Drop both."""
    with op.batch_alter_table("approvals") as table:
        table.drop_column("note")
    with op.batch_alter_table("updates") as table:
        table.drop_column("task_hash")
