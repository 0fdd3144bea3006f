"""A statement that is compiled once gives what SQLAlchemy gives, and refuses what it cannot."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Boolean, Column, Connection, Integer, MetaData, String, Table, bindparam, insert, select, update

from archipel.storage import Database, Statement

_ROWS = Table(
    "people",
    MetaData(),
    Column("number", Integer, primary_key=True),
    Column("name", String(20), nullable=False),
    Column("here", Boolean(create_constraint=False), nullable=False, server_default="0"),
)
_ADD = Statement(insert(_ROWS).returning(_ROWS.c.number))
_ALL = Statement(select(_ROWS).order_by(_ROWS.c.number))
_NAMED = Statement(select(_ROWS).where(_ROWS.c.name == bindparam("named"), _ROWS.c.number > 0).limit(1))
_MOVE = Statement(update(_ROWS).where(_ROWS.c.name == bindparam("named")))


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    database = Database(f"sqlite:///{tmp_path / 'rows.db'}")
    _ROWS.metadata.create_all(database.engine)
    with database.write() as connection:
        for name in ("Ada", "Grace"):
            _ADD.run(connection, {"name": name})
        yield connection
    database.close()


def test_rows_are_those_that_sqlalchemy_reads(connection: Connection) -> None:
    expected = [dict(row) for row in connection.execute(select(_ROWS).order_by(_ROWS.c.number)).mappings()]
    assert _ALL.rows(connection) == expected
    assert expected[0] == {"number": 1, "name": "Ada", "here": False}
    assert _ALL.rows(connection)[0]["here"] is False
    assert _NAMED.first(connection, {"named": "Grace"}) == expected[1]
    assert _NAMED.first(connection, {"named": "nobody"}) is None


def test_first_columns_come_one_by_one(connection: Connection) -> None:
    assert _ALL.scalars(connection) == [1, 2]
    assert next(_ALL.each(connection)) == 1
    assert _NAMED.scalar(connection, {"named": "Grace"}) == 2
    assert _NAMED.scalar(connection, {"named": "nobody"}) is None
    assert Statement(select(_ROWS.c.here)).scalars(connection) == [False, False]


def test_the_names_of_the_values_say_which_columns_are_set(connection: Connection) -> None:
    assert _ADD.scalar(connection, {"name": "Edith", "here": True}) == 3
    assert _MOVE.run(connection, {"named": "Ada", "here": True}) == 1
    assert _MOVE.run(connection, {"named": "Ada", "name": "Countess"}) == 1
    assert _MOVE.run(connection, {"named": "nobody", "here": True}) == 0
    assert [(row["name"], row["here"]) for row in _ALL.rows(connection)] == [
        ("Countess", True),
        ("Grace", False),
        ("Edith", True),
    ]


def test_a_value_that_is_missing_is_an_error(connection: Connection) -> None:
    with pytest.raises(KeyError, match="named"):
        _NAMED.first(connection, {})
    with pytest.raises(sqlite3.IntegrityError):
        _ADD.run(connection, {"here": True})


def test_what_needs_python_at_each_run_is_refused(connection: Connection) -> None:
    made_up = Table("made_up", MetaData(), Column("number", Integer, primary_key=True), Column("n", Integer, default=3))
    with pytest.raises(TypeError, match="default"):
        Statement(insert(made_up)).run(connection, {"number": 1})
    with pytest.raises(TypeError, match="list"):
        Statement(select(_ROWS).where(_ROWS.c.name.in_(["Ada"]))).rows(connection)
