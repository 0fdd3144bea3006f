"""Statements that a running federation executes again and again: compiled once, and then given to the driver itself.

SQLAlchemy spends some 80 microseconds of Python on a statement that SQLite answers in three, and a round of a small
model has hundreds of them. What is asked now and then is given to SQLAlchemy's connection as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from typing import Any, NamedTuple

from sqlalchemy import Connection, Dialect
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.selectable import Select

Values = Mapping[str, object]
"""What is given to a statement, by the names of its columns and places."""
# A column's type is what the schema says; who reads a row knows it.
Row = dict[str, Any]
"""A row by the names of its columns."""
_NONE: Values = {}


class _Compiled(NamedTuple):
    """A statement as the driver takes it: its text, the names of its places in order, and the values that it has."""

    text: str
    places: tuple[str, ...]
    known: Values
    columns: tuple[str, ...]
    readers: tuple[tuple[str, Callable[[Any], Any]], ...]

    def values(self, given: Values) -> tuple[object, ...]:
        known = self.known
        return tuple([given[place] if place in given else known[place] for place in self.places])

    def row(self, found: Sequence[Any]) -> Row:
        row = dict(zip(self.columns, found, strict=True))
        for name, read in self.readers:
            row[name] = read(row[name])
        return row


class Statement:
    """A select, insert, update or delete, composed once, whose values are given when it is run.

    For an insert or update these are the columns that are set and the values of its ``bindparam``. Every method runs it
    in the caller's transaction, and raises KeyError for a value that is missing and what the driver raises.
    """

    def __init__(self, statement: Select[Any] | UpdateBase) -> None:
        self._statement = statement
        self._compiled: dict[tuple[str, ...], _Compiled] = {}

    def rows(self, connection: Connection, values: Values = _NONE) -> list[Row]:
        """All rows."""
        compiled = self._of(connection, values)
        return [compiled.row(found) for found in _cursor(connection, compiled, values).fetchall()]

    def first(self, connection: Connection, values: Values = _NONE) -> Row | None:
        """The first row, None when there is none."""
        compiled = self._of(connection, values)
        with closing(_cursor(connection, compiled, values)) as cursor:
            found = cursor.fetchone()
        return None if found is None else compiled.row(found)

    def scalar(self, connection: Connection, values: Values = _NONE) -> Any:
        """The first column of the first row, None when there is none."""
        row = self.first(connection, values)
        return None if row is None else next(iter(row.values()))

    def scalars(self, connection: Connection, values: Values = _NONE) -> list[Any]:
        """The first column of every row."""
        return list(self.each(connection, values))

    def each(self, connection: Connection, values: Values = _NONE) -> Generator[Any, None, None]:
        """The same one by one: what is not asked for is not read."""
        compiled = self._of(connection, values)
        first, *_ = compiled.columns
        read = dict(compiled.readers).get(first, _as_it_is)
        with closing(_cursor(connection, compiled, values)) as cursor:
            for found in cursor:
                yield read(found[0])

    def run(self, connection: Connection, values: Values = _NONE) -> int:
        """Change what it says; how many rows were changed."""
        return int(_cursor(connection, self._of(connection, values), values).rowcount)

    def _of(self, connection: Connection, values: Values) -> _Compiled:
        # Of an insert or update the names of the values say which columns are set.
        names = tuple(values) if isinstance(self._statement, UpdateBase) else ()
        compiled = self._compiled.get(names)
        if compiled is None:
            compiled = self._compiled[names] = _compile(self._statement, connection.dialect, names)
        return compiled


def _compile(statement: Select[Any] | UpdateBase, dialect: Dialect, names: Sequence[str]) -> _Compiled:
    compiled = statement.compile(dialect=dialect, column_keys=names)
    assert isinstance(compiled, SQLCompiler)
    if compiled.insert_prefetch or compiled.update_prefetch:
        raise TypeError("a column's default in Python is not taken here")
    if compiled.post_compile_params:
        raise TypeError("a list of values in a statement is not taken here: compare with each")
    columns = list(statement.exported_columns)
    readers = []
    for column in columns:
        read = column.type.dialect_impl(dialect).result_processor(dialect, None)
        if read is not None:
            readers.append((str(column.key), read))
    return _Compiled(
        text=compiled.string,
        places=tuple(compiled.positiontup or ()),
        known={name: value for name, value in compiled.params.items() if name not in _required(compiled)},
        columns=tuple(str(column.key) for column in columns),
        readers=tuple(readers),
    )


def _as_it_is(value: object) -> object:
    return value


def _required(compiled: SQLCompiler) -> frozenset[str]:
    """The places that have no value of their own."""
    return frozenset(name for name, bind in compiled.binds.items() if bind.required)


def _cursor(connection: Connection, compiled: _Compiled, values: Values) -> Any:
    driver = connection.connection.dbapi_connection
    assert driver is not None
    cursor = driver.cursor()
    cursor.execute(compiled.text, compiled.values(values))
    return cursor
