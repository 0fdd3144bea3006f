"""A rehearsal: one worker that trains and validates as for a task, with nothing sent, kept or counted as a round."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from archipel.governance import MINIMUM_CELL, job_hash
from archipel.plans.kept_state import divided
from archipel.plans.runtime import Outcome
from archipel.site.sandbox import Sandbox, SandboxedWorker, SandboxSpec, SharedBuffer
from archipel.tasks.measuring import as_they_leave
from archipel.tensors import BlobHasher, tensor_file_size
from archipel.vocabulary import Task, TaskKey, TaskKind, TrainingPass


class Rehearsal:
    """A prepared worker, and the model it works on; ``async with`` starts and ends it.

    Raises TaskFailed for what the plan does wrong, ArchipelError when there is no sandbox.
    """

    worker: SandboxedWorker
    started_s: float
    prepared_s: float

    def __init__(self, spec: SandboxSpec) -> None:
        self._spec, self._job = spec, spec.job
        self._result = SharedBuffer.create(tensor_file_size(spec.job.tensors))
        self._model: SharedBuffer | None = None
        self._state: bytes | None = None
        self._local: bytes | None = None

    async def __aenter__(self) -> Self:
        began = time.monotonic()
        self.worker = await Sandbox.start(self._spec)
        self.started_s = time.monotonic() - began
        try:
            await self.worker.prepare()
        except BaseException:
            await self.worker.kill()
            raise
        self.prepared_s = time.monotonic() - began - self.started_s
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.worker.kill()
        self._result.close()
        if self._model is not None:
            self._model.close()

    async def begin(self) -> bool:
        """Take the job's initial model, made by the plan itself; whether it is the one that the job names."""
        job = self._job
        parts = [part for part in (job.frozen, job.local) if part is not None]
        beside = [SharedBuffer.create(tensor_file_size(part.tensors)) for part in parts]
        try:
            await self.worker.begin(self._result, *beside)
            self.take_result()
            assert self._model is not None
            if job.local is not None:
                with beside[-1].view() as window:
                    self._local = bytes(window)
            return tuple(_hash(one) for one in (self._model, *beside)) == job.starting_blobs
        finally:
            for one in beside:
                one.close()

    def take_result(self) -> None:
        """From now on the model is the one that was trained last."""
        with self._result.view() as window:
            trained = SharedBuffer.holding(bytes(window))
        if self._model is not None:
            self._model.close()
        self._model = trained

    async def train(self, round_: int, kind: TaskKind = TaskKind.TRAIN, passes: int = 1) -> Outcome:
        """Train the model in one pass or more, and keep what the site keeps where the job does."""
        assert self._model is not None
        kept = self._state if kind is TaskKind.TRAIN and self._job.keeps_state else None
        state = self._local if kept is None else kept
        outcome = await self.worker.train(self._task(round_, kind, passes), self._model, self._result, state)
        self._state = outcome.state
        return as_they_leave(self._job, kind, outcome, MINIMUM_CELL)

    async def evaluate(self) -> Outcome:
        """Validate the model."""

        async def model(_number: int) -> SharedBuffer:
            assert self._model is not None
            return self._model

        local, _ = divided(self._job, self._local if self._state is None else self._state)
        outcome = await self.worker.evaluate(self._task(0, TaskKind.EVALUATE, 0), model, local)
        return as_they_leave(self._job, TaskKind.EVALUATE, outcome, MINIMUM_CELL)

    def peak_mib(self) -> float:
        """The most memory that the worker's own process has had; 0 where it cannot be read."""
        with contextlib.suppress(OSError, ValueError, StopIteration):
            lines = Path(f"/proc/{self.worker.main}/status").read_text().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
        return 0.0

    def _task(self, round_: int, kind: TaskKind, passes: int) -> Task:
        key = TaskKey(experiment=self._job.experiment, round=round_, kind=kind)
        given = tuple(TrainingPass(round=round_ + number, arguments=self._job.arguments) for number in range(passes))
        return Task(key=key, job_hash=job_hash(self._job), models=(self._job.initial_model,), passes=given)


def _hash(buffer: SharedBuffer) -> str:
    hasher = BlobHasher()
    with buffer.view() as window:
        hasher.update(window)
    return hasher.digest()
