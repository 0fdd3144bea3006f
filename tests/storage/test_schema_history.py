"""A database goes from one schema to the next with its rows, or stays as it was; an unknown schema is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import inspect, text
from sqlalchemy.exc import IntegrityError

from archipel.storage import Database
from archipel.storage.migrations import SchemaHistory, upgrade
from archipel.vocabulary import ArchipelError, ErrorCode

HISTORY = SchemaHistory(Path(__file__).parent / "two_schemas", newest="second")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A database of the first schema with two readings."""
    opened = Database(f"sqlite:///{tmp_path / '100 % of it.db'}")
    upgrade(opened, HISTORY, "first")
    with opened.write() as connection:
        connection.execute(text("INSERT INTO readings VALUES ('morning', 20), ('noon', 24)"))
    yield opened
    opened.close()


def _content(database: Database) -> tuple[str | None, list[str], list[tuple[object, ...]]]:
    with database.read() as connection:
        columns = [column["name"] for column in inspect(connection).get_columns("readings")]
        rows = [tuple(row) for row in connection.execute(text("SELECT * FROM readings ORDER BY name"))]
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar(), columns, rows


def test_a_database_of_the_first_schema_becomes_one_of_the_second_with_its_rows(database: Database) -> None:
    upgrade(database, HISTORY)
    assert _content(database) == ("second", ["name", "kelvin"], [("morning", 293.0), ("noon", 297.0)])


def test_an_empty_database_gets_the_newest_schema(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'new.db'}")
    upgrade(database, HISTORY)
    assert _content(database) == ("second", ["name", "kelvin"], [])
    database.close()


def test_a_step_that_fails_in_the_middle_leaves_the_database_as_it_was(database: Database) -> None:
    with database.write() as connection:
        connection.execute(text("INSERT INTO readings VALUES ('evening', 20)"))
    before = _content(database)
    with pytest.raises(IntegrityError, match="kelvin"):
        upgrade(database, HISTORY)
    assert _content(database) == before == ("first", ["name", "celsius"], before[2])
    with database.write() as connection:
        connection.execute(text("DELETE FROM readings WHERE name = 'evening'"))
    upgrade(database, HISTORY)
    assert _content(database)[0] == "second"


@pytest.mark.parametrize("revision", ["0007", "third"])
def test_a_schema_of_an_older_or_a_newer_version_is_refused_and_left_alone(database: Database, revision: str) -> None:
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
    before = _content(database)
    with pytest.raises(ArchipelError) as refused:
        upgrade(database, HISTORY)
    assert str(refused.value) == (
        f"{database.engine.url.database}: has schema '{revision}', which this version of Archipel does not know; "
        "open it with the version of Archipel that made it, or start over in a new state folder"
    )
    assert refused.value.code is ErrorCode.CONFIGURATION
    assert _content(database) == before


@pytest.mark.parametrize("marked", ["DROP TABLE alembic_version", "DELETE FROM alembic_version"])
@pytest.mark.parametrize("foreign", ["", "ALTER TABLE readings RENAME TO patients"], ids=["own", "of another program"])
def test_tables_that_nobody_says_the_schema_of_are_refused_and_left_alone(
    database: Database, marked: str, foreign: str
) -> None:
    with database.write() as connection:
        for statement in filter(None, (marked, foreign)):
            connection.execute(text(statement))
        before = inspect(connection).get_table_names()
    with pytest.raises(ArchipelError, match="has tables without a schema's name") as refused:
        upgrade(database, HISTORY)
    assert refused.value.code is ErrorCode.CONFIGURATION
    with database.read() as connection:
        assert inspect(connection).get_table_names() == before


@pytest.mark.processes
def test_a_database_of_the_newest_schema_opens_without_alembic(database: Database) -> None:
    upgrade(database, HISTORY)
    program = f"""
import sys
from pathlib import Path
from archipel.storage import Database
from archipel.storage.migrations import SchemaHistory, upgrade
upgrade(Database({database.url!r}), SchemaHistory(Path({str(HISTORY.revisions)!r}), "second"))
print("alembic" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
