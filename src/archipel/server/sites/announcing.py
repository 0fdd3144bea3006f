"""What the server's log reports from its journal: sites that joined or left, certificates and tokens that ended, and
the life of each experiment from its submission to its end, with every round and every failure of a site.

The journal has one line for each, whichever process wrote it, so the log follows the journal and reports nothing twice.
"""

from __future__ import annotations

import asyncio
import json

import structlog
from sqlalchemy import Connection, func, select

from archipel.server.state import ServerJournalKind, schema
from archipel.storage import Database
from archipel.vocabulary import Failure
from archipel.vocabulary.visible import escape_hidden

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
        ServerJournalKind.EXPERIMENT_RUNNING,
        ServerJournalKind.EXPERIMENT_PAUSED,
        ServerJournalKind.EXPERIMENT_ENDING,
        ServerJournalKind.EXPERIMENT_FINISHED,
        ServerJournalKind.EXPERIMENT_CANCELLED,
        ServerJournalKind.ARGUMENTS_CHANGED,
        ServerJournalKind.ROUND_CLOSED,
        ServerJournalKind.ROUND_CANCELLED,
        ServerJournalKind.SITE_FAILED,
    }
)
_SAID = (
    "experiment", "asked_by", "sites", "site", "serial", "not_after", "id", "name", "scopes",
    "stage", "attempt", "state", "seconds", "contributors", "others", "failure", "arguments", "reason", "by",
)  # fmt: skip
"""What is logged of a line's body, in this order; documents and signatures are in the journal."""


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
        lines = [(row.kind, _of(connection, row.body)) for row in rows if row.kind in _KINDS]
    for kind, said in lines:
        is_bad = kind == ServerJournalKind.SITE_FAILED or said.get("state") == "failed"
        (_log.warning if is_bad else _log.info)(kind, **said)
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


def _of(connection: Connection, body: str) -> dict[str, object]:
    try:
        found = json.loads(body)
        if "round" in found:
            found |= _of_a_round(connection, found)
        said = {key: found[key] for key in _SAID if found.get(key)}
    except (ValueError, AttributeError, TypeError, KeyError):
        # A damaged line is reported by `journal verify`; the log continues.
        return {}
    return {key: escape_hidden(value) if isinstance(value, str) else value for key, value in said.items()}


def _of_a_round(connection: Connection, body: dict[str, object]) -> dict[str, object]:
    """The stage in words, how many seconds the attempt took, and a site's failure in the words of its agent."""
    rounds = schema.rounds
    place = (rounds.c[name] == body[name] for name in ("experiment", "round", "kind", "about", "attempt"))
    seconds = connection.scalar(select(rounds.c.seconds).where(*place))
    more: dict[str, object] = {"stage": f"{body['kind']} {body['round']} {body['about']}".strip()}
    if seconds is not None and "contributors" in body:
        more["seconds"] = round(seconds, 1)
    if "failure" in body:
        failure = Failure.model_validate(body["failure"])
        more["failure"] = f"{failure.code}: {failure}"
    return more
