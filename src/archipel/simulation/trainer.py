"""Run a plan in this process, one task at a time: random generators and thread counts are the process's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from archipel.plans.in_turn import ReadInTurn
from archipel.plans.runtime import PlanRuntime
from archipel.tasks import Trained
from archipel.tensors import tensor_file_size
from archipel.vocabulary import Task, TaskKind


class InProcessTrainer:
    """A site's trainer in a simulation. ``turn`` is shared by all sites: plans never run at the same time.

    ``read`` gives a tensor file of the model's bytes by its hash.
    """

    def __init__(self, runtime: PlanRuntime, turn: asyncio.Lock, read: Callable[[str], bytes]) -> None:
        self._runtime, self._turn, self._read = runtime, turn, read
        self._prepared = False
        self._states: dict[int, bytes | None] = {}

    @asynccontextmanager
    async def run(self, task: Task) -> AsyncIterator[Trained]:
        """Run the task in a thread while holding the turn; what follows is done while the next site trains."""
        async with self._turn:
            trained = await asyncio.to_thread(self._run, task)
        yield trained

    def _run(self, task: Task) -> Trained:
        if not self._prepared:
            self._runtime.prepare()
            self._prepared = True
        models = ReadInTurn(len(task.models), lambda at: memoryview(self._read(task.models[at])).toreadonly())
        if task.key.kind is TaskKind.EVALUATE:
            return Trained(self._runtime.evaluate(task, models))
        result = memoryview(bytearray(tensor_file_size(self._runtime.job.tensors)))
        before = max((number for number in self._states if number < task.key.round), default=None)
        state = self._states[before] if before is not None and task.key.kind is TaskKind.TRAIN else None
        given = models[0]
        outcome = self._runtime.train(task, given, result, state)
        if task.key.kind is TaskKind.TRAIN:
            # A round that is tried again starts from the state before it.
            self._states = {task.key.round: outcome.state, **({before: state} if before is not None else {})}
        return Trained(outcome, result, given)
