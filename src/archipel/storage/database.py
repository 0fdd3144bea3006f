"""The relational database of a server or a site: SQLAlchemy over SQLite in WAL mode, full synchronisation.

A write transaction takes SQLite's write lock when it begins, so that two processes (an agent and its command line)
never append to the same journal head; a read transaction sees one consistent state and blocks no other.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError

from archipel.vocabulary import ArchipelError, ErrorCode, StorageFull, Thing
from archipel.vocabulary.remedies import FreeDiskSpace

_WRITE = "archipel_write"
_ANNOUNCED = "archipel_announced"
_NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)
"""What SQLite says of a full disk: in general, and when the write-ahead log's index finds no room."""


_PRIMARY = 0xFF
"""The part of an SQLite error code that says what went wrong; the rest says where."""


def utc_now() -> str:
    """The time now as text, UTC, microseconds: ``2026-11-21T08:00:00.000000+00:00``."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


class Database:
    """One database by SQLAlchemy URL; ``read()`` and ``write()`` are its transactions.

    ``committed`` is called after the commit of a write transaction in which something was announced, with all that
    was announced there: to wake the processes that follow the database, and only when there is something for them.
    """

    def __init__(self, url: str, committed: Callable[[frozenset[str]], object] = lambda announced: None) -> None:
        self.url, self._committed = url, committed
        self.engine: Engine = create_engine(url, future=True)
        if self.engine.dialect.name == "sqlite":
            event.listen(self.engine, "connect", _set_up_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads.

        Raises StorageFull when the disk has no room for what even a reader writes (the index of the write-ahead log),
        and ArchipelError (code configuration) when the file is damaged or may not be opened.
        """
        with self._errors_named(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that may write: committed at the end of the block, rolled back when the block raises.

        Raises StorageFull and ArchipelError as ``read`` does; the database is then as it was before.
        """
        options = {_WRITE: True}
        with (
            self._errors_named(),
            self.engine.connect().execution_options(**options) as connection,
            connection.begin(),
        ):
            announced: set[str] = set()
            connection.info[_ANNOUNCED] = announced
            yield connection
        if announced:
            self._committed(frozenset(announced))

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        """What SQLite says of the disk, of the file and of who may open it, each in one sentence."""
        try:
            yield
        except (DatabaseError, sqlite3.DatabaseError) as error:
            # The first connection sets SQLite up, and what that raises comes without SQLAlchemy around it.
            raised = error.orig if isinstance(error, DatabaseError) else error
            code = getattr(raised, "sqlite_errorcode", 0)
            path = str(self.engine.url.database)
            if code in _NO_ROOM:
                remedy = "free space there; what was finished is kept"
                named: ArchipelError = StorageFull(
                    path, "the disk is full", remedy, values={"file": path}, command=FreeDiskSpace(path=path)
                )
            elif code & _PRIMARY in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
                named = _unusable(path, f"cannot be read: {raised}", "restore it from the backup")
            elif code & _PRIMARY in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY):
                remedy = "let the account that runs this command read and write the file and its folder"
                named = _unusable(path, f"cannot be opened: {raised}", remedy)
            else:
                raise
            raise named from error

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


def _unusable(path: str, cause: str, remedy: str) -> ArchipelError:
    return ArchipelError(Thing.file(path), cause, remedy, code=ErrorCode.CONFIGURATION)


def announce(connection: Connection, what: str) -> None:
    """Say in a write transaction that something happened of which other processes are to know after its commit."""
    connection.info[_ANNOUNCED].add(what)


def _set_up_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=15000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get(_WRITE)
    driver = connection.connection.dbapi_connection
    assert driver is not None
    # By the driver itself: SQLAlchemy needs longer for this statement than for the rest of a short transaction.
    driver.cursor().execute("BEGIN IMMEDIATE" if write else "BEGIN")
