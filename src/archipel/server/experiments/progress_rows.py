"""How far an experiment is, read from its rows: where a loop that is started again continues."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import BindParameter, Connection, bindparam, func, or_, select

from archipel.rounds import ExperimentProgress, Opened, Stage
from archipel.rounds.named_models import BEST, MEMORY
from archipel.server.experiments.attempt_rows import PLACE, stage_of
from archipel.server.experiments.states import ending_of
from archipel.server.state import schema
from archipel.storage import Row, Statement
from archipel.transport.rest import EventKind
from archipel.vocabulary import Failure, Job, Task, TaskKind, Update
from archipel.vocabulary.states import ApprovalState, ExperimentState, ParticipantStatus, RoundState, TaskState

_STATES = {
    TaskState.OFFERED: ParticipantStatus.INVITED,
    TaskState.RECEIVED: ParticipantStatus.DELIVERED,
    TaskState.FAILED: ParticipantStatus.FAILED,
}
_LOCAL = "local:"


_experiments, _rounds, _models, _approvals = schema.experiments, schema.rounds, schema.models, schema.approvals
_NAMED: BindParameter[str] = bindparam("named")
# Composed once: this costs more than to execute them, and each round reads its experiment's progress.
_EXPERIMENT = Statement(select(_experiments).where(_experiments.c.experiment == _NAMED))
_LAST = Statement(
    select(func.max(_rounds.c.round)).where(
        _rounds.c.experiment == _NAMED, _rounds.c.kind == TaskKind.TRAIN, _rounds.c.state == RoundState.COMMITTED
    )
)
_RECENT = Statement(
    select(_rounds).where(
        _rounds.c.experiment == _NAMED,
        or_(_rounds.c.round > bindparam("done"), _rounds.c.kind != TaskKind.TRAIN, _rounds.c.state == RoundState.OPEN),
    )
)
_MODELS = Statement(select(_models.c.name, _models.c.hash, _models.c.round).where(_models.c.experiment == _NAMED))
_INVITED = Statement(
    select(_approvals.c.site).where(_approvals.c.experiment == _NAMED, _approvals.c.state == ApprovalState.APPROVED)
)
_TURN_KINDS = (EventKind.ROUND_FAILED, EventKind.ROUND_COMMITTED, EventKind.STATE, EventKind.ENDING)
_TURNS = Statement(
    select(schema.events.c.kind)
    .where(
        schema.events.c.experiment == _NAMED,
        or_(*(schema.events.c.kind == kind for kind in _TURN_KINDS)),
    )
    .order_by(schema.events.c.seq.desc())
    .limit(bindparam("most"))
)


def invited_to(connection: Connection, experiment: str) -> tuple[str, ...]:
    """The sites that have approved an experiment."""
    return tuple(sorted(_INVITED.each(connection, {"named": experiment})))


def read_progress(connection: Connection, job: Job, spool: Path) -> ExperimentProgress:
    """How far the experiment of this job is; ``spool`` is the folder that received updates are in."""
    name = job.experiment
    named = {"named": name}
    (experiment,) = _EXPERIMENT.rows(connection, named)
    rounds_done = _LAST.scalar(connection, named) or 0
    rounds = _RECENT.rows(connection, {**named, "done": rounds_done})
    rows = _MODELS.rows(connection, named)
    models = {row["name"]: row["hash"] for row in rows}
    is_running = experiment["state"] == ExperimentState.RUNNING
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
        invited=invited_to(connection, name),
        opened=None if opened is None else _reopened(connection, opened, spool, job.terms.grace_s),
        pause_after=experiment["pause_after"],
        tries=_tries(connection, job),
        memory={label.removeprefix(MEMORY): blob for label, blob in models.items() if label.startswith(MEMORY)},
        # One that runs and ends early has its reason; a search through all events at every step would be long.
        ending=None if is_running and experiment["reason"] is None else ending_of(connection, name),
        best_round=next((row["round"] for row in rows if row["name"] == BEST), None),
    )


def _tries(connection: Connection, job: Job) -> int:
    """How many attempts failed since the last that did not and since the experiment's state last changed.

    More than the job's retries need not be counted.
    """
    newest = _TURNS.scalars(connection, {"named": job.experiment, "most": job.terms.retries + 1})
    return next((number for number, kind in enumerate(newest) if kind != EventKind.ROUND_FAILED), len(newest))


def _reopened(connection: Connection, row: Row, spool: Path, grace_s: float) -> Opened:
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
