"""Which models a task must start from, as far as this site knows: by the tasks that it took on, and by its journal."""

from __future__ import annotations

import json
from contextlib import closing

from pydantic import ValidationError
from sqlalchemy import Connection, func, or_, select

from archipel.site.audit import RoundSettled
from archipel.site.state import SiteJournalKind, schema
from archipel.tasks import check_starting_models, round_before
from archipel.vocabulary import ErrorCode, Hash, Task, TaskKind

_tasks, _journal = schema.tasks, schema.journal


def check_models(connection: Connection, task: Task) -> None:
    """Raise Conflict (code not-approved) unless the task names the models that its stage starts from here."""
    before = round_before(task.key)
    made = None if before is None else _made(connection, task, before)
    check_starting_models(task, _first(connection, task), made)


def _first(connection: Connection, task: Task) -> tuple[Hash, ...] | None:
    """The models of the first other attempt at the task's stage, under the same job, that was not refused."""
    key = task.key
    # One whose update was made counts whatever was answered to it since.
    made = _tasks.c["update"].is_not(None)
    taken_on = or_(
        made, _tasks.c.failure.is_(None), func.json_extract(_tasks.c.failure, "$.code") != ErrorCode.NOT_APPROVED
    )
    query = (
        select(_tasks.c.task)
        .where(
            _tasks.c.experiment == key.experiment,
            _tasks.c.round == key.round,
            _tasks.c.kind == key.kind,
            _tasks.c.about == key.about,
            _tasks.c.attempt != key.attempt,
            taken_on,
            func.json_extract(_tasks.c.task, "$.job_hash") == task.job_hash,
        )
        .order_by(_tasks.c.accepted_at, _tasks.c.attempt)
        .limit(1)
    )
    found = connection.scalar(query)
    return None if found is None else Task.model_validate_json(found).models


def _made(connection: Connection, task: Task, before: int) -> Hash | None:
    """The model that round ``before`` made, by the last committed result of it in the journal."""
    experiment = task.key.experiment
    settled = select(_tasks.c.attempt).where(
        _tasks.c.experiment == experiment,
        _tasks.c.round == before,
        _tasks.c.kind == TaskKind.TRAIN,
        _tasks.c.closed_at.is_not(None),
    )
    if connection.execute(settled.limit(1)).first() is None:
        # Spares reading the journal to its first line for a result that it cannot have.
        return None
    lines = (
        select(_journal.c.body)
        .where(
            _journal.c.kind == SiteJournalKind.ROUND_CLOSED,
            _journal.c.body.contains(json.dumps(experiment), autoescape=True),
        )
        .order_by(_journal.c.number.desc())
    )
    with closing(connection.scalars(lines)) as bodies:
        for text in bodies:
            try:
                closed = RoundSettled.model_validate_json(text)
            except ValidationError:
                # A damaged line is reported by `journal verify`; it says nothing here.
                continue
            of_round = (closed.experiment, closed.kind, closed.round) == (experiment, TaskKind.TRAIN, before)
            if of_round and closed.committed and closed.job_hash == task.job_hash:
                return closed.model
    return None
