"""An experiment's state and events in the database, each written inside the transaction of the change."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, insert, select, update

from archipel.server.state import ExperimentEnding, ExperimentTurned, ServerJournalKind, add_entry, schema
from archipel.storage import Statement, utc_now
from archipel.transport.rest import Ending, EventBody, EventKind, SitesAwaited, StateChanged
from archipel.vocabulary import Actor
from archipel.vocabulary.states import ExperimentState

_ADD_EVENT = Statement(insert(schema.events))
_NEWEST_OF_KIND = Statement(
    select(schema.events.c.body)
    .where(schema.events.c.experiment == bindparam("named"), schema.events.c.kind == bindparam("kind_named"))
    .order_by(schema.events.c.seq.desc())
    .limit(1)
)
"""Both composed once: this costs more than to execute them."""


def add_event(connection: Connection, experiment: str, body: EventBody) -> None:
    """Something that a researcher watches for."""
    values = {"experiment": experiment, "at": utc_now(), "kind": body.event.value, "body": body.model_dump_json()}
    _ADD_EVENT.run(connection, values)


def newest_awaited(connection: Connection, experiment: str) -> SitesAwaited:
    """Whom the experiment waits for, by the newest event that says so; a server that crashed may have left it."""
    body = _NEWEST_OF_KIND.scalar(connection, {"named": experiment, "kind_named": EventKind.SITES_AWAITED})
    return SitesAwaited() if body is None else SitesAwaited.model_validate_json(body)


def ending_of(connection: Connection, experiment: str) -> str | None:
    """Why no further round of the experiment begins; None for one that continues to its last."""
    table = schema.events
    found = select(table.c.body).where(table.c.experiment == experiment, table.c.kind == EventKind.ENDING)
    body = connection.scalar(found.order_by(table.c.seq).limit(1))
    return None if body is None else Ending.model_validate_json(body).reason


def end_early(connection: Connection, experiment: str, reason: str, *, by: Actor | None) -> None:
    """Journal and keep that no further round begins; the first reason stays."""
    if ending_of(connection, experiment) is not None:
        return
    entry = ExperimentEnding(experiment=experiment, reason=reason, by=by.journal_name if by else None)
    add_entry(connection, ServerJournalKind.EXPERIMENT_ENDING, entry)
    table = schema.experiments
    connection.execute(update(table).where(table.c.experiment == experiment).values(reason=reason))
    add_event(connection, experiment, Ending(reason=reason))


def set_state(
    connection: Connection, experiment: str, state: ExperimentState, reason: str | None, *, by: Actor | None
) -> None:
    """Journal and keep an experiment's new state; ``by`` is None when nobody asked for it."""
    table = schema.experiments
    turned = ExperimentTurned(experiment=experiment, state=state, reason=reason, by=by.journal_name if by else None)
    add_entry(connection, ServerJournalKind.of_experiment(state), turned)
    values: dict[str, str | None] = {"state": state, "reason": reason}
    row = connection.execute(select(table).where(table.c.experiment == experiment)).mappings().one()
    if state is ExperimentState.RUNNING and row["started_at"] is None:
        values["started_at"] = utc_now()
    if state.is_over:
        values["ended_at"] = utc_now()
    connection.execute(update(table).where(table.c.experiment == experiment).values(**values))
    add_event(connection, experiment, StateChanged(state=state, reason=reason))
