"""The sandboxed trainer: a model by hash in, numbers and the result's memory out, one warm worker an experiment."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path

import numpy as np
import structlog

from archipel.data import Cohort, Prepared, with_declared_columns
from archipel.plans.kept_state import divided
from archipel.plans.runtime import Outcome
from archipel.site.approval import Authorisation
from archipel.site.audit import WorkerStarted, add_entry
from archipel.site.datasets import catalog
from archipel.site.execution import preparation
from archipel.site.execution.gpu_turns import GpuTurns
from archipel.site.execution.model_cache import Fetch, ModelCache
from archipel.site.execution.specs import sandbox_spec
from archipel.site.execution.task_store import SiteTaskStore
from archipel.site.gpus import GivenGpu, GpuPool
from archipel.site.sandbox import Sandbox, SandboxedWorker, SharedBuffer, WorkerTaskFailed
from archipel.site.state import SiteJournalKind, StateFolder, sample_cache
from archipel.site.withdrawals import withdrawals
from archipel.tasks import Trained
from archipel.tensors import tensor_file_size
from archipel.vocabulary import (
    Job,
    Task,
    TaskKey,
    TaskKind,
)

_log = structlog.get_logger("archipel.training")


class SandboxTrainer:
    """Runs an experiment's tasks in its worker, one after the other; a worker that died is started again.

    ``allowed`` gives the job and cohort before each task: a worker that was given another view of the cohort than the
    one allowed now is replaced. A worker that had no task for the site's ``worker_idle_s`` is ended.

    A job that asks for a GPU waits for its turn on one of ``gpus`` before each task; the limits of time are counted
    from then on. Between tasks its frozen worker keeps the GPU's memory, and is ended when another experiment waits.
    """

    def __init__(
        self,
        site: StateFolder,
        store: SiteTaskStore,
        job: Job,
        allowed: Callable[[], Authorisation],
        fetch: Fetch,
        gpus: GpuPool | None = None,
    ) -> None:
        self._turns = GpuTurns(gpus or GpuPool(site.settings), job, self._give_up)
        self._site, self._store, self._job, self._allowed = site, store, job, allowed
        self._models = ModelCache(job, fetch, site.blobs)
        self._worker: SandboxedWorker | None = None
        self._view = ""
        self._cohort: Cohort | None = None
        self._prepared: Prepared | None = None
        self._result: SharedBuffer | None = None
        self._read: TaskKey | None = None
        self._turn = asyncio.Lock()
        self._idle: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def run(self, task: Task) -> AsyncIterator[Trained]:
        """Run the task; no other is run, and the memory of the result is not used again, before the block ends."""
        async with self._turn, self._at_work():
            if task.key.kind is TaskKind.EVALUATE:
                yield Trained(await self._done(lambda worker: self._evaluated(worker, task)))
                return
            result = self._result = self._result or SharedBuffer.create(tensor_file_size(self._job.tensors))
            # A step measures the update against the model, which is therefore kept beside it.
            model = await self._models.get(task.models[0]) if self._job.privacy.steps else result
            in_place = model is result
            state = await self._kept(task)
            if in_place:
                await self._models.copy_to(result, task.models[0])
            tries = itertools.count(1)

            async def work(worker: SandboxedWorker) -> Outcome:
                if next(tries) > 1 and in_place:
                    # The try before may have trained on it.
                    await self._models.copy_to(result, task.models[0])
                return await worker.train(task, model, result, state)

            outcome = await self._done(work)
            with result.view() as window, nullcontext() if in_place else model.view() as given:
                yield Trained(outcome, window, given)

    async def _evaluated(self, worker: SandboxedWorker, task: Task) -> Outcome:
        if len(task.models) > 1:
            if self._read == task.key:
                # Raises after so many runs as are counted.
                self._store.begin(task)
            self._read = task.key
        local, _ = divided(self._job, await self._kept(task))
        return await worker.evaluate(task, lambda number: self._models.get(task.models[number]), local)

    async def _kept(self, task: Task) -> bytes | None:
        """What this site kept for the task to start from; of the local part, where it has none yet, the initial
        values.
        """
        kept = self._store.states.kept_for(self._job, task)
        return await self._models.local() if kept is None else kept

    @asynccontextmanager
    async def _at_work(self) -> AsyncIterator[None]:
        """Within this block the worker is in use; from its end on it is idle. The caller has the turn."""
        if self._idle is not None:
            # It sleeps or waits for the turn: what it does with the turn is not broken off.
            self._idle.cancel()
        try:
            yield
        finally:
            self._idle = asyncio.create_task(self._end_when_idle())

    async def _end_when_idle(self) -> None:
        """Give the memory of worker, models and result back when no task came for long: a paused experiment's, say."""
        await asyncio.sleep(self._site.settings.worker_idle_s)
        async with self._turn:
            if self._worker is not None:
                _log.info("the idle worker is ended", experiment=self._job.experiment)
            await self._release()

    async def _done(self, work: Callable[[SandboxedWorker], Awaitable[Outcome]]) -> Outcome:
        """Do the work; a worker that died during it, which need not be the plan's fault, is replaced once.

        After each withdrawal from the cohort it is replaced again.
        """
        try:
            return await self._done_on_its_device(work)
        finally:
            self._turns.rest()

    async def _done_on_its_device(self, work: Callable[[SandboxedWorker], Awaitable[Outcome]]) -> Outcome:
        died = False
        while True:
            view = self._allowed().view
            try:
                return await work(await self._ready())
            except WorkerTaskFailed as error:
                if self._allowed().view == view:
                    if died or not error.failure.retry:
                        raise
                    died = True
                _log.warning("the task is done again", experiment=self._job.experiment, worker_died=died)

    async def renew(self) -> None:
        """End a worker whose view of the cohort is not the one allowed now; its task, if any, is done again."""
        allowed = self._allowed()
        if self._worker is not None and allowed.view != self._view:
            await self.stop()
            # What it printed until now may name who withdrew.
            await self._forget_all_but(allowed.cohort)

    async def _ready(self) -> SandboxedWorker:
        """The worker, started and prepared if there is none alive with this view of the cohort."""
        while True:
            allowed = self._allowed()
            if self._worker is not None and self._worker.alive and allowed.view == self._view and self._turns.resume():
                return self._worker
            await self.stop()
            await self._forget_all_but(allowed.cohort)
            entry = catalog.dataset(self._site.database, allowed.cohort.dataset)
            shown = with_declared_columns(allowed.cohort, allowed.job.needs)
            self._prepared = await preparation.prepared(self._site, Path(entry.root), shown)
            frozen = await self._models.frozen()
            # Only now: others need not wait for the GPU while files are prepared.
            gpu = await self._turns.claim()
            # Both may take long, and a patient may have been withdrawn meanwhile.
            if self._allowed().view == allowed.view:
                self._worker = await self._started(allowed, self._prepared, frozen, gpu)
                self._view = allowed.view

    def _give_up(self) -> Awaitable[None]:
        worker, self._worker = self._worker, None
        return _ended(worker)

    async def _started(
        self, allowed: Authorisation, prepared: Prepared, frozen: SharedBuffer | None, gpu: GivenGpu | None
    ) -> SandboxedWorker:
        """A worker that has read these files; the journal says that it was started."""
        worker = await Sandbox.start(sandbox_spec(self._site, allowed.job, allowed.cohort, prepared.files, gpu=gpu))
        try:
            with self._site.database.write() as connection:
                body = WorkerStarted(
                    experiment=self._job.experiment,
                    sandbox=worker.description,
                    cohort_hash=allowed.approval.cohort_hash,
                    subjects=len(allowed.cohort.subjects),
                )
                add_entry(connection, SiteJournalKind.WORKER_STARTED, body)
            await worker.prepare(frozen)
        except BaseException:
            await worker.kill()
            raise
        return worker

    async def _forget_all_but(self, cohort: Cohort) -> None:
        """Remove the prepared samples of subjects who are no longer in the cohort, and their ids in logs and errors: a
        worker that still had them may have written these after the withdrawal."""
        before, self._cohort = self._cohort, cohort
        if before is None or before is cohort:
            return
        left, had = cohort.samples.digests, before.samples
        gone = had.take(np.isin(had.digests, left, invert=True))
        await asyncio.to_thread(sample_cache.forget, self._site.prepared, self._site.settings.cache_mb, gone)
        out = frozenset(before.subjects).difference(cohort.subjects)
        if out:
            await asyncio.to_thread(withdrawals.hide_again, self._site, cohort.dataset, out)

    async def stop(self) -> None:
        """Kill the worker and let go of what was prepared for it."""
        worker, self._worker = self._worker, None
        prepared, self._prepared = self._prepared, None
        if worker is not None:
            await worker.kill()
        if prepared is not None:
            prepared.close()

    async def close(self) -> None:
        """Stop for good."""
        async with self._turn:
            if self._idle is not None:
                self._idle.cancel()
            await self._release()

    async def _release(self) -> None:
        await self.stop()
        self._turns.release()
        self._models.close()
        if self._result is not None:
            self._result.close()
            self._result = None


async def _ended(worker: SandboxedWorker | None) -> None:
    if worker is not None:
        await worker.kill()
