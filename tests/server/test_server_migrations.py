"""The migrations and the tables say the same, and a database of another version is brought here or refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, select, text

from archipel.server.state import migrations
from archipel.server.state.schema import metadata
from archipel.storage import Database
from archipel.vocabulary import ArchipelError, ErrorCode


def database(folder: Path, name: str) -> Database:
    return Database(f"sqlite:///{folder / name}")


def columns(found: Database) -> dict[str, list[tuple]]:
    inspector = inspect(found.engine)
    return {
        table: [
            (c["name"], str(c["type"]), c["nullable"], bool(c["primary_key"])) for c in inspector.get_columns(table)
        ]
        for table in inspector.get_table_names()
        if table != "alembic_version"
    }


def test_the_migrated_schema_is_the_one_in_the_tables(tmp_path: Path) -> None:
    migrated, direct = database(tmp_path, "migrated.db"), database(tmp_path, "direct.db")
    migrations.upgrade(migrated)
    metadata.create_all(direct.engine)
    assert columns(migrated) == columns(direct)
    with migrated.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_the_newest_revision_is_the_one_the_code_names() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [migrations.NEWEST]


def test_a_database_of_the_first_schema_is_upgraded_with_its_rows(tmp_path: Path) -> None:
    found = database(tmp_path, "old.db")
    migrations.upgrade(found, "0001")
    with found.write() as connection:
        connection.execute(
            text("INSERT INTO sites VALUES ('berlin', 'ed25519:00', 'enrolled', '2026-11-21', NULL, '[]')")
        )
    migrations.upgrade(found)
    migrations.upgrade(found)
    with found.read() as connection:
        assert connection.execute(text("SELECT site FROM sites")).scalars().all() == ["berlin"]


def test_what_nobody_used_goes_and_the_rows_around_it_stay(tmp_path: Path) -> None:
    found = database(tmp_path, "old.db")
    migrations.upgrade(found, "0001")
    with found.write() as connection:
        values = "'heart', '{}', 'h', 'running', NULL, '{}', 'o', 't', 't', NULL, NULL"
        connection.execute(text(f"INSERT INTO experiments VALUES ({values})"))
        connection.execute(text("INSERT INTO approvals VALUES ('heart', 'berlin', 'approved', '{}', 7, NULL, 't')"))
        values = "'heart', 1, 1, 'train', '', 'berlin', '{}', '', 'offered', NULL, NULL, NULL, 5, 6, 't'"
        connection.execute(text(f"INSERT INTO updates VALUES ({values})"))
    migrations.upgrade(found)
    with found.read() as connection:
        (approval,) = connection.execute(select(metadata.tables["approvals"])).all()
        (update,) = connection.execute(select(metadata.tables["updates"])).all()
        assert connection.execute(text("PRAGMA foreign_key_check")).all() == []
    assert tuple(approval) == ("heart", "berlin", "approved", "{}", 7, "t")
    assert tuple(update)[6:] == ("{}", "offered", None, None, None, 5, 6, "t")


def test_a_database_of_a_newer_archipel_is_refused_and_left_alone(tmp_path: Path) -> None:
    found = database(tmp_path, "newer.db")
    migrations.upgrade(found)
    with found.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ArchipelError, match="newer Archipel") as refused:
        migrations.upgrade(found)
    assert refused.value.code is ErrorCode.CONFIGURATION
    with found.read() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "9999"
