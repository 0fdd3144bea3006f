"""The tables of a site's database, and the history of its schema."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from archipel.governance import journal_table
from archipel.storage.migrations import SchemaHistory

HISTORY = SchemaHistory(Path(__file__).parent / "revisions", newest="states_by_kind")
"""A test holds that its newest revision leads to exactly ``metadata``."""

metadata = MetaData()

federation = Table(
    "federation",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
    Column("name", String(200), nullable=False),
    Column("server_key", String(72), nullable=False),
    Column("grpc", String(300), nullable=False),
    Column("rest", String(300), nullable=False),
    Column("heartbeat_s", Float, nullable=False),
    Column("joined_at", String(32), nullable=False),
)
"""The one federation this site belongs to: at most one row."""

datasets = Table(
    "datasets",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("format", String(32), nullable=False),
    Column("root", Text, nullable=False),
    Column("subjects", Integer, nullable=False),
    Column("summary", Text, nullable=False),
    Column("added_at", String(32), nullable=False),
    Column("scanned_at", String(32), nullable=False),
    Column("options", Text, nullable=False, server_default="{}"),
    Column("mapping", Text, nullable=False, server_default="{}"),
    Column("leave_out_faulty", Boolean(create_constraint=False), nullable=False, server_default="0"),
)

files = Table(
    "files",
    metadata,
    Column("dataset", String(63), primary_key=True),
    Column("place", Text, primary_key=True),
    Column("purpose", String(63), primary_key=True),
    Column("size", Integer, nullable=False),
    Column("modified_ns", Integer, nullable=False),
    Column("changed_ns", Integer, nullable=False),
    Column("inode", Integer, nullable=False),
    Column("facts", Text, nullable=False),
)
"""What one look into each file of a dataset found; a file with the same size, times and inode is not opened again."""

members = Table(
    "members",
    metadata,
    Column("dataset", String(63), primary_key=True),
    Column("token", String(64), primary_key=True),
    Column("subject", String(200), nullable=False, server_default=""),
)
"""Who is in each dataset as it was last scanned: by keyed tokens a withdrawal knows at once which counts change, and by
the ids whether a patient is there under another spelling. A patient who withdraws leaves this table."""

exclusions = Table(
    "exclusions",
    metadata,
    Column("dataset", String(63), primary_key=True),
    Column("subject", String(200), primary_key=True),
    Column("excluded_at", String(32), nullable=False),
)
"""Subjects whose data is not usable, left out of every scan from then on; the token of one who withdrew since."""

withdrawals = Table(
    "withdrawals",
    metadata,
    Column("dataset", String(63), primary_key=True),
    Column("token", String(64), primary_key=True),
    Column("source", String(16), nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Column("withdrawn_at", String(32), nullable=False),
    Column("known", Boolean(create_constraint=False), nullable=False, server_default="0"),
    Column("form", String(64), nullable=False, server_default=""),
)
"""Patients who are not to be used any more, as keyed tokens; ``dataset`` "" is every dataset of this site.

