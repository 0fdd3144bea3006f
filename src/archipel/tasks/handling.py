"""Handlers: ``task -> what was made``. A rule is a handler around a handler, so that rules compose and read alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from archipel.governance import task_hash
from archipel.vocabulary import Conflict, ErrorCode, StorageFull, Task, Thing, Update


@dataclass(frozen=True)
class LocalUpdate:
    """An update ready to leave, its file on disk, and what stays: the optimiser's state, and how many ``samples`` were
    trained on where the update itself does not say so."""

    update: Update
    tensor_file: Path | None = None
    state: bytes | None = None
    samples: int | None = None


Handler = Callable[[Task], Awaitable[LocalUpdate]]
"""The one shape of everything a site does with a task. Raises ArchipelError when the site refuses or cannot do it."""


WaitForSpace = Callable[[Task, StorageFull], Awaitable[None]]
"""Waits until a full disk may have space again, or raises; the finished update waits with it and is not made again."""


async def no_waiting(_task: Task, error: StorageFull) -> None:
    """For handlers that do not wait for disk space."""
    raise error


class RequirePermission:
    """Only permitted tasks run: ``permission`` raises for a task that may not run here."""

    def __init__(self, inner: Handler, permission: Callable[[Task], None]) -> None:
        self._inner, self._permission = inner, permission

    async def __call__(self, task: Task) -> LocalUpdate:
        """Ask, then pass the task on."""
        self._permission(task)
        return await self._inner(task)


class TaskStore(Protocol):
    """Where a site keeps the update of each task key."""

    def find(self, task: Task) -> LocalUpdate | None:
        """The update of this very task. Raises Conflict (replayed) for other content under a used key."""

    def begin(self, task: Task) -> None:
        """The task is accepted; from here on its key is used."""

    def keep(self, task: Task, made: LocalUpdate) -> None:
        """The update is made and durable."""


class Idempotent:
    """The same task delivered again is answered with the bytes already made: nothing is trained twice.

    On a full disk, the finished update waits for ``wait_for_space``; if it cannot be kept, no tensor file stays.
    """

    def __init__(self, inner: Handler, store: TaskStore, wait_for_space: WaitForSpace = no_waiting) -> None:
        self._inner, self._store, self._wait_for_space = inner, store, wait_for_space

    async def __call__(self, task: Task) -> LocalUpdate:
        """Answer from the task store, or make it and put it there."""
        made = self._store.find(task)
        if made is None:
            self._store.begin(task)
            made = await self._inner(task)
            await self._keep(task, made)
        return made

    async def _keep(self, task: Task, made: LocalUpdate) -> None:
        try:
            while True:
                try:
                    return self._store.keep(task, made)
                except StorageFull as error:
                    await self._wait_for_space(task, error)
        except BaseException:
            if made.tensor_file is not None:
                made.tensor_file.unlink(missing_ok=True)
            raise


class MemoryTaskStore:
    """A task store in memory, for simulations.

    It keeps the last update and the optimiser's state: an earlier task's tensor file is deleted once its round is
    closed.
    """

    def __init__(self) -> None:
        self._tasks: dict[str, str] = {}
        self._last: tuple[str, LocalUpdate] | None = None

    def find(self, task: Task) -> LocalUpdate | None:
        """The update of this very task."""
        key = str(task.key)
        if self._tasks.get(key, task_hash(task)) != task_hash(task):
            raise replayed(task)
        return self._last[1] if self._last is not None and self._last[0] == key else None

    def begin(self, task: Task) -> None:
        """The task is accepted."""
        self._tasks[str(task.key)] = task_hash(task)

    def keep(self, task: Task, made: LocalUpdate) -> None:
        """The update is made."""
        self._last = str(task.key), made


def replayed(task: Task) -> Conflict:
    """The error for a used key with other content."""
    cause = "this key was used for a task with other content"
    return Conflict(Thing("task", task.key), cause, "the server must open a new attempt", code=ErrorCode.REPLAYED)
