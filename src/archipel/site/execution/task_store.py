"""The site's task store: every accepted task and its update, in the database, each change with its journal
line.

An update stays until the server's signed result of the round. Then what the site keeps of the round, the optimiser's
state and its local part of the model, is kept if the result names the site, otherwise it is dropped, and the update's
file is removed.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.sqlite import insert as upsert

from archipel.governance import JournalHead, record_hash
from archipel.privacy.capacity import MOST_RUNS
from archipel.site.audit import (
    RoundSettled,
    TaskAcceptedLine,
    TaskFailedLine,
    UpdateMade,
    add_entry,
    journal_heads,
)
from archipel.site.execution import kept_states
from archipel.site.execution.kept_states import removed_on_error
from archipel.site.execution.known_models import check_models, holds_result, parsed_job
from archipel.site.execution.sent_updates import SentUpdates
from archipel.site.execution.task_rows import ADD_TASK, TASK, UPDATE_TASK, WITHDRAW_TASK, place
from archipel.site.sandbox import WorkerTaskFailed
from archipel.site.state import (
    OfferState,
    SiteJournalKind,
    SiteTaskState,
    StateFolder,
    TaskChange,
    UnjournaledKind,
    changes,
    schema,
)
from archipel.storage import utc_now
from archipel.tasks import LocalUpdate, reusable_file
from archipel.tasks.handling import replayed
from archipel.vocabulary import Conflict, ErrorCode, Failure, RoundClosed, Task, TaskKey, TaskKind, Thing, Update
from archipel.vocabulary.remedies import Nothing

_tasks = schema.tasks
_OF_THE_PLAN = frozenset(
    {
        ErrorCode.BAD_DATA,
        ErrorCode.BAD_INPUT,
        ErrorCode.BAD_PLAN,
        ErrorCode.CRASHED,
        ErrorCode.DATA_CHANGED,
        ErrorCode.LIMIT_CPU,
        ErrorCode.LIMIT_MEMORY,
        ErrorCode.LIMIT_TIME,
        ErrorCode.MODEL_CHANGED,
        ErrorCode.NOT_FINITE,
        ErrorCode.PLAN_ERROR,
    }
)
"""Codes of failures that a plan can bring about, and so tell something with: once for each attempt."""


class SiteTaskStore:
    """One site's task store."""

    def __init__(self, site: StateFolder) -> None:
        self._site, self.states = site, kept_states.KeptStates(site)
        self._sent = SentUpdates(site.database)

    def find(self, task: Task) -> LocalUpdate | None:
        """The update of this very task. Raises Conflict (replayed) for other content under a used key.

        Raises WorkerTaskFailed when the plan failed at it: the plan does not run again for the same attempt. Raises
        Conflict (round-closed) when its round is closed or the server withdrew it: no honest server offers it again.
        """
        with self._site.database.read() as connection:
            row = TASK.first(connection, place(task.key))
        if row is None:
            return None
        if row["task_hash"] != record_hash(task):
            raise replayed(task)
        if row["closed_at"] is not None:
            raise Conflict(
                Thing("task", task.key),
                "its round is closed",
                "the server opens a new attempt",
                code=ErrorCode.ROUND_CLOSED,
                command=Nothing(),
            )
        if row["state"] == SiteTaskState.WITHDRAWN:
            raise Conflict(
                Thing("task", task.key),
                "was withdrawn by the server",
                "the server opens a new attempt",
                code=ErrorCode.ROUND_CLOSED,
                command=Nothing(),
            )
        failure = Failure.model_validate_json(row["failure"]) if row["failure"] is not None else None
        if failure is not None and (failure.code in _OF_THE_PLAN or _is_read_in_turn(task)):
            raise WorkerTaskFailed(failure, row["detail"] or "")
        if row["update"] is None:
            return None
        made = Update.model_validate_json(row["update"])
        tensor_file = self._site.spool / row["spool"] if row["spool"] else None
        if tensor_file is not None and not tensor_file.exists():
            cause = "its update was made and is missing from the spool"
            raise Conflict(
                Thing("task", task.key),
                cause,
                "the server opens a new attempt",
                code=ErrorCode.NOT_FOUND,
                command=Nothing(),
            )
        return LocalUpdate(made, tensor_file)

    def begin(self, task: Task) -> None:
        """The task is accepted; the same task begun again after a crash is the same line.

        Raises Conflict (code not-approved) for one that starts from another model than its stage does here, and
        Conflict (crashed) for an evaluation of an ensemble that ran ``MOST_RUNS`` times: each run can disclose more.
        """
        body = TaskAcceptedLine(**dict(task.key), task=record_hash(task), models=tuple(task.models))
        row = {
            **task.key.model_dump(mode="json"),
            "task": task.model_dump_json(),
            "task_hash": record_hash(task),
            "state": SiteTaskState.ACCEPTED,
            "accepted_at": utc_now(),
        }
        with self._site.database.write() as connection:
            check_models(connection, task)
            known = TASK.first(connection, place(task.key))
            kind = SiteJournalKind.TASK_ACCEPTED if known is None else SiteJournalKind.TASK_BEGUN_AGAIN
            if known is not None and _is_read_in_turn(task):
                _check_runs(connection, task)
            add_entry(connection, kind, body)
            if known is None:
                ADD_TASK.run(connection, row)
            else:
                values = {"state": SiteTaskState.ACCEPTED, "failure": None, "detail": None}
                UPDATE_TASK.run(connection, {**place(task.key), **values})

    def keep(self, task: Task, made: LocalUpdate) -> None:
        """The update is made: the file of what stays here first, then one transaction names it and the update."""
        path = self.states.write(task.key, made.state) if made.state is not None else None
        result = made.update
        body = UpdateMade(
            **dict(task.key),
            model=result.model,
            samples=result.samples if made.samples is None else made.samples,
            bytes=result.model_bytes,
        )
        values = {
            "state": SiteTaskState.DONE,
            "update": made.update.model_dump_json(),
            "spool": made.tensor_file.name if made.tensor_file else None,
            "done_at": utc_now(),
        }
        with removed_on_error(path), self._site.database.write() as connection:
            add_entry(connection, SiteJournalKind.UPDATE_MADE, body)
            UPDATE_TASK.run(connection, {**place(task.key), **values})
            if path is not None:
                kept_states.name(connection, task.key, path)

    def sent(self, key: TaskKey) -> None:
        """The server has the update. It is journaled with the result of its round, or else by ``keep_sent``."""
        self._sent.note(key)

    def keep_sent(self) -> None:
        """Journal which updates the server has and no result of a round came for yet."""
        self._sent.keep()

    def withdrawn(self, key: TaskKey) -> None:
        """The server no longer wants the task. One that was begun and has not ended is withdrawn for good: a plan that
        runs again in the same attempt would disclose more.
        """
        with self._site.database.write() as connection:
            if WITHDRAW_TASK.run(connection, {**place(key), "state": SiteTaskState.WITHDRAWN}):
                changes.append(connection, TaskChange(kind=UnjournaledKind.TASK_WITHDRAWN, task=key))

    def fail(self, task: Task, failure: Failure, detail: str) -> None:
        """The task failed; ``detail``, the full text, stays here. One that is closed or withdrawn fails no more."""
        body = TaskFailedLine(**dict(task.key), failure=failure)
        row = {
            **task.key.model_dump(mode="json"),
            "task": task.model_dump_json(),
            "task_hash": record_hash(task),
            "accepted_at": utc_now(),
        }
        values = {
            "state": SiteTaskState.FAILED,
            "failure": failure.model_dump_json(),
            "detail": detail,
            "done_at": utc_now(),
        }
        with self._site.database.write() as connection:
            if not self._known_experiment(connection, task.key.experiment):
                add_entry(connection, SiteJournalKind.TASK_REFUSED, body)
                return
            known = TASK.first(connection, place(task.key))
            if known is not None and known["task_hash"] != record_hash(task):
                # Other content under a used key: the first task's row is right and stays as it is.
                add_entry(connection, SiteJournalKind.TASK_REFUSED, body)
                return
            if known is not None and (known["closed_at"] is not None or known["state"] == SiteTaskState.WITHDRAWN):
                return
            add_entry(connection, SiteJournalKind.TASK_FAILED, body)
            statement = upsert(_tasks).values(**row, **values)
            keys = list(TaskKey.model_fields)
            connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=values))

    def _known_experiment(self, connection: Connection, experiment: str) -> bool:
        table = schema.experiments
        return connection.execute(select(table.c.job_hash).where(table.c.experiment == experiment)).first() is not None

    def unfinished(self, experiment: str) -> list[Task]:
        """Tasks that were accepted and have no update yet."""
        query = select(_tasks.c.task).where(_tasks.c.experiment == experiment, _tasks.c.state == SiteTaskState.ACCEPTED)
        with self._site.database.read() as connection:
            return [Task.model_validate_json(text) for text in connection.scalars(query)]

    def settle(self, closed: RoundClosed, server_head: JournalHead, receipt: JournalHead | None) -> None:
        """Act on the server's result of a closed round, once: commit or drop what was kept for it.

        The heads of both journals that came with it are kept in the same transaction.
        """
        with self._sent.turn:
            if self._settle(closed, server_head, receipt):
                self._sent.forget(closed.key)

    def _settle(self, closed: RoundClosed, server_head: JournalHead, receipt: JournalHead | None) -> bool:
        """Whether it is kept now, of a task that was begun here and not closed before."""
        named = closed.committed and self._site.name in closed.contributors
        gone: list[Path] = []
        with self._site.database.write() as connection:
            row = TASK.first(connection, place(closed.key))
            if row is None:
                self._hold_missed(connection, closed, server_head, receipt)
                return False
            if row["closed_at"] is not None:
                return False
            self._sent.journal_with_result(connection, closed.key, row["state"], named)
            add_entry(connection, SiteJournalKind.ROUND_CLOSED, RoundSettled(**dict(closed), server_head=server_head))
            values = {"closed_at": utc_now()}
            if row["state"] != SiteTaskState.FAILED:
                values["state"] = SiteTaskState.CLOSED if named else SiteTaskState.ROLLED_BACK
            UPDATE_TASK.run(connection, {**place(closed.key), **values})
            spool = self._site.spool / row["spool"] if row["spool"] else None
            gone += self.states.settle(connection, closed, named)
            journal_heads.keep(connection, server_head, receipt)
        if spool is not None and spool.exists():
            spool.rename(reusable_file(spool))
        for path in gone:
            path.unlink(missing_ok=True)
        return True

    def _hold_missed(
        self, connection: Connection, closed: RoundClosed, server_head: JournalHead, receipt: JournalHead | None
    ) -> None:
        """Keep, once, the result of a round of an approved job that counts without this site: it was away.

        What may come after a round is asked for only where its result is held.
        """
        counts = closed.kind is TaskKind.TRAIN and closed.committed
        if not counts or not self._is_approved(connection, closed) or holds_result(connection, closed):
            return
        add_entry(connection, SiteJournalKind.ROUND_CLOSED, RoundSettled(**dict(closed), server_head=server_head))
        journal_heads.keep(connection, server_head, receipt)

    def _is_approved(self, connection: Connection, closed: RoundClosed) -> bool:
        """Whether the people here have approved this job, and it has such a round and attempt."""
        table = schema.experiments
        query = select(table.c.job).where(
            table.c.experiment == closed.experiment,
            table.c.job_hash == closed.job_hash,
            table.c.state == OfferState.APPROVED,
        )
        document = connection.scalar(query)
        terms = parsed_job(document).terms if document is not None else None
        return terms is not None and 1 <= closed.round <= terms.rounds and closed.attempt <= terms.attempts

    def forget(self, experiment: str) -> None:
        """Remove the files kept for an experiment that is over: no update is awaited and no round follows.

        The rows of its tasks stay, so that a result which comes after this still finds its task.
        """
        spools = select(_tasks.c.spool).where(
            _tasks.c.experiment == experiment, _tasks.c.spool.is_not(None), _tasks.c.closed_at.is_(None)
        )
        with self._site.database.write() as connection:
            gone = [self._site.spool / name for name in connection.scalars(spools)]
            gone += self.states.forget(connection, experiment)
        for path in (*gone, reusable_file(self._site.spool / experiment)):
            path.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove files that no row names; called when the agent starts."""
        with self._site.database.read() as connection:
            spools = select(_tasks.c.spool).where(
                _tasks.c.spool.is_not(None), _tasks.c.state.in_((SiteTaskState.DONE, SiteTaskState.SENT))
            )
            named = set(connection.scalars(spools)) | kept_states.named(connection)
        for folder in (self._site.spool, self._site.tensor_files):
            for path in folder.iterdir():
                if path.name not in named:
                    path.unlink()


def _is_read_in_turn(task: Task) -> bool:
    """Whether it evaluates an ensemble. The server sees how far its models are read, so that no failure of it,
    whatever its code, is followed by another run in the same attempt.
    """
    return len(task.models) > 1


def _check_runs(connection: Connection, task: Task) -> None:
    lines = select(func.count()).where(
        schema.journal.c.kind == SiteJournalKind.TASK_BEGUN_AGAIN,
        schema.journal.c.body.contains(record_hash(task), autoescape=True),
    )
    if 1 + connection.scalars(lines).one() >= MOST_RUNS:
        raise Conflict(
            Thing("task", task.key),
            f"was begun {MOST_RUNS} times",
            "the server opens a new attempt",
            code=ErrorCode.CRASHED,
            command=Nothing(),
        )
