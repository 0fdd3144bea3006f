"""The first schema: federation, datasets, cohorts, withdrawals, experiments, tasks, heads and the journal."""

import sqlalchemy as sa
from alembic import op

revision = "cohorts_in_pieces"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table."""
    op.create_table(
        "cohorts",
        sa.Column("hash", sa.String(length=71), nullable=False),
        sa.Column("dataset", sa.String(length=63), nullable=False),
        sa.Column("subjects", sa.Integer(), nullable=False),
        sa.Column("frozen_at", sa.String(length=32), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=200), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("hash"),
        sa.UniqueConstraint("dataset", "version", name="uq_cohorts_dataset_version"),
    )
    op.create_table(
        "cohort_pieces",
        sa.Column("cohort_hash", sa.String(length=71), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["cohort_hash"], ["cohorts.hash"]),
        sa.PrimaryKeyConstraint("cohort_hash", "number"),
    )
    op.create_table(
        "datasets",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("format", sa.String(length=32), nullable=False),
        sa.Column("root", sa.Text(), nullable=False),
        sa.Column("subjects", sa.Integer(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("added_at", sa.String(length=32), nullable=False),
        sa.Column("scanned_at", sa.String(length=32), nullable=False),
        sa.Column("options", sa.Text(), server_default="{}", nullable=False),
        sa.Column("mapping", sa.Text(), server_default="{}", nullable=False),
        sa.Column("leave_out_faulty", sa.Boolean(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "exclusions",
        sa.Column("dataset", sa.String(length=63), nullable=False),
        sa.Column("subject", sa.String(length=200), nullable=False),
        sa.Column("excluded_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("dataset", "subject"),
    )
    op.create_table(
        "federation",
        sa.Column("id", sa.Integer(), sa.CheckConstraint("id = 1"), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("server_key", sa.String(length=72), nullable=False),
        sa.Column("grpc", sa.String(length=300), nullable=False),
        sa.Column("rest", sa.String(length=300), nullable=False),
        sa.Column("heartbeat_s", sa.Float(), nullable=False),
        sa.Column("joined_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
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
    op.create_table(
        "journal",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("previous", sa.String(length=71), nullable=False),
        sa.Column("hash", sa.String(length=71), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index("ix_journal_kind", "journal", ["kind", "number"])
    op.create_table(
        "members",
        sa.Column("dataset", sa.String(length=63), nullable=False),
        sa.Column("token", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("dataset", "token"),
    )
    op.create_table(
        "changes",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("line", sa.Integer(), nullable=True),
        sa.Column("what", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_table(
        "link",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("connected", sa.Boolean(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("since", sa.String(length=32), nullable=False),
        sa.CheckConstraint("id = 1"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "receipts",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.String(length=71), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("signature", sa.String(length=128), server_default="", nullable=False),
        sa.Column("received_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("number", "hash"),
    )
    op.create_table(
        "server_journal_heads",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.String(length=71), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("signature", sa.String(length=128), nullable=False),
        sa.Column("received_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("number", "hash"),
    )
    op.create_table(
        "split_assignments",
        sa.Column("dataset", sa.String(length=63), nullable=False),
        sa.Column("fraction", sa.Float(), nullable=False),
        sa.Column("token", sa.String(length=64), nullable=False),
        sa.Column("validates", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("dataset", "fraction", "token"),
    )
    op.create_table(
        "withdrawals",
        sa.Column("dataset", sa.String(length=63), nullable=False),
        sa.Column("token", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("withdrawn_at", sa.String(length=32), nullable=False),
        sa.Column("known", sa.Boolean(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("dataset", "token"),
    )
    op.create_table(
        "experiments",
        sa.Column("experiment", sa.String(length=63), nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("job_hash", sa.String(length=71), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("cohort_hash", sa.String(length=71), nullable=True),
        sa.Column("approval", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.Column("offered_at", sa.String(length=32), nullable=False),
        sa.Column("decided_at", sa.String(length=32), nullable=True),
        sa.Column("ended_at", sa.String(length=32), nullable=True),
        sa.Column("asked_by", sa.String(length=100), server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["cohort_hash"],
            ["cohorts.hash"],
        ),
        sa.PrimaryKeyConstraint("experiment"),
    )
    op.create_table(
        "signed_withdrawals",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("cohort_hash", sa.String(length=71), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["cohort_hash"],
            ["cohorts.hash"],
        ),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index(op.f("ix_signed_withdrawals_cohort_hash"), "signed_withdrawals", ["cohort_hash"])
    op.create_table(
        "optimiser_states",
        sa.Column("experiment", sa.String(length=63), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("committed", sa.Boolean(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment"],
            ["experiments.experiment"],
        ),
        sa.PrimaryKeyConstraint("experiment", "round", "attempt"),
    )
    op.create_table(
        "tasks",
        sa.Column("experiment", sa.String(length=63), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("about", sa.String(length=63), server_default="", nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("task_hash", sa.String(length=71), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("update", sa.Text(), nullable=True),
        sa.Column("spool", sa.Text(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("released", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("release_sent", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("accepted_at", sa.String(length=32), nullable=False),
        sa.Column("done_at", sa.String(length=32), nullable=True),
        sa.Column("closed_at", sa.String(length=32), nullable=True),
        sa.ForeignKeyConstraint(
            ["experiment"],
            ["experiments.experiment"],
        ),
        sa.PrimaryKeyConstraint("experiment", "round", "attempt", "kind", "about"),
    )
