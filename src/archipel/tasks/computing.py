"""Compute: the innermost handler. The plan trains somewhere, its result is sealed into a tensor file of the site's own.

The steps that the job's privacy terms name change the update while it is sealed; see ``sealing``. Of a job whose
updates leave only within a sum, everything that is disclosed about the update is in its file.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from archipel.governance import MINIMUM_CELL, task_hash
from archipel.plans.runtime import Outcome
from archipel.privacy import Addend, Step, UpdateSums, addend_of, most_seconds, only_sums, steps_of
from archipel.rounds import check_releases, check_what_leaves
from archipel.strategies import SiteStats, Strategy, check_strategy
from archipel.tasks.handling import LocalUpdate, WaitForSpace, no_waiting
from archipel.tasks.measuring import as_they_leave, reported
from archipel.tasks.sealing import seal, seal_fields
from archipel.vocabulary import Job, MetricSum, StorageFull, Task, TaskKind, Update


@dataclass(frozen=True)
class Trained:
    """The result of a run of the plan: numbers, and the result's memory (None for an evaluation).

    ``given`` is the tensor
    file of the model that was trained, if the trainer has it.
    """

    outcome: Outcome
    result: memoryview | None = None
    given: memoryview | None = None


class Trainer(Protocol):
    """Where the plan runs: a sandboxed worker, or this process in a simulation.

    A class that is a trainer must define ``run``. It runs the plan on the approved cohort only, gives the same result
    for the same task, and leaves the memory that it gives in ``Trained`` alone until the block ends.
    """

    def run(self, task: Task) -> AbstractAsyncContextManager[Trained]:
        """Run the task on the cohort; after the block the memory is the trainer's again. Raises ArchipelError."""


class Compute:
    """Run the task and seal its result into ``folder``; on a full disk the result waits for ``wait_for_space`` in
    memory. ``minimum_cell`` is the site's: of fewer patients it is not disclosed how much a metric differs.

    Without ``durable`` nothing is synced, and no thread waits for a disk: that is for a simulation, whose files end
    with its process.
    """

    def __init__(
        self,
        job: Job,
        site: str,
        trainer: Trainer,
        folder: Path,
        wait_for_space: WaitForSpace = no_waiting,
        minimum_cell: int = MINIMUM_CELL,
        *,
        durable: bool = True,
    ) -> None:
        self._minimum_cell, self._durable = minimum_cell, durable
        self._job, self._site, self._trainer, self._folder, self._wait_for_space = (
            job,
            site,
            trainer,
            folder,
            wait_for_space,
        )

    async def __call__(self, task: Task) -> LocalUpdate:
        """Train or evaluate, and make the update."""
        job = self._job
        check_releases(job)
        # Raises before training if a step, or the strategy that weighs a sum, is not known here.
        steps = steps_of(job)
        within_sum = only_sums(job)
        strategy = check_strategy(job) if within_sum else None
        began = time.monotonic()
        sealed = None
        try:
            async with self._trainer.run(task) as given:
                trained = replace(given, outcome=as_they_leave(job, task.key.kind, given.outcome, self._minimum_cell))
                outcome = trained.outcome
                if (task.key.kind is not TaskKind.EVALUATE and trained.result is not None) or within_sum:
                    sealed = await self._sealed(task, trained, steps, strategy)
            update = Update(
                key=task.key,
                site=self._site,
                task_hash=task_hash(task),
                model=sealed.hash if sealed else None,
                model_bytes=sealed.size if sealed else 0,
                samples=0 if within_sum else self._counted(task, outcome),
                metrics={} if within_sum else outcome.metrics | (sealed.reported if sealed else {}),
                validation={} if within_sum else outcome.validation,
                seconds=min(int(time.monotonic() - began), most_seconds(job, len(task.passes) or 1)),
            )
            check_what_leaves(job, update)
        except BaseException:
            if sealed is not None:
                sealed.tensor_file.unlink(missing_ok=True)
            raise
        kept = self._counted(task, outcome) if within_sum else None
        return LocalUpdate(update, sealed.tensor_file if sealed else None, outcome.state, kept)

    def _counted(self, task: Task, outcome: Outcome) -> int:
        """How many samples the update says that it trained on, or measured."""
        if task.key.kind is not TaskKind.EVALUATE:
            return outcome.samples.training
        measures = self._job.validation and self._job.is_measured_at(task.key, self._site)
        return outcome.samples.validation if measures else 0

    async def _sealed(
        self, task: Task, trained: Trained, steps: Sequence[Step], strategy: Strategy | None
    ) -> _SealedFile:
        """The update's file; with a ``strategy``, which weighs it, a file that is added to those of other sites."""
        tensor_file = self._folder / f"{_file_name(task)}.{os.urandom(8).hex()}.safetensors"
        if not self._durable:
            digest = self._seal(task, trained, tensor_file, steps, strategy)
            return _SealedFile(tensor_file, digest, tensor_file.stat().st_size, reported(steps))
        while True:
            sealing = asyncio.ensure_future(asyncio.to_thread(self._seal, task, trained, tensor_file, steps, strategy))
            try:
                digest = await asyncio.shield(sealing)
                return _SealedFile(tensor_file, digest, tensor_file.stat().st_size, reported(steps))
            except StorageFull as error:
                await self._wait_for_space(task, error)
                # What a step measured in the try before does not count.
                steps = steps_of(self._job)
            except asyncio.CancelledError:
                # The thread still reads the memory that is released next.
                await asyncio.wait({sealing})
                if sealing.exception() is None:
                    tensor_file.unlink(missing_ok=True)
                raise

    def _seal(
        self, task: Task, trained: Trained, tensor_file: Path, steps: Sequence[Step], strategy: Strategy | None
    ) -> str:
        job, kind, outcome = self._job, task.key.kind, trained.outcome

        def addend(strategy: Strategy) -> Addend:
            if kind is TaskKind.EVALUATE:
                return addend_of(job, kind, UpdateSums(validation=outcome.validation))
            (weight,) = strategy.weights([SiteStats(self._site, outcome.samples.training)])
            own = UpdateSums(outcome.samples.training, weight, outcome.metrics | reported(steps), outcome.validation)
            return addend_of(job, kind, own)

        if strategy is None:
            assert trained.result is not None
            return seal(job.tensors, trained.result, tensor_file, steps, trained.given, durable=self._durable)
        if trained.result is None:
            return seal_fields(tensor_file, addend(strategy), durable=self._durable)
        weighed = partial(addend, strategy)
        return seal(job.tensors, trained.result, tensor_file, steps, trained.given, weighed, durable=self._durable)


@dataclass(frozen=True)
class _SealedFile:
    tensor_file: Path
    hash: str
    size: int
    reported: dict[str, MetricSum]


def _file_name(task: Task) -> str:
    key = task.key
    return f"{key.experiment}.{key.round}.{key.attempt}.{key.kind}"
