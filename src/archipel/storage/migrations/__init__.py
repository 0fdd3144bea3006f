"""How a database of an older schema becomes one of this version's: Alembic, in one transaction.

A package with a database keeps a folder of Alembic revisions, one file per schema, and declares it as a
``SchemaHistory``. Alembic itself is imported only when there is something to do: a database of the newest schema opens
without it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Column, MetaData, String, Table, inspect, select
from sqlalchemy.exc import OperationalError

from archipel.storage.database import Database
from archipel.vocabulary import ArchipelError, ErrorCode

_version = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))


@dataclass(frozen=True)
class SchemaHistory:
    """The schemas that one database had: ``revisions`` is the folder of their files, ``newest`` the last one's name."""

    revisions: Path
    newest: str


def upgrade(
    database: Database, history: SchemaHistory, revision: str | None = None, *, made_before: bool = False
) -> None:
    """Bring the database to the newest schema (or to ``revision``), whole or not at all.

    Raises ArchipelError (code configuration) when the database has a schema that ``history`` does not hold: an older
    or a newer version of Archipel made it, or another program; when its file is not a database; and, for one that was
    ``made_before``, when it has no tables. Its content is then as it was before.
    """
    target = revision or history.newest
    with _other_form_named(database), database.read() as connection:
        marked = inspect(connection).has_table(_version.name)
        current = connection.execute(select(_version.c.version_num)).scalar() if marked else None
        tables = inspect(connection).get_table_names() if current is None else []
    if current == target:
        return
    if made_before and not marked and not tables:
        raise _refused(database, "has lost its content: there is no table in it", "restore it from the backup")
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    # Alembic expands % in its options.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("version_locations", str(history.revisions).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if current not in known and (current is not None or set(tables) - {_version.name}):
        schema = "tables without a schema's name" if current is None else f"schema {current!r}"
        raise _unknown(database, schema)
    with database.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, target)


@contextmanager
def _other_form_named(database: Database) -> Iterator[None]:
    """A table of schemas that has other columns was made by another program."""
    try:
        yield
    except OperationalError as error:
        if getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR:
            raise _unknown(database, f"a table {_version.name} of another form") from error
        raise


def _unknown(database: Database, schema: str) -> ArchipelError:
    return _refused(
        database,
        f"has {schema}, which this version of Archipel does not know",
        "open it with the version of Archipel that made it, or start over in a new state folder",
    )


def _refused(database: Database, cause: str, remedy: str) -> ArchipelError:
    return ArchipelError(str(database.engine.url.database), cause, remedy, code=ErrorCode.CONFIGURATION)
