"""Figures of this server for monitoring: how many sites and experiments, and how the rounds of each experiment went.

They are counted from the database when they are asked for, so that a restart resets no counter.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, or_, select

from archipel.server.experiments.states import newest_awaited
from archipel.server.state import schema
from archipel.storage import Database
from archipel.vocabulary import TaskKind
from archipel.vocabulary.states import ExperimentState, RoundState, TaskState

KEPT = timedelta(days=1)
"""How long the figures of an experiment that is over are still given."""


@dataclass(frozen=True)
class Figure:
    """One metric: its values by the values of its labels, in the order of ``labels``; a counter only ever grows."""

    name: str
    meaning: str
    is_counter: bool
    labels: tuple[str, ...]
    values: Sequence[tuple[tuple[str, ...], float]]


def figures(database: Database, sites: Collection[str], connected: Collection[str], now: datetime) -> list[Figure]:
    """Every figure as of ``now``, which has a time zone; ``connected`` are those of the ``sites`` that are."""
    with database.read() as connection:
        shown = _shown(connection, now)
        return [
            Figure(
                "archipel_site_connected", "Whether an enrolled site is connected now.", False, ("site",),
                [((site,), site in connected) for site in sorted(sites)],
            ),
            _states(connection),
            Figure(
                "archipel_sites_awaited", "Sites that a running experiment waits for because they are not connected.",
                False, ("experiment",),
                [((name,), len(newest_awaited(connection, name).until)) for name, state in shown if state == _RUNNING],
            ),
            *_of_attempts(connection, [name for name, _ in shown]),
            _of_sites(connection, [name for name, _ in shown]),
        ]  # fmt: skip


_RUNNING = ExperimentState.RUNNING
_ENDED = (RoundState.COMMITTED, RoundState.FAILED)


def _shown(connection: Connection, now: datetime) -> list[tuple[str, str]]:
    """The experiments that are not over, or have not been for long, with their states."""
    table = schema.experiments
    since = (now - KEPT).isoformat(timespec="microseconds")
    lately = or_(table.c.ended_at.is_(None), table.c.ended_at > since)
    rows = connection.execute(select(table.c.experiment, table.c.state).where(lately).order_by(table.c.experiment))
    return [(name, state) for name, state in rows]


def _states(connection: Connection) -> Figure:
    table = schema.experiments
    rows = connection.execute(select(table.c.state, func.count()).group_by(table.c.state))
    counted = {row[0]: row[1] for row in rows}
    values = [((state.value,), counted.get(state.value, 0)) for state in ExperimentState]
    return Figure("archipel_experiments", "Experiments by their state.", False, ("state",), values)


def _of_attempts(connection: Connection, names: Collection[str]) -> list[Figure]:
    table = schema.rounds
    place, seconds = (table.c.experiment, table.c.kind, table.c.state), func.coalesce(func.sum(table.c.seconds), 0.0)
    query = (
        select(*place, func.count(), seconds)
        .where(table.c.experiment.in_(names), table.c.state.in_(_ENDED))
        .group_by(*place)
        .order_by(*place)
    )
    rows = [(tuple(row[:3]), row[3], row[4]) for row in connection.execute(query)]
    trained = [((at[0],), count) for at, count, _ in rows if at[1:] == (TaskKind.TRAIN, RoundState.COMMITTED)]
    labels = ("experiment", "kind", "state")
    return [
        Figure("archipel_rounds_total", "Rounds of training that count.", True, ("experiment",), trained),
        Figure(
            "archipel_attempts_total", "Closed attempts at rounds and at the stages after them.", True, labels,
            [(at, count) for at, count, _ in rows],
        ),
        Figure(
            "archipel_attempt_seconds_total", "How long these attempts took, together.", True, labels,
            [(at, spent) for at, _, spent in rows],
        ),
    ]  # fmt: skip


def _of_sites(connection: Connection, names: Collection[str]) -> Figure:
    table = schema.updates
    query = (
        select(table.c.experiment, table.c.site, table.c.state, func.count())
        .where(table.c.experiment.in_(names), table.c.state != TaskState.OFFERED)
        .group_by(table.c.experiment, table.c.site, table.c.state)
        .order_by(table.c.experiment, table.c.site, table.c.state)
    )
    return Figure(
        "archipel_tasks_total", "Tasks of sites by how they ended: received, failed, late or missing.", True,
        ("experiment", "site", "state"), [(tuple(row[:3]), row[3]) for row in connection.execute(query)],
    )  # fmt: skip
