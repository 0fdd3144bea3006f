"""The tasks under way at a site, experiment by experiment: each begun once, made, delivered, failed or withdrawn.

Every task goes through the same steps: permitted (the approval is proven again), once (what was made is sent again, not
made again), computed (in the sandbox). What fails leaves as a typed failure; the full text stays in the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import structlog

from archipel.site.agent.connection import ServerConnection
from archipel.site.agent.upload import deliver
from archipel.site.approval import authorisation
from archipel.site.execution import RepeatOnCohortChange, SandboxTrainer, SiteTaskStore
from archipel.site.gpus import GpuPool
from archipel.site.sandbox import WorkerTaskFailed
from archipel.site.state import StateFolder
from archipel.tasks import Compute, Handler, Idempotent, LocalUpdate, RequirePermission, check_task_of_job, failure_of
from archipel.transport import TaskAcceptedMessage, TaskFailedMessage
from archipel.vocabulary import ArchipelError, ErrorCode, Failure, Job, StorageFull, Task, TaskKey

_log = structlog.get_logger("archipel.agent")
_GONE = frozenset({ErrorCode.ROUND_CLOSED})
SPACE_WAIT_S = 5.0
"""How long to wait before a task that found the disk full is tried again."""
SENT_S = 1.0
"""How long the line of the journal that an update was sent waits for the result of its round."""


@dataclass
class Work:
    """One approved experiment at this site: its trainer, its steps, and the tasks under way."""

    job: Job
    job_hash: str
    trainer: SandboxTrainer
    handler: Handler
    running: dict[str, asyncio.Task[None]] = field(default_factory=dict)


class TasksUnderWay:
    """The work of all experiments at one site. ``beside`` runs a coroutine beside the control stream and logs its
    errors.
    """

    def __init__(
        self,
        site: StateFolder,
        store: SiteTaskStore,
        link: ServerConnection,
        beside: Callable[[Coroutine[Any, Any, Any]], None],
    ) -> None:
        self._site, self._store, self._link, self._beside = site, store, link, beside
        self._gpus = GpuPool(site.settings)
        self.work: dict[str, Work] = {}
        self.proving: dict[asyncio.Task[None], TaskKey] = {}
        """Tasks that were offered and of which it is not known yet whether they are allowed here."""
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._waits: dict[str, str] = {}

    def begin(self, task: Task) -> None:
        """Begin a task, or accept one that runs already. Never waits: neither for the proof that the task is allowed,
        which for a long job takes seconds, nor for its end.
        """
        proving = asyncio.create_task(self._begin(task))
        self.proving[proving] = task.key
        proving.add_done_callback(self._proven)

    def _proven(self, proving: asyncio.Task[None]) -> None:
        experiment = self.proving.pop(proving).experiment
        if all(offered.experiment != experiment for offered in self.proving.values()):
            self._turns.pop(experiment, None)

    async def _begin(self, task: Task) -> None:
        # In turn for each experiment: a job is read once, and what was offered later is begun later.
        async with self._failures_told(task), self._turns[task.key.experiment]:
            work, key = await self._work_of(task), str(task.key)
            running = work.running.get(key)
            if running is not None and not running.done():
                self._beside(self._met_at_work(task))
                return
            doing = work.running[key] = asyncio.create_task(self._do(task, work))
            doing.add_done_callback(lambda _: work.running.pop(key, None))

    async def _met_at_work(self, task: Task) -> None:
        """A task whose key is running already: accepted when it is the same task, refused when its content differs."""
        try:
            await asyncio.to_thread(self._store.find, task)
        except ArchipelError as error:
            await self.fail(task, failure_of(error), str(error))
            return
        except WorkerTaskFailed:
            # It failed just now, and its failure is on the way.
            return
        await self._link.send(TaskAcceptedMessage(key=task.key))

    async def _work_of(self, task: Task) -> Work:
        """The experiment's work, made when there is none. Raises as ``authorise`` does when its job is not approved."""
        experiment = task.key.experiment
        allowed = await asyncio.to_thread(authorisation.authorise, self._site, experiment, task.job_hash)
        work = self.work.get(experiment)
        if work is None or work.job_hash != task.job_hash:
            if work is not None:
                self._beside(self._close(work))
            work = self.work[experiment] = self._new_work(allowed.job, task.job_hash)
        return work

    def _new_work(self, job: Job, job_hash: str) -> Work:
        def allowed() -> authorisation.Authorisation:
            return authorisation.authorise(self._site, job.experiment, job_hash)

        def permission(task: Task) -> None:
            allowed()
            check_task_of_job(job, job_hash, task)

        trainer = SandboxTrainer(self._site, self._store, job, allowed, self._link.fetch_into, self._gpus)
        cell = self._site.settings.policy.minimum_cell
        made_here = Compute(job, self._site.name, trainer, self._site.spool, self._room, cell)
        compute = RepeatOnCohortChange(made_here, lambda: allowed().view)

        async def accepted(task: Task) -> LocalUpdate:
            await self._link.send(TaskAcceptedMessage(key=task.key))
            return await compute(task)

        handler = RequirePermission(Idempotent(accepted, self._store, self._room), permission)
        return Work(job, job_hash, trainer, handler)

    async def _do(self, task: Task, work: Work) -> None:
        """One task from its beginning to delivered update or failure."""
        async with self._failures_told(task):
            await deliver(self._site, self._store, self._link, await self._make(task, work.handler))
            self._beside(self._keep_sent())

    @contextlib.asynccontextmanager
    async def _failures_told(self, task: Task) -> AsyncIterator[None]:
        """What fails within this block leaves as a typed failure of the task."""
        try:
            yield
        except WorkerTaskFailed as error:
            await self._failed(task, error.failure, error.detail)
        except ArchipelError as error:
            if error.code not in _GONE:
                await self._failed(task, failure_of(error), str(error))
        except Exception as error:
            _log.error("task failed unexpectedly", task=str(task.key), exc_info=error)
            await self._failed(task, failure_of(error), "".join(traceback.format_exception(error)))

    async def _keep_sent(self) -> None:
        """Journal what was sent, unless the result of the round, with which it is journaled, comes in a moment."""
        await asyncio.sleep(SENT_S)
        await asyncio.to_thread(self._store.keep_sent)

    async def _room(self, task: Task, error: StorageFull) -> None:
        """Wait a little for space on a full disk; this is reported once for a task."""
        if self._waits.get(str(task.key)) != str(error):
            self._waits[str(task.key)] = str(error)
            _log.error("the task waits for disk space", task=str(task.key), error=str(error))
        await asyncio.sleep(SPACE_WAIT_S)

    async def _make(self, task: Task, handler: Handler) -> LocalUpdate:
        """The update of the task; tried again while the disk is too full to begin."""
        try:
            while True:
                try:
                    return await handler(task)
                except StorageFull as error:
                    await self._room(task, error)
        finally:
            self._waits.pop(str(task.key), None)

    async def _failed(self, task: Task, failure: Failure, detail: str) -> None:
        """The same as ``fail``, which ends all the same when the caller is cancelled: the server would wait for a task
        whose failure is stored here and was never sent.
        """
        reported = asyncio.Event()

        async def report() -> None:
            try:
                await self.fail(task, failure, detail)
            finally:
                reported.set()

        self._beside(report())
        await reported.wait()

    async def fail(self, task: Task, failure: Failure, detail: str) -> None:
        """Store that a task failed, and report it to the server; ``detail``, the full text, stays here."""
        _log.warning("task failed", task=str(task.key), code=failure.code, detail=detail[-2000:])
        try:
            await asyncio.to_thread(self._store.fail, task, failure, detail)
        except Exception as error:
            # The server must get the failure even when it cannot be stored here.
            _log.error("a failure could not be kept", task=str(task.key), error=str(error))
        await self._link.send(TaskFailedMessage(key=task.key, failure=failure))

    async def withdraw(self, key: TaskKey, reason: str) -> None:
        """The server no longer wants the task: its work ends, its worker is stopped, and it is not begun again."""
        self._cancel_proofs(lambda offered: offered == key)
        work = self.work.get(key.experiment)
        running = work.running.get(str(key)) if work else None
        if running is not None:
            _log.info("task withdrawn", task=str(key), reason=reason)
            # Before its row is changed: what is cancelled begins nothing more.
            running.cancel()
        try:
            # Before anything is awaited that a lost connection could break off. Also what does not run: its worker may
            # have died, or this agent.
            # In a task of its own: a call that still waits for its thread would be broken off too.
            await asyncio.shield(asyncio.create_task(asyncio.to_thread(self._store.withdrawn, key)))
        except StorageFull as error:
            _log.error("that a task was withdrawn could not be kept", task=str(key), error=str(error))
        if work is None or running is None:
            return
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await work.trainer.stop()

    async def renew(self, experiment: str) -> None:
        """Stop a worker that still sees a withdrawn patient; its task is done again without this patient."""
        work = self.work.get(experiment)
        if work is None:
            return
        try:
            await work.trainer.renew()
        except ArchipelError as error:
            _log.warning("nothing more runs on its cohort, worker stopped", experiment=experiment, error=str(error))
            await work.trainer.stop()
        except Exception as error:
            # Whatever the error is, other experiments are looked at too, and revocations are told.
            _log.error("a worker's cohort could not be checked, worker stopped", experiment=experiment, exc_info=error)
            await work.trainer.stop()

    def _cancel_proofs(self, of: Callable[[TaskKey], bool]) -> None:
        for proving, offered in list(self.proving.items()):
            if of(offered):
                proving.cancel()

    async def end(self, experiment: str) -> None:
        """Stop all that is under way for an experiment. A task that was just offered is refused by its proof."""
        work = self.work.pop(experiment, None)
        if work is not None:
            await self._close(work)

    async def stop(self) -> None:
        """Stop all that is under way, and begin nothing of what was just offered."""
        self._cancel_proofs(lambda _: True)
        await asyncio.gather(*self.proving, return_exceptions=True)
        for experiment in list(self.work):
            await self.end(experiment)

    async def _close(self, work: Work) -> None:
        for running in list(work.running.values()):
            running.cancel()
        await work.trainer.stop()
        await asyncio.gather(*work.running.values(), return_exceptions=True)
        await work.trainer.close()
