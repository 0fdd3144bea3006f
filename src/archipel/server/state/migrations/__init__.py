"""The schema's history as Alembic migrations; ``upgrade`` brings a database of any earlier version to this one."""

from __future__ import annotations

from pathlib import Path

from archipel.storage import Database
from archipel.vocabulary import ArchipelError, ErrorCode

NEWEST = "0002"
"""The revision of this version's schema, the one that ``archipel.server.state.schema`` describes."""


def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the database to the newest schema, in one transaction.

    Raises ArchipelError (code configuration) when a newer Archipel wrote it.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.migration import MigrationContext
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    with database.read() as connection:
        if revision == "head" and MigrationContext.configure(connection).get_current_revision() == NEWEST:
            return
    with database.write() as connection:
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, revision)
        except CommandError as error:
            raise ArchipelError(
                database.engine.url.render_as_string(hide_password=True),
                f"cannot be brought to this version ({error})",
                "run the newer Archipel that wrote it, or restore the backup",
                code=ErrorCode.CONFIGURATION,
            ) from error
