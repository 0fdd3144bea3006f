"""How far an experiment is, read from its rows: where a loop that is started again continues."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, RowMapping, func, or_, select

from archipel.rounds import ExperimentProgress, Opened, Stage
from archipel.rounds.named_models import BEST, MEMORY
from archipel.server.experiments.attempt_rows import PLACE, of_experiment, stage_of
from archipel.server.experiments.states import ending_of
from archipel.server.state import schema
from archipel.transport.rest import EventKind
from archipel.vocabulary import Failure, Job, Task, TaskKind, Update
from archipel.vocabulary.states import ApprovalState, ExperimentState, ParticipantStatus, RoundState, TaskState

_STATES = {
    TaskState.OFFERED: ParticipantStatus.INVITED,
    TaskState.RECEIVED: ParticipantStatus.DELIVERED,
    TaskState.FAILED: ParticipantStatus.FAILED,
}
_LOCAL = "local:"


def read_progress(connection: Connection, job: Job, spool: Path) -> ExperimentProgress:
    """How far the experiment of this job is; ``spool`` is the folder that received updates are in."""
    name, table = job.experiment, schema.rounds
    experiment = connection.execute(of_experiment(schema.experiments, name)).mappings().one()
    trained = (table.c.kind == TaskKind.TRAIN, table.c.state == RoundState.COMMITTED)
    last = select(func.max(table.c.round)).where(table.c.experiment == name, *trained)
    rounds_done = connection.scalar(last) or 0
    recent = or_(table.c.round > rounds_done, table.c.kind != TaskKind.TRAIN, table.c.state == RoundState.OPEN)
    rounds = connection.execute(of_experiment(table, name).where(recent)).mappings().all()
    models = {row["name"]: row["hash"] for row in connection.execute(of_experiment(schema.models, name)).mappings()}
    approved = select(schema.approvals.c.site).where(
        schema.approvals.c.experiment == name, schema.approvals.c.state == ApprovalState.APPROVED
    )
    is_running = experiment["state"] == ExperimentState.RUNNING
    best = select(schema.models.c.round).where(schema.models.c.experiment == name, schema.models.c.name == BEST)
    attempts: dict[Stage, int] = {}
    for row in rounds:
        attempts[stage_of(row)] = max(attempts.get(stage_of(row), 0), row["attempt"])
    opened = next((row for row in rounds if row["state"] == RoundState.OPEN), None)
    return ExperimentProgress(
        state=ExperimentState(experiment["state"]),
        rounds_done=rounds_done,
        done=frozenset(stage_of(row) for row in rounds if row["state"] == RoundState.COMMITTED),
        attempts=attempts,
        model=models.get("last", job.initial_model),
        local_models={label.removeprefix(_LOCAL): model for label, model in models.items() if label.startswith(_LOCAL)},
        arguments=json.loads(experiment["arguments"]),
        invited=tuple(sorted(connection.scalars(approved))),
        opened=None if opened is None else _reopened(connection, opened, spool, job.terms.grace_s),
        pause_after=experiment["pause_after"],
        tries=_tries(connection, job),
        memory={label.removeprefix(MEMORY): blob for label, blob in models.items() if label.startswith(MEMORY)},
        # One that runs and ends early has its reason; a search through all events at every step would be long.
        ending=None if is_running and experiment["reason"] is None else ending_of(connection, name),
        best_round=connection.scalar(best),
    )


def _tries(connection: Connection, job: Job) -> int:
    """How many attempts failed since the last that did not and since the experiment's state last changed.

    More than the job's retries need not be counted.
    """
    table, kinds = schema.events, (EventKind.ROUND_FAILED, EventKind.ROUND_COMMITTED, EventKind.STATE, EventKind.ENDING)
    query = select(table.c.kind).where(table.c.experiment == job.experiment, table.c.kind.in_(kinds))
    newest = connection.scalars(query.order_by(table.c.seq.desc()).limit(job.terms.retries + 1)).all()
    return next((number for number, kind in enumerate(newest) if kind != EventKind.ROUND_FAILED), len(newest))


def _reopened(connection: Connection, row: RowMapping, spool: Path, grace_s: float) -> Opened:
    """An open round as it was left; the server's own absence does not count against its sites."""
    at_attempt = (schema.updates.c[name] == row[name] for name in PLACE)
    tasks = connection.execute(select(schema.updates).where(*at_attempt)).mappings().all()
    left = datetime.fromisoformat(row["deadline_at"]) - datetime.now(UTC)
    received = [task for task in tasks if task["state"] == TaskState.RECEIVED]
    return Opened(
        stage=stage_of(row),
        attempt=row["attempt"],
        task=Task.model_validate_json(tasks[0]["task"]),
        sites={task["site"]: _STATES.get(TaskState(task["state"]), ParticipantStatus.INVITED) for task in tasks},
        remaining_s=max(left.total_seconds(), grace_s),
        updates={task["site"]: Update.model_validate_json(task["update"]) for task in received},
        tensor_files={task["site"]: spool / task["spool"] for task in received if task["spool"]},
        failures={task["site"]: Failure.model_validate_json(task["failure"]) for task in tasks if task["failure"]},
    )
