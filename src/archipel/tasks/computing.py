"""Compute: the innermost handler. The plan trains somewhere, its result is sealed into a tensor file of the site's own.

The steps that the job's privacy terms name change the update while it is sealed; see ``sealing``.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from archipel.governance import record_hash
from archipel.plans.runtime import Outcome
from archipel.privacy import Step, steps_of
from archipel.rounds import check_releases, check_what_leaves
from archipel.tasks.handling import LocalUpdate, WaitForSpace, no_waiting
from archipel.tasks.sealing import seal
from archipel.vocabulary import Job, MetricSum, StorageFull, Task, TaskKind, Update


@dataclass(frozen=True)
class Trained:
    """What came back from where the plan runs: numbers, and the result's memory (None for an evaluation).

    ``given`` is the tensor file of the model that was trained. ``release`` gives the memory of both back; it is called
    once the result is sealed.
    """

    outcome: Outcome
    result: memoryview | None
    release: Callable[[], None]
    given: memoryview | None = None


class Trainer(Protocol):
    """Where the plan runs: a sandboxed worker, or this process in a simulation."""

    async def run(self, task: Task) -> Trained:
        """Run the task on the cohort. Raises ArchipelError."""


class Compute:
    """Run the task and seal its result into ``folder``; on a full disk the result waits for ``wait_for_space`` in
    memory.
    """

    def __init__(
        self, job: Job, site: str, trainer: Trainer, folder: Path, wait_for_space: WaitForSpace = no_waiting
    ) -> None:
        self._job, self._site, self._trainer, self._folder, self._wait_for_space = (
            job,
            site,
            trainer,
            folder,
            wait_for_space,
        )

    async def __call__(self, task: Task) -> LocalUpdate:
        """Train or evaluate, and make the update."""
        check_releases(self._job)
        steps = steps_of(self._job)
        began = time.monotonic()
        trained = await self._trainer.run(task)
        tensor_file, model, size = None, None, 0
        reported: dict[str, MetricSum] = {}
        try:
            try:
                if task.key.kind is not TaskKind.EVALUATE and trained.result is not None:
                    tensor_file = self._folder / f"{_file_name(task)}.{os.urandom(8).hex()}.safetensors"
                    model, reported = await self._sealed(task, trained, steps, tensor_file)
                    size = trained.result.nbytes
            finally:
                trained.release()
            update = Update(
                key=task.key,
                site=self._site,
                task_hash=record_hash(task),
                model=model,
                model_bytes=size,
                samples=trained.outcome.samples,
                metrics=trained.outcome.metrics | reported,
                validation=trained.outcome.validation,
                seconds=time.monotonic() - began,
            )
            check_what_leaves(self._job, update)
        except BaseException:
            if tensor_file is not None:
                tensor_file.unlink(missing_ok=True)
            raise
        return LocalUpdate(update, tensor_file, trained.outcome.state)

    async def _sealed(
        self, task: Task, trained: Trained, steps: Sequence[Step], tensor_file: Path
    ) -> tuple[str, dict[str, MetricSum]]:
        result, schema = trained.result, self._job.update_schema
        assert result is not None
        while True:
            sealing = asyncio.ensure_future(asyncio.to_thread(seal, schema, result, tensor_file, steps, trained.given))
            try:
                digest = await asyncio.shield(sealing)
                return digest, {name: value for step in steps for name, value in step.report().items()}
            except StorageFull as error:
                await self._wait_for_space(task, error)
                # What a step measured of the try before counts no more.
                steps = steps_of(self._job)
            except asyncio.CancelledError:
                # The thread still reads the memory that is given back next.
                await asyncio.wait({sealing})
                _ = sealing.exception()
                raise


def _file_name(task: Task) -> str:
    key = task.key
    return f"{key.experiment}.{key.round}.{key.attempt}.{key.kind}"
