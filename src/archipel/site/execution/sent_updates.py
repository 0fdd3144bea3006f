"""Which updates the server has: journaled with the result of their round, in its transaction, where that comes soon.

Nothing follows from the line itself: that an update may leave is journaled since it was made, before its first byte
left. If the agent is killed before the line is written, the result of the round proves that the server had the update,
where it counts.
"""

from __future__ import annotations

from threading import Lock

from sqlalchemy import Connection

from archipel.site.audit import TaskLine, add_entry
from archipel.site.execution.task_rows import TASK, UPDATE_TASK, place
from archipel.site.state import SiteJournalKind, SiteTaskState
from archipel.storage import Database
from archipel.vocabulary import TaskKey


class SentUpdates:
    """Updates that the server has and that the journal does not say so of yet. Who journals them has the ``turn``."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._keys: dict[TaskKey, None] = {}
        self.turn = Lock()

    def note(self, key: TaskKey) -> None:
        """The server has this update."""
        self._keys[key] = None

    def keep(self) -> None:
        """Journal those for which no result of a round came yet."""
        with self.turn:
            for key in list(self._keys):
                with self._database.write() as connection:
                    row = TASK.first(connection, place(key))
                    # A result that names this site came before it was noted, and journaled it.
                    if row is not None and row["state"] != SiteTaskState.CLOSED:
                        _journal(connection, key, row["state"])
                self.forget(key)

    def journal_with_result(self, connection: Connection, key: TaskKey, state: str, named: bool) -> None:
        """Journal it in the transaction that keeps the result of its round: one that is ``named`` there was sent.

        The caller has the turn, and calls ``forget`` when the transaction is committed.
        """
        if state == SiteTaskState.DONE and (named or key in self._keys):
            _journal(connection, key, state)

    def forget(self, key: TaskKey) -> None:
        """The journal has it."""
        self._keys.pop(key, None)


def _journal(connection: Connection, key: TaskKey, state: str) -> None:
    add_entry(connection, SiteJournalKind.UPDATE_SENT, TaskLine(**dict(key)))
    if state == SiteTaskState.DONE:
        UPDATE_TASK.run(connection, {**place(key), "state": SiteTaskState.SENT})
