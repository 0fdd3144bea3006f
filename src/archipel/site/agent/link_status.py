"""The state of the connection to the server, kept where the command line finds it while the agent runs elsewhere.

One row of the database, written when something changes, together with the change that followers are given; without a
running agent it means nothing.
"""

from __future__ import annotations

import structlog
from sqlalchemy import Connection, delete, insert, select

from archipel.site.state import LinkChange, changes, schema
from archipel.storage import Database, utc_now
from archipel.vocabulary import ArchipelError, Record

_log = structlog.get_logger("archipel.link")
_row = schema.link


class LinkStatus(Record):
    """Whether the server has welcomed this site, since when (UTC), and if not, what prevents it."""

    connected: bool
    problem: str
    since: str


def note(database: Database, problem: str, *, connected: bool = False) -> None:
    """Keep the connection's state; an unchanged state keeps its time. A full disk is logged and stops nothing."""
    try:
        before = read(database)
        if before is not None and (before.connected, before.problem) == (connected, problem):
            return
        with database.write() as connection:
            connection.execute(delete(_row))
            connection.execute(insert(_row).values(id=1, connected=connected, problem=problem, since=utc_now()))
            changes.append(connection, LinkChange(connected=connected, problem=problem))
    except ArchipelError as error:
        _log.error("could not store the state of the connection", error=str(error))


def read(database: Database) -> LinkStatus | None:
    """The connection's state as the agent last stored it; None when it never did."""
    with database.read() as connection:
        return _read(connection)


def _read(connection: Connection) -> LinkStatus | None:
    row = connection.execute(select(_row.c.connected, _row.c.problem, _row.c.since)).mappings().first()
    return None if row is None else LinkStatus.model_validate(dict(row))
