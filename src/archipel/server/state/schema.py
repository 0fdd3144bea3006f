"""Every table of a server's database: who may connect to it, what runs, and the journal of both.

Times are UTC text as ``storage.utc_now`` writes it (it sorts as time does); documents are JSON text; hashes and states
are the words of the vocabulary. Whether a site is connected is not here: that is a fact of the running process.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import BigInteger, Column, Float, ForeignKey, Index, Integer, MetaData, String, Table, Text

from archipel.governance import journal_table
from archipel.storage.migrations import SchemaHistory

HISTORY = SchemaHistory(Path(__file__).parent / "revisions", newest="packages_of_sites")
"""A test holds that its newest revision leads to exactly ``metadata``."""

metadata = MetaData()

_NAME = String(63)
_TIME = String(32)
_HASH = String(71)
_KEY = String(80)


def _experiment() -> Column[str]:
    return Column("experiment", _NAME, ForeignKey("experiments.experiment"), primary_key=True)


sites = Table(
    "sites",
    metadata,
    Column("site", _NAME, primary_key=True),
    Column("identity_key", _KEY, nullable=False),
    Column("state", String(16), nullable=False),
    Column("enrolled_at", _TIME, nullable=False),
    Column("last_seen", _TIME),
    Column("summary", Text, nullable=False),
)
"""``state`` is a ``MemberState``; ``summary`` a JSON list of the datasets the site last announced."""

certificates = Table(
    "certificates",
    metadata,
    Column("serial", String(40), primary_key=True),
    Column("site", _NAME, ForeignKey("sites.site"), nullable=False, index=True),
    Column("pem", Text, nullable=False),
    Column("issued_at", _TIME, nullable=False),
    Column("not_after", _TIME, nullable=False),
    Column("revoked_at", _TIME),
    Column("reason", Text),
)
"""``serial`` is lower-case hexadecimal."""

join_tokens = Table(
    "join_tokens",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("secret_hash", _HASH, nullable=False),
    Column("site", _NAME, nullable=False),
    Column("created_at", _TIME, nullable=False),
    Column("expires_at", _TIME, nullable=False),
    Column("used_at", _TIME),
    Column("revoked_at", _TIME),
)

access_tokens = Table(
    "access_tokens",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(100), nullable=False),
    Column("secret_hash", _HASH, nullable=False),
    Column("scopes", String(100), nullable=False),
    Column("created_at", _TIME, nullable=False),
    Column("expires_at", _TIME, nullable=False),
    Column("revoked_at", _TIME),
    Column("last_used_at", _TIME),
)
"""``scopes`` are words separated by spaces."""

experiments = Table(
    "experiments",
    metadata,
    Column("experiment", _NAME, primary_key=True),
    Column("job", Text, nullable=False),
    Column("job_hash", _HASH, nullable=False),
    Column("state", String(32), nullable=False),
    Column("reason", Text),
    Column("arguments", Text, nullable=False),
    Column("owner", String(32), key="token", nullable=False),
    Column("created_at", _TIME, nullable=False),
    Column("started_at", _TIME),
    Column("ended_at", _TIME),
    Column("pause_after", Integer),
)
"""``arguments`` are the hyper-parameters of the next round; ``token`` is the id of the access token that
submitted the job (the column kept its first name); ``pause_after`` a round."""

approvals = Table(
    "approvals",
    metadata,
    _experiment(),
    Column("site", _NAME, primary_key=True),
    Column("state", String(16), nullable=False),
    Column("approval", Text),
    Column("subjects", Integer),
    Column("at", _TIME, nullable=False),
    Column("packages", Text),
)
"""``state`` is an ``ApprovalState``; ``approval`` the site's signed document; ``packages`` the JSON of
what the site has of those that the job names, ``null`` if it does not disclose that, none while it has not said."""

rounds = Table(
    "rounds",
    metadata,
    _experiment(),
    Column("round", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(16), primary_key=True),
    Column("about", _NAME, primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("state", String(32), nullable=False),
    Column("model_before", _HASH, nullable=False),
    Column("model_after", _HASH),
    Column("arguments", Text, nullable=False),
    Column("opened_at", _TIME, nullable=False),
    Column("deadline_at", _TIME),
    Column("closed_at", _TIME),
    Column("seconds", Float),
    Column("record", Text, nullable=False),
)
"""``record`` is the JSON account of who contributed, who did not and why, bytes and metrics."""

updates = Table(
    "updates",
    metadata,
    _experiment(),
    Column("round", Integer, primary_key=True, autoincrement=False),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(16), primary_key=True),
    Column("about", _NAME, primary_key=True),
    Column("site", _NAME, primary_key=True),
    Column("task", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("update", Text),
    Column("spool", Text),
    Column("failure", Text),
    Column("bytes_down", BigInteger, nullable=False, default=0),
    Column("bytes_up", BigInteger, nullable=False, default=0),
    Column("at", _TIME, nullable=False),
)
"""One row per task of one site; ``state`` is a ``TaskState``, ``spool`` a file name in spool/."""

models = Table(
    "models",
    metadata,
    _experiment(),
    Column("name", String(100), primary_key=True),
    Column("round", Integer, nullable=False),
    Column("hash", _HASH, nullable=False),
    Column("validation", Text),
    Column("at", _TIME, nullable=False),
)

site_journal_heads = Table(
    "site_journal_heads",
    metadata,
    Column("site", _NAME, ForeignKey("sites.site"), primary_key=True),
    Column("number", Integer, nullable=False),
    Column("hash", _HASH, nullable=False),
    Column("at", _TIME, nullable=False),
    Column("signature", String(128), nullable=False),
    Column("received_at", _TIME, nullable=False),
)
"""The newest signed head of each site's journal; a site that later shows a shorter or other journal is found out."""

events = Table(
    "events",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("experiment", _NAME, ForeignKey("experiments.experiment"), nullable=False),
    Column("at", _TIME, nullable=False),
    Column("kind", String(64), nullable=False),
    Column("body", Text, nullable=False),
    Index("ix_events_experiment_seq", "experiment", "seq"),
    sqlite_autoincrement=True,
)
"""What a researcher watches, oldest first; ``seq`` never repeats."""

journal = journal_table(metadata)
