"""What a site keeps of an experiment for its later tasks: its local part of the model and the optimiser's state.

Each attempt leaves one file, complete or absent. It counts from the server's signed result that names this site on; the
files of other attempts, and of rounds before, are removed. All of them are removed when the experiment ends.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, and_, bindparam, delete, func, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from archipel.site.state import StateFolder, schema
from archipel.storage import Statement, disk_errors_named, sync_folder
from archipel.tensors import blob_hash
from archipel.vocabulary import ArchipelError, Conflict, ErrorCode, Job, RoundClosed, Task, TaskKey, TaskKind, Thing

_tasks, _states = schema.tasks, schema.kept_states


class _Which(NamedTuple):
    """Which kept states: the query for their paths, and what drops their rows. Composed once: each round drops some."""

    paths: Statement
    drop: Statement

    @classmethod
    def where(cls, *which: ColumnElement[bool]) -> _Which:
        return cls(Statement(select(_states.c.path).where(*which)), Statement(delete(_states).where(*which)))


_OF = _states.c.experiment == bindparam("of")
_STAGE = (_OF, _states.c.kind == bindparam("at_kind"))
_ATTEMPT = (*_STAGE, _states.c.round == bindparam("at_round"), _states.c.attempt == bindparam("at_attempt"))
_ALL, _THIS = _Which.where(_OF), _Which.where(*_ATTEMPT)
_EARLIER = _Which.where(*_STAGE, _states.c.round < bindparam("at_round"))
_COMMIT = Statement(update(_states).where(*_ATTEMPT))


class KeptStates:
    """The kept states of one site."""

    def __init__(self, site: StateFolder) -> None:
        self._site = site

    def write(self, key: TaskKey, state: bytes) -> Path:
        """A durable file of what a task leaves here; ``name`` then makes it the attempt's. Raises StorageFull."""
        folder = self._site.tensor_files
        place = f"{key.experiment}.{key.kind}.{key.round}.{key.attempt}.{os.urandom(4).hex()}"
        path = folder / f"{place}.{_hash(state)}"
        with removed_on_error(path), disk_errors_named(folder):
            with path.open("xb") as file:
                file.write(state)
                file.flush()
                os.fsync(file.fileno())
            sync_folder(folder)
        return path

    def kept_for(self, job: Job, task: Task) -> bytes | None:
        """What this site kept for a task to start from, None where it has nothing: for a round what the newest round
        before it that counted left, and for a measurement of the federated model what the newest one up to it left.

        This site's own local model is measured with the local part that its training ended with. Raises Conflict (code
        not-found) where that is not kept.
        """
        key = task.key
        if key.kind is TaskKind.TRAIN and job.keeps_state:
            return self.last_state(task, key.round)
        if key.kind is not TaskKind.EVALUATE or job.local is None:
            return None
        if not key.about:
            return self.last_state(task, key.round + 1)
        return self._state_of_local_model(task) if key.about == self._site.name else None

    def last_state(self, task: Task, before_round: int) -> bytes | None:
        """What is kept of the newest round of the task's job that counted, before this round."""
        which = _states.c.kind == TaskKind.TRAIN, _states.c.round < before_round, _states.c.committed
        return self._read(task, _of_job(task).where(*which).order_by(_states.c.round.desc()))

    def _state_of_local_model(self, task: Task) -> bytes:
        """What was kept when this site trained the task's model alone."""
        model = func.json_extract(_tasks.c["update"], "$.model")
        kept = self._read(task, _of_job(task).where(_states.c.kind == TaskKind.LOCAL, model == task.models[0]))
        if kept is None:
            raise Conflict(
                Thing("task", task.key),
                "measures a local model whose local part is not kept at this site",
                "submit a new job to train it again",
                code=ErrorCode.NOT_FOUND,
            )
        return kept

    def _read(self, task: Task, query: Select[Any]) -> bytes | None:
        """The bytes of the first of these files. Raises ArchipelError (code trust) when they are not those written."""
        with self._site.database.read() as connection:
            path = connection.scalar(query.limit(1))
        if path is None:
            return None
        try:
            state: bytes = (self._site.tensor_files / path).read_bytes()
        except FileNotFoundError as error:
            raise _not_as_kept(task, f"starts from {path}, which is gone") from error
        if _hash(state) != path.rpartition(".")[2]:
            raise _not_as_kept(task, f"starts from {path}, whose bytes were changed since it was kept")
        return state

    def settle(self, connection: Connection, closed: RoundClosed, named: bool) -> list[Path]:
        """Commit what the attempt left if the result names this site, else drop it; the files that are to be removed
        after the transaction.
        """
        this = {"of": closed.experiment, "at_kind": closed.kind, "at_round": closed.round, "at_attempt": closed.attempt}
        if not named:
            return self._drop(connection, _THIS, this)
        _COMMIT.run(connection, {**this, "committed": True})
        return self._drop(connection, _EARLIER, this)

    def forget(self, connection: Connection, experiment: str) -> list[Path]:
        """Drop everything kept for an experiment; the files that are to be removed after the transaction."""
        return self._drop(connection, _ALL, {"of": experiment})

    def _drop(self, connection: Connection, which: _Which, values: Mapping[str, object]) -> list[Path]:
        paths = which.paths.scalars(connection, values)
        if paths:
            which.drop.run(connection, values)
        return [self._site.tensor_files / path for path in paths]


def _hash(state: bytes) -> str:
    return blob_hash(state).partition(":")[2]


def _not_as_kept(task: Task, cause: str) -> ArchipelError:
    remedy = "look for what writes to the site's state folder; submit a new job, which begins this part again"
    return ArchipelError(Thing("task", task.key), cause, remedy, code=ErrorCode.TRUST)


def _of_job(task: Task) -> Select[Any]:
    """The paths of what this very job left; another job of the same name gets nothing of it."""
    same = [_states.c[name] == _tasks.c[name] for name in ("experiment", "kind", "round", "attempt")]
    return (
        select(_states.c.path)
        .join(_tasks, and_(*same, _tasks.c.about == ""))
        .where(
            _states.c.experiment == task.key.experiment,
            func.json_extract(_tasks.c.task, "$.job_hash") == task.job_hash,
        )
    )


def name(connection: Connection, key: TaskKey, path: Path) -> None:
    """From the end of the transaction on, this file is what the attempt left."""
    place = key.model_dump(mode="json", exclude={"about"})
    statement = upsert(_states).values(**place, path=path.name, committed=False)
    connection.execute(statement.on_conflict_do_update(index_elements=list(place), set_={"path": path.name}))


def named(connection: Connection) -> set[str]:
    """The names of all files that are kept."""
    return set(connection.scalars(select(_states.c.path)))


@contextlib.contextmanager
def removed_on_error(path: Path | None) -> Iterator[None]:
    """Files that no row names take space that the next try needs."""
    try:
        yield
    except BaseException:
        if path is not None:
            path.unlink(missing_ok=True)
        raise
