"""Which rows are about one experiment, and about one attempt at an exchange of it."""

from __future__ import annotations

from sqlalchemy import ColumnElement, RowMapping, Select, Table, and_, bindparam, select, update

from archipel.rounds import Stage
from archipel.server.state import schema
from archipel.storage import Row, Statement
from archipel.transport.rest.events import Place, place_of
from archipel.vocabulary import TaskKey, TaskKind

PLACE = tuple(Place.__annotations__)
"""The columns that name an attempt in every table."""


def of_experiment(table: Table, experiment: str) -> Select[tuple[object, ...]]:
    """The rows of a table that are about one experiment."""
    return select(table).where(table.c.experiment == experiment)


def _at_place(table: Table) -> ColumnElement[bool]:
    return and_(*(table.c[name] == bindparam(f"at_{name}") for name in PLACE))


def round_place(key: TaskKey) -> dict[str, object]:
    """The parameters of ``UPDATE_ROUND`` that name the attempt at an exchange."""
    return {f"at_{name}": value for name, value in place_of(key).items()}


def site_place(key: TaskKey, site: str) -> dict[str, object]:
    """The parameters of ``UPDATE_SITE`` and ``SITE_ROW`` that name a site's part in an attempt at an exchange."""
    return {**round_place(key), "at_site": site}


UPDATE_ROUND = Statement(update(schema.rounds).where(_at_place(schema.rounds)))
"""Changes the row of an attempt. Composed once, like all statements of a round: this costs more than to execute it."""
_MINE = and_(_at_place(schema.updates), schema.updates.c.site == bindparam("at_site"))
UPDATE_SITE = Statement(update(schema.updates).where(_MINE))
"""Changes the row of a site's part in an attempt."""
SITE_ROW = Statement(
    select(schema.updates, schema.rounds.c.state.label("round_state"))
    .join(schema.rounds, and_(*(schema.rounds.c[name] == schema.updates.c[name] for name in PLACE)))
    .where(_MINE)
)
"""The row of a site's part in an attempt, with the state of the attempt."""


def stage_of(row: Row | RowMapping) -> Stage:
    """The stage that a row is about."""
    return Stage(kind=TaskKind(row["kind"]), round=row["round"], about=row["about"])