``known``: a dataset here had them once, or a scan met them since. ``form`` is the token of what their id has in common
with other spellings of it.
"""

cohorts = Table(
    "cohorts",
    metadata,
    Column("hash", String(71), primary_key=True),
    Column("dataset", String(63), nullable=False),
    Column("subjects", Integer, nullable=False),
    Column("frozen_at", String(32), nullable=False),
    Column("version", Integer, nullable=False),
    Column("name", String(200), nullable=False, server_default=""),
    UniqueConstraint("dataset", "version", name="uq_cohorts_dataset_version"),
)
"""Frozen lists of subjects, counted from 1 in each dataset; never leave the site, only their keyed hash does."""

cohort_pieces = Table(
    "cohort_pieces",
    metadata,
    Column("cohort_hash", String(71), ForeignKey("cohorts.hash"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("content", LargeBinary, nullable=False),
)
"""What each cohort is, as ``data/cohorts/cohort_files.py`` writes it: in pieces, so that none is long."""

split_assignments = Table(
    "split_assignments",
    metadata,
    Column("dataset", String(63), primary_key=True),
    Column("fraction", Float, primary_key=True),
    Column("token", String(64), primary_key=True),
    Column("validates", Boolean(create_constraint=False), nullable=False),
)
"""Whether each subject trained or validated when it was first frozen; that holds in every later version of the same
validation fraction."""

signed_withdrawals = Table(
    "signed_withdrawals",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("cohort_hash", String(71), ForeignKey("cohorts.hash"), nullable=False, index=True),
    Column("body", Text, nullable=False),
)
"""Signed withdrawals from frozen cohorts."""

experiments = Table(
    "experiments",
    metadata,
    Column("experiment", String(63), primary_key=True),
    Column("job", Text, nullable=False),
    Column("job_hash", String(71), nullable=False),
    Column("state", String(16), nullable=False),
    Column("cohort_hash", String(71), ForeignKey("cohorts.hash")),
    Column("approval", Text),
    Column("note", Text, nullable=False, server_default=""),
    Column("offered_at", String(32), nullable=False),
    Column("decided_at", String(32)),
    Column("ended_at", String(32)),
    Column("asked_by", String(100), nullable=False, server_default=""),
)
"""One row per experiment: the job last offered, who asks, and what the people here decided about it."""

tasks = Table(
    "tasks",
    metadata,
    Column("experiment", String(63), ForeignKey("experiments.experiment"), primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("about", String(63), primary_key=True, server_default=""),
    Column("task", Text, nullable=False),
    Column("task_hash", String(71), nullable=False),
    Column("state", String(16), nullable=False),
    Column("update", Text),
    Column("spool", Text),
    Column("failure", Text),
    Column("detail", Text),
    Column("released", Boolean(create_constraint=False), nullable=False, server_default="0"),
    Column("release_sent", Boolean(create_constraint=False), nullable=False, server_default="0"),
    Column("accepted_at", String(32), nullable=False),
    Column("done_at", String(32)),
    Column("closed_at", String(32)),
)
"""Every task taken on: accepted, done, sent, failed, withdrawn, closed or rolled-back.

``detail``, the full error text, stays here; ``closed_at`` is when the server's result of the round came.
"""

kept_states = Table(
    "kept_states",
    metadata,
    Column("experiment", String(63), ForeignKey("experiments.experiment"), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("path", Text, nullable=False),
    Column("committed", Boolean(create_constraint=False), nullable=False, server_default="0"),
)
"""What a site keeps for an experiment, its local part and the optimiser's state: one file for each attempt at a round,
or at training alone."""

server_journal_heads = Table(
    "server_journal_heads",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("hash", String(71), primary_key=True),
    Column("at", String(32), nullable=False),
    Column("signature", String(128), nullable=False),
    Column("received_at", String(32), nullable=False),
)
"""Heads of the server's journal that the server signed and sent to this site."""

receipts = Table(
    "receipts",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("hash", String(71), primary_key=True),
    Column("at", String(32), nullable=False),
    Column("signature", String(128), nullable=False, server_default=""),
    Column("received_at", String(32), nullable=False),
)
"""Heads of this site's journal that the server countersigned."""

changes = Table(
    "changes",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("at", String(32), nullable=False),
    Column("line", Integer),
    Column("what", Text, nullable=False),
)
"""The newest of what changed here, in order; ``line`` is the journal's line that records the change, if one does."""

link = Table(
    "link",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
    Column("connected", Boolean(create_constraint=False), nullable=False),
    Column("problem", Text, nullable=False),
    Column("since", String(32), nullable=False),
)
"""The state of the agent's connection as the agent last stored it: at most one row."""

journal = journal_table(metadata)
Index("ix_journal_kind", journal.c.kind, journal.c.number)
