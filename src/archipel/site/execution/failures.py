"""Errors of this site's workers in full: they stay here until a person releases one, with one command.

Only the typed Failure leaves by itself. The full text (messages, traceback) may contain what a plan printed about the
data, so a person reads it first.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import RowMapping, select, update

from archipel.site.audit import ErrorReleasedLine, TaskLine, add_entry
from archipel.site.state import SiteJournalKind, schema
from archipel.storage import Database
from archipel.tensors import document_hash
from archipel.vocabulary import Actor, Failure, NotFound, TaskKey, Thing
from archipel.vocabulary.remedies import ListErrors

_tasks = schema.tasks


class FailedTask(NamedTuple):
    """A task that failed here: what left the site, the full text that did not, and whether it was released."""

    key: TaskKey
    failure: Failure
    detail: str
    released: bool
    done_at: str | None


def failed(database: Database, experiment: str | None = None, round_number: int | None = None) -> list[FailedTask]:
    """Failed tasks with their full texts, oldest first; of one experiment and round when these are given."""
    query = select(_tasks).where(_tasks.c.failure.is_not(None)).order_by(_tasks.c.accepted_at)
    if experiment is not None:
        query = query.where(_tasks.c.experiment == experiment)
    if round_number is not None:
        query = query.where(_tasks.c.round == round_number)
    with database.read() as connection:
        return [_failed(row) for row in connection.execute(query).mappings()]


def of_round(database: Database, experiment: str, round_number: int) -> list[FailedTask]:
    """A round's failed tasks that have a text. Raises NotFound when there are none."""
    found = [task for task in failed(database, experiment, round_number) if task.detail]
    if not found:
        raise NotFound(
            Thing.worded(f"errors of {experiment} round {round_number}", experiment=experiment, round=round_number),
            "there are none here",
            "see archipel site errors list",
            command=ListErrors(),
        )
    return found


def release(database: Database, experiment: str, round_number: int, *, by: Actor) -> list[FailedTask]:
    """Release the full texts of a round's errors; the agent sends them.

    The journal keeps each text's hash. Raises NotFound when the round has no failed task with a text.
    """
    tasks = of_round(database, experiment, round_number)
    with database.write() as connection:
        for task in tasks:
            if not task.released:
                body = ErrorReleasedLine(**dict(task.key), text=document_hash(task.detail.encode()), by=by.journal_name)
                add_entry(connection, SiteJournalKind.ERROR_RELEASED, body)
                connection.execute(update(_tasks).where(*_same(task.key)).values(released=True))
    return tasks


def to_send(database: Database) -> list[tuple[TaskKey, str]]:
    """Released texts that the server has not got yet; the agent sends each and then calls ``mark_sent``."""
    query = select(_tasks).where(_tasks.c.released, ~_tasks.c.release_sent).order_by(_tasks.c.accepted_at)
    with database.read() as connection:
        return [(task.key, task.detail) for task in map(_failed, connection.execute(query).mappings())]


def mark_sent(database: Database, key: TaskKey) -> None:
    """Remember that the server has this released text."""
    with database.write() as connection:
        add_entry(connection, SiteJournalKind.ERROR_SENT, TaskLine(**dict(key)))
        connection.execute(update(_tasks).where(*_same(key)).values(release_sent=True))


def _same(key: TaskKey) -> list[Any]:
    return [_tasks.c[name] == value for name, value in key.model_dump(mode="json").items()]


def _failed(row: RowMapping) -> FailedTask:
    key = TaskKey(**{name: row[name] for name in TaskKey.model_fields})
    failure = Failure.model_validate_json(row["failure"])
    return FailedTask(key, failure, row["detail"] or "", bool(row["released"]), row["done_at"])
