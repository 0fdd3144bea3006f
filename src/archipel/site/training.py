"""The sandboxed trainer: a model by hash in, numbers and the result's memory out, one warm worker an experiment."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Protocol

import structlog

from archipel.plans.runtime import Outcome
from archipel.site import catalog, journal
from archipel.site.approvals import Allowed
from archipel.site.sandbox import Sandbox, SandboxedWorker, SandboxSpec, SharedFrame, TaskFailed
from archipel.site.shelf import SiteShelf
from archipel.site.state import SiteState
from archipel.tasks import Trained
from archipel.tensors import BlobHasher, check_header, frame_size
from archipel.vocabulary import BadInput, ErrorCode, Job, OptimiserState, Task, TaskKind

_log = structlog.get_logger("archipel.training")


class Fetch(Protocol):
    """How a blob's bytes come from the server."""

    def __call__(self, blob: str) -> AsyncIterator[bytes]:
        """The blob's chunks. Raises ArchipelError."""


class ModelCache:
    """Models of one experiment in sealed shared memory, by hash: fetched once, given to the worker as they are.

    Keeps as many as the ensemble of all sites needs.
    """

    def __init__(self, job: Job, fetch: Fetch) -> None:
        self._job, self._fetch = job, fetch
        self._frames: OrderedDict[str, SharedFrame] = OrderedDict()
        self._most = 2 + (len(job.sites) if job.baselines.local else 0)

    async def get(self, blob: str) -> SharedFrame:
        """The model's frame. Raises BadInput when its bytes are not those of the hash or not the job's tensors."""
        if blob in self._frames:
            self._frames.move_to_end(blob)
            return self._frames[blob]
        if len(self._frames) >= self._most:
            frame = self._emptied()
        else:
            frame = SharedFrame.create(frame_size(self._job.tensors))
        try:
            await self._fill(frame, blob)
            frame.seal()
            with frame.view() as window:
                check_header(self._job.tensors, window)
        except BaseException:
            frame.close()
            raise
        self._frames[blob] = frame
        return frame

    def _emptied(self) -> SharedFrame:
        """The frame that was not asked for the longest, to be filled anew; the worker is at no task now."""
        frame = self._frames.popitem(last=False)[1]
        frame.reuse()
        return frame

    async def _fill(self, frame: SharedFrame, blob: str) -> None:
        hasher, position = BlobHasher(), 0
        async for chunk in self._fetch(blob):
            if position + len(chunk) > frame.size:
                raise BadInput(f"model {blob}", f"has more than {frame.size} bytes", "the job's model has another size")
            frame.write(chunk, position)
            hasher.update(chunk)
            position += len(chunk)
        if hasher.digest() != blob:
            raise BadInput(f"model {blob}", "arrived with other bytes", "it is fetched again", code=ErrorCode.LOST)

    def close(self) -> None:
        """Give the memory back."""
        for frame in self._frames.values():
            frame.close()
        self._frames.clear()


class SandboxTrainer:
    """Runs an experiment's tasks in its worker, one after the other; a worker that died is started again.

    ``allowed`` is asked for the job and cohort when a worker starts, so that it never runs on an older approval.
    """

    def __init__(
        self, site: SiteState, shelf: SiteShelf, job: Job, allowed: Callable[[], Allowed], fetch: Fetch
    ) -> None:
        self._site, self._shelf, self._job, self._allowed = site, shelf, job, allowed
        self._models = ModelCache(job, fetch)
        self._worker: SandboxedWorker | None = None
        self._result: SharedFrame | None = None
        self._turn = asyncio.Lock()

    async def run(self, task: Task) -> Trained:
        """Run the task; the result's memory is the caller's until it is released."""
        await self._turn.acquire()
        try:
            models = [await self._models.get(model) for model in task.models]
            if task.key.kind is TaskKind.EVALUATE:
                outcome = await self._twice(lambda worker: worker.evaluate(task, models))
                self._turn.release()
                return Trained(outcome, None, release=lambda: None)
            if self._result is None:
                self._result = SharedFrame.create(frame_size(self._job.tensors))
            result = self._result
            state = None
            if task.key.kind is TaskKind.TRAIN and self._job.optimiser_state is OptimiserState.CONTINUE_LOCAL:
                state = self._shelf.last_state(task.key.experiment, task.key.round)
            outcome = await self._twice(lambda worker: worker.train(task, models[0], result, state))
            window = result.view()
        except BaseException:
            if self._turn.locked():
                self._turn.release()
            raise

        def release() -> None:
            window.release()
            self._turn.release()

        return Trained(outcome, window, release)

    async def _twice(self, work: Callable[[SandboxedWorker], Awaitable[Outcome]]) -> Outcome:
        """Do the work; a worker that died under it, which says nothing of the plan, is replaced once."""
        try:
            return await work(await self._ready())
        except TaskFailed as error:
            if not error.failure.retry:
                raise
            _log.warning("the worker died and its task is done again", experiment=self._job.experiment)
        return await work(await self._ready())

    async def _ready(self) -> SandboxedWorker:
        """The worker, started and prepared if there is none alive."""
        if self._worker is not None and self._worker.alive:
            return self._worker
        allowed = self._allowed()
        entry = catalog.dataset(self._site, allowed.cohort.dataset)
        spec = SandboxSpec(
            job=allowed.job,
            site=self._site.name,
            plan_file=self._site.blobs.path(allowed.job.plan.hash),
            class_name=allowed.job.plan.class_name,
            dataset_root=Path(entry.root),
            cohort=allowed.cohort,
            limits=allowed.job.limits,
            mode=self._site.settings.sandbox.value,
            log_path=self._site.logs / f"{allowed.job.experiment}.log",
            state_folder=self._site.folder,
            uid_base=self._site.settings.uid_base,
        )
        worker = await Sandbox.start(spec)
        with self._site.database.write() as connection:
            body = {"experiment": self._job.experiment, "sandbox": worker.description}
            journal.append(connection, "worker-started", body)
        try:
            await worker.prepare()
        except BaseException:
            await worker.kill()
            raise
        self._worker = worker
        return worker

    async def stop(self) -> None:
        """Kill the worker and give its memory back."""
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.kill()

    async def close(self) -> None:
        """Stop for good."""
        await self.stop()
        self._models.close()
        if self._result is not None:
            self._result.close()
            self._result = None
