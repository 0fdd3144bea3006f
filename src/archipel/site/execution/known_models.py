"""Which models a task must start from, and how far its experiment is, as far as this site knows: by the tasks that it
took on, and by its journal.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import lru_cache

from pydantic import ValidationError
from sqlalchemy import Connection, bindparam, func, or_, select

from archipel.site.audit import RoundSettled
from archipel.site.state import SiteJournalKind, schema
from archipel.storage import Statement
from archipel.tasks import KnownRounds, check_between_rounds, check_starting_models, ends_experiment, round_before
from archipel.vocabulary import ErrorCode, Hash, Job, RoundClosed, Task, TaskKey, TaskKind

_tasks, _journal, _experiments = schema.tasks, schema.journal, schema.experiments

_TAKEN_ON = (
    _tasks.c.experiment == bindparam("of"),
    # One whose update was made counts whatever was answered to it since.
    or_(
        _tasks.c["update"].is_not(None),
        _tasks.c.failure.is_(None),
        func.json_extract(_tasks.c.failure, "$.code") != ErrorCode.NOT_APPROVED,
    ),
    func.json_extract(_tasks.c.task, "$.job_hash") == bindparam("under"),
)
"""Other tasks of the experiment under the same job that were not refused. Composed once, like what follows: each task
asks."""
_LATER = Statement(
    select(_tasks.c.round, _tasks.c.kind, _tasks.c.about)
    .where(*_TAKEN_ON, _tasks.c.kind != TaskKind.TRAIN)
    .distinct()
    .order_by(_tasks.c.round)
)
_FIRST = Statement(
    select(_tasks.c.task)
    .where(
        *_TAKEN_ON,
        _tasks.c.round == bindparam("at_round"),
        _tasks.c.kind == bindparam("at_kind"),
        _tasks.c.about == bindparam("at_about"),
        _tasks.c.attempt != bindparam("at_attempt"),
    )
    .order_by(_tasks.c.accepted_at, _tasks.c.attempt)
    .limit(1)
)
_JOB = Statement(select(_experiments.c.job).where(_experiments.c.experiment == bindparam("of")))
_RESULTS = Statement(
    select(_journal.c.body)
    .where(_journal.c.kind == SiteJournalKind.ROUND_CLOSED, func.instr(_journal.c.body, bindparam("quoted")) > 0)
    .order_by(_journal.c.number.desc())
)


def check_models(connection: Connection, task: Task) -> None:
    """Raise Conflict (code not-approved) unless the task names the models that its stage starts from here, and its
    experiment has come so far.
    """
    before = round_before(task.key)
    made = None if before is None else _made(connection, task, before)
    check_starting_models(task, _first(connection, task), made)
    job = parsed_job(_JOB.scalar(connection, {"of": task.key.experiment}))
    check_between_rounds(job, task, known_rounds(connection, job, task))


def known_rounds(connection: Connection, job: Job, task: Task) -> KnownRounds:
    """What this site knows of the rounds of the task's experiment."""
    measured: set[int] = set()
    ended: int | None = None
    for row in _LATER.rows(connection, {"of": task.key.experiment, "under": task.job_hash}):
        key = TaskKey(experiment=job.experiment, round=row["round"], kind=TaskKind(row["kind"]), about=row["about"])
        if ends_experiment(key):
            ended = key.round if ended is None else ended
        elif key.round < job.terms.rounds:
            measured.add(key.round)
    # Read only for what asks for it: a job without a result has its whole journal read.
    asked = task.key.kind is not TaskKind.TRAIN and task.key.round < job.terms.rounds
    return KnownRounds(_newest_closed(connection, task) if asked else 0, frozenset(measured), ended)


def holds_result(connection: Connection, closed: RoundClosed) -> bool:
    """Whether the journal has the result of this very attempt."""
    with _results(connection, closed.experiment) as results:
        return any(known.key == closed.key for known in results)


def _first(connection: Connection, task: Task) -> tuple[Hash, ...] | None:
    """The models of the first other attempt at the task's stage, under the same job, that was not refused."""
    key = task.key
    place = {"of": key.experiment, "under": task.job_hash, "at_round": key.round, "at_attempt": key.attempt}
    found = _FIRST.scalar(connection, {**place, "at_kind": key.kind, "at_about": key.about})
    return None if found is None else Task.model_validate_json(found).models


def _made(connection: Connection, task: Task, before: int) -> Hash | None:
    """The model that round ``before`` made, by the last committed result of it in the journal."""
    with _counting(connection, task) as results:
        return next((closed.model for closed in results if closed.round == before), None)


def _newest_closed(connection: Connection, task: Task) -> int:
    """The last round of training that counts, by the journal; 0 when there is none."""
    with _counting(connection, task) as results:
        return max((closed.round for closed in results), default=0)


@lru_cache(maxsize=8)
def parsed_job(document: str) -> Job:
    """A stored job: a large schema takes milliseconds to check, and every task needs its job."""
    return Job.model_validate_json(document)


@contextmanager
def _counting(connection: Connection, task: Task) -> Iterator[Iterator[RoundSettled]]:
    """The results of rounds of training that count under the task's job, newest first."""
    with _results(connection, task.key.experiment) as results:
        yield (
            closed
            for closed in results
            if closed.kind is TaskKind.TRAIN and closed.committed and closed.job_hash == task.job_hash
        )


@contextmanager
def _results(connection: Connection, experiment: str) -> Iterator[Iterator[RoundSettled]]:
    """The results in the journal that are about an experiment, newest first."""
    with closing(_RESULTS.each(connection, {"quoted": json.dumps(experiment)})) as bodies:
        yield (closed for closed in map(_read, bodies) if closed is not None and closed.experiment == experiment)


def _read(text: str) -> RoundSettled | None:
    try:
        return RoundSettled.model_validate_json(text)
    except ValidationError:
        # A damaged line is reported by `journal verify`; it says nothing here.
        return None
