"""What the server's log reports from its journal: sites that joined or left, certificates and tokens that ended, jobs
that were submitted.

The journal has one line for each, whichever process wrote it, so the log follows the journal and reports nothing twice.
"""

from __future__ import annotations

import asyncio
import json

import structlog
from sqlalchemy import func, select

from archipel.server.state import ServerJournalKind, schema
from archipel.storage import Database

_log = structlog.get_logger("archipel.server")
LOOK_S = 1.0
_KINDS = frozenset(
    {
        ServerJournalKind.SITE_ENROLLED,
        ServerJournalKind.SITE_REMOVED,
        ServerJournalKind.CERTIFICATE_RENEWED,
        ServerJournalKind.CERTIFICATE_REVOKED,
        ServerJournalKind.JOIN_TOKEN_CREATED,
        ServerJournalKind.JOIN_TOKEN_REVOKED,
        ServerJournalKind.ACCESS_TOKEN_CREATED,
        ServerJournalKind.ACCESS_TOKEN_REVOKED,
        ServerJournalKind.EXPERIMENT_SUBMITTED,
        ServerJournalKind.SITE_APPROVED,
        ServerJournalKind.SITE_REJECTED,
        ServerJournalKind.SITE_REVOKED,
    }
)
_SAID = ("experiment", "asked_by", "sites", "site", "serial", "not_after", "id", "name", "scopes", "reason", "by")
"""What is logged of a line's body; documents and signatures are in the journal."""


def newest(database: Database) -> int:
    """The number of the journal's last line."""
    with database.read() as connection:
        return connection.scalar(select(func.max(schema.journal.c.number))) or 0


def announce(database: Database, after: int) -> int:
    """Log the lines after number ``after`` that report members, tokens and experiments; the last line's number."""
    query = select(schema.journal.c.number, schema.journal.c.kind, schema.journal.c.body).where(
        schema.journal.c.number > after
    )
    with database.read() as connection:
        rows = connection.execute(query.order_by(schema.journal.c.number)).all()
    for row in rows:
        if row.kind in _KINDS:
            _log.info(row.kind, **_of(row.body))
    return rows[-1].number if rows else after


async def follow(database: Database, after: int) -> None:
    """Log new lines until cancelled, and then what came last.

    Read in the event loop itself: it reads the end of one index, which a thread would make longer and, when it is
    cancelled, twice.
    """
    try:
        while True:
            after = _announced(database, after)
            await asyncio.sleep(LOOK_S)
    finally:
        _announced(database, after)


def _announced(database: Database, after: int) -> int:
    try:
        return announce(database, after)
    except Exception as error:
        _log.error("could not read the journal for the log", error=str(error))
        return after


def _of(body: str) -> dict[str, object]:
    try:
        found = json.loads(body)
        return {key: found[key] for key in _SAID if found.get(key)}
    except (ValueError, AttributeError):
        # A damaged line is reported by `journal verify`; the log continues.
        return {}
