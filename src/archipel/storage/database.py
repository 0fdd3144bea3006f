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
from sqlalchemy.exc import OperationalError

from archipel.vocabulary import StorageFull
from archipel.vocabulary.remedies import FreeDiskSpace

_WRITE = "archipel_write"
_ANNOUNCED = "archipel_announced"
_NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)
"""What SQLite says of a full disk: in general, and when the write-ahead log's index finds no room."""


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

        Raises StorageFull when the disk has no room for what even a reader writes: the index of the write-ahead log.
        """
        with self._full_disk_named(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that may write: committed at the end of the block, rolled back when the block raises.

        Raises StorageFull when the disk has no room; the database is then as it was before.
        """
        options = {_WRITE: True}
        with (
            self._full_disk_named(),
            self.engine.connect().execution_options(**options) as connection,
            connection.begin(),
        ):
            announced: set[str] = set()
            connection.info[_ANNOUNCED] = announced
            yield connection
        if announced:
            self._committed(frozenset(announced))

    @contextmanager
    def _full_disk_named(self) -> Iterator[None]:
        try:
            yield
        except OperationalError as error:
            if getattr(error.orig, "sqlite_errorcode", None) in _NO_ROOM:
                path = str(self.engine.url.database)
                raise StorageFull(
                    path,
                    "the disk is full",
                    "free space there; what was finished is kept",
                    values={"file": path},
                    command=FreeDiskSpace(path=path),
                ) from error
            raise

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


def announce(connection: Connection, what: str) -> None:
    """Say in a write transaction that something happened of which other processes are to know after its commit."""
    connection.info[_ANNOUNCED].add(what)


def _set_up_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=15000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get(_WRITE)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
