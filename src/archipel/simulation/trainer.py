"""Run a plan in this process, one task at a time: random generators and thread counts are the process's own.

It runs in the thread of the event loop: two threads would take the interpreter from each other at every step of the
training, and gain nothing by it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from archipel.plans.in_turn import ReadInTurn
from archipel.plans.kept_state import divided
from archipel.plans.runtime import PlanRuntime
from archipel.tasks import Trained
from archipel.tensors import tensor_file_size
from archipel.vocabulary import RoundClosed, Task, TaskKey, TaskKind

LOCAL_PART = "local-part.safetensors"
"""In a site's folder: its local part after the newest round in which it counted."""


class InProcessTrainer:
    """A site's trainer in a simulation. ``turn`` is shared by all sites: plans never run at the same time.

    ``read`` gives a tensor file of the model, read-only, by its hash. ``folder`` takes the site's local part, if the
    job has one.
    """

    def __init__(
        self, runtime: PlanRuntime, turn: asyncio.Lock, read: Callable[[str], memoryview], folder: Path
    ) -> None:
        self._runtime, self._turn, self._read, self._folder = runtime, turn, read, folder
        self._prepared = False
        # What each attempt left that the server has said nothing of, and what the rounds that counted left.
        self._made: dict[TaskKey, bytes | None] = {}
        self._kept: bytes | None = None
        self._alone: bytes | None = None

    @asynccontextmanager
    async def run(self, task: Task) -> AsyncIterator[Trained]:
        """Run the task while holding the turn."""
        async with self._turn:
            # What has happened meanwhile, and Ctrl-C, comes in between two tasks.
            await asyncio.sleep(0)
            yield self._run(task)

    def settle(self, closed: RoundClosed) -> None:
        """Keep what the attempt left if the result names this site, as a deployed site does; else drop it."""
        made = self._made.pop(closed.key, None)
        if closed.kind is TaskKind.TRAIN and closed.committed and self._runtime.site in closed.contributors:
            self._kept = made
            local, _ = divided(self._runtime.job, made)
            if local is not None:
                (self._folder / LOCAL_PART).write_bytes(local)

    def _run(self, task: Task) -> Trained:
        if not self._prepared:
            self._runtime.prepare()
            self._prepared = True
        models = ReadInTurn(len(task.models), lambda at: self._read(task.models[at]))
        state = self._state_for(task)
        if task.key.kind is TaskKind.EVALUATE:
            return Trained(self._runtime.evaluate(task, models, state))
        result = memoryview(bytearray(tensor_file_size(self._runtime.job.tensors)))
        given = models[0]
        outcome = self._runtime.train(task, given, result, state)
        if task.key.kind is TaskKind.TRAIN:
            self._made[task.key] = outcome.state
        else:
            # It follows from the job alone, so every attempt leaves the same.
            self._alone = outcome.state
        return Trained(outcome, result, given)

    def _state_for(self, task: Task) -> bytes | None:
        """What the site kept for the task to start from; of a local part, where it has none yet, the initial values."""
        job, kept = self._runtime.job, None
        if task.key.about:
            kept = self._alone
        elif task.key.kind is not TaskKind.LOCAL:
            kept = self._kept
        return bytes(self._read(job.local.blob)) if kept is None and job.local is not None else kept
