"""Which rows are about one experiment, and about one attempt at an exchange of it."""

from __future__ import annotations

from sqlalchemy import ColumnElement, RowMapping, Select, Table, and_, select

from archipel.rounds import Stage
from archipel.transport.rest.events import Place, place_of
from archipel.vocabulary import TaskKey, TaskKind

PLACE = tuple(Place.__annotations__)
"""The columns that name an attempt in every table."""


def of_experiment(table: Table, experiment: str) -> Select[tuple[object, ...]]:
    """The rows of a table that are about one experiment."""
    return select(table).where(table.c.experiment == experiment)


def at_place(table: Table, key: TaskKey) -> ColumnElement[bool]:
    """The rows of a table that are about the attempt at an exchange which this key names."""
    return and_(*(table.c[name] == value for name, value in place_of(key).items()))


def stage_of(row: RowMapping) -> Stage:
    """The stage that a row is about."""
    return Stage(kind=TaskKind(row["kind"]), round=row["round"], about=row["about"])
