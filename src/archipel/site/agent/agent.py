"""The agent: what a site does with each message of its server, each decision of its people, and nothing else.

Every task goes through the same steps: permitted (the approval is proven again), once (what was made is sent again, not
made again), computed (in the sandbox). What fails leaves as a typed failure; the full text stays in the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import structlog

from archipel.governance import JournalHead, closed_is_signed_by
from archipel.plans.files import LARGEST_PLAN
from archipel.plans.source import plan_text
from archipel.site.agent.connection import ServerConnection
from archipel.site.agent.reporting import StatusReporting
from archipel.site.agent.upload import deliver
from archipel.site.approval import OfferState, authorisation, offers
from archipel.site.audit import journal, journal_heads
from archipel.site.execution import RepeatOnCohortChange, SandboxTrainer, SiteTaskStore
from archipel.site.sandbox import WorkerTaskFailed
from archipel.site.state import StateFolder
from archipel.site.withdrawn import opt_outs, register
from archipel.tasks import Compute, Handler, Idempotent, LocalUpdate, RequirePermission, check_task_of_job, failure_of
from archipel.transport import (
    EndedMessage,
    FromServer,
    Heartbeat,
    JobOffer,
    RoundMessage,
    TaskAcceptedMessage,
    TaskFailedMessage,
    TaskOffer,
    TaskWithdrawn,
    Welcome,
)
from archipel.transport.messages import Document
from archipel.vocabulary import ArchipelError, ErrorCode, Failure, Job, Refused, StorageFull, Task, TaskKey

_log = structlog.get_logger("archipel.agent")
_GONE = frozenset({ErrorCode.ROUND_CLOSED})
SPACE_WAIT_S = 5.0
"""How long to wait before a task that found the disk full is tried again."""


@dataclass
class _Work:
    """One approved experiment at this site: its trainer, its steps, and the tasks under way."""

    job: Job
    job_hash: str
    trainer: SandboxTrainer
    handler: Handler
    running: dict[str, asyncio.Task[None]] = field(default_factory=dict)


class Agent:
    """One site's agent over one link."""

    def __init__(self, site: StateFolder, link: ServerConnection) -> None:
        self.site, self.link = site, link
        self.reporting = StatusReporting(site, link)
        self._store = SiteTaskStore(site)
        self._work: dict[str, _Work] = {}
        self._listed: tuple[opt_outs.OptOutLine, ...] = ()
        self._aside: set[asyncio.Task[Any]] = set()
        self._offering = asyncio.Lock()
        self._waits: dict[str, str] = {}

    def start(self) -> None:
        """Sweep what a crash left, and plans whose bytes are not what was offered: those are fetched again."""
        self._store.sweep()
        self.site.blobs.sweep(offers.whole_plans(self.site.database, self.site.blobs))

    async def stop(self) -> None:
        """Stop all work; the database holds what is to be gone on with."""
        for experiment in list(self._work):
            await self._end_work(experiment)

    # What the server says

    async def take(self, message: FromServer) -> None:
        """Act on one message. Never waits for a task to finish."""
        match message:
            case Welcome(attested=attested, head=head, contains=contains):
                self.reporting.connected()
                await asyncio.to_thread(self._heard, head, attested, contains)
                if attested is not None:
                    await asyncio.to_thread(self._check_attested, JournalHead.model_validate(attested))
                self._beside(self.decided())
            case Heartbeat(attested=attested, head=head):
                await asyncio.to_thread(self._heard, head, attested)
            case JobOffer(job=job, asked_by=asked_by):
                self._beside(self._offered(job, asked_by))
            case TaskOffer(task=task):
                self._begin(task)
            case TaskWithdrawn(key=key, reason=reason):
                await self._withdraw(key, reason)
            case RoundMessage():
                await asyncio.to_thread(self._settle, message)
            case EndedMessage(experiment=experiment, state=state):
                await self._ended(experiment, state)
            case _:
                pass

    def _heard(self, head: Document | None, attested: Document | None, contains: bool | None = None) -> None:
        """Keep the heads of both journals; what cannot be kept now comes again and must not break the connection."""
        try:
            journal_heads.record_seen(self.site, head, attested, contains)
        except ArchipelError as error:
            _log.error("heads that the server sent were not kept", error=str(error))

    def _check_attested(self, attested: JournalHead) -> None:
        """The server remembers this head of our journal; if it is not in it, the journal was cut or rewritten here."""
        if not journal_heads.is_receipt(self.site.joined().server_key, self.site.name, attested):
            return
        found = journal.verify(self.site, [attested])
        if not found.whole:
            _log.error("this site's journal is not intact", problems=list(found.problems)[:5])

    def _beside(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do something beside the control stream; an error in it is logged, not lost."""

        def done(task: asyncio.Task[Any]) -> None:
            self._aside.discard(task)
            if not task.cancelled() and task.exception() is not None:
                error = task.exception()
                _log.error("failed beside the control stream", error=str(error), exc_info=error)

        task = asyncio.create_task(work)
        self._aside.add(task)
        task.add_done_callback(done)

    async def _offered(self, job: Job, asked_by: str = "") -> None:
        # One at a time: whether there is room for another offer is known when the one before is kept.
        async with self._offering:
            await asyncio.to_thread(offers.check_offer, self.site, job)
            await self._fetch_plan(job)
            await asyncio.to_thread(offers.record, self.site, job, asked_by)
        await self.decided()

    async def _fetch_plan(self, job: Job) -> None:
        """Fetch the files of the plan that are not here yet; all together may be as large as a plan."""
        left = LARGEST_PLAN
        for path in job.plan.paths:
            blob = job.plan.files[path]
            left -= (
                self.site.blobs.size(blob) if self.site.blobs.has(blob) else await self._fetch_file(path, blob, left)
            )
            if left < 0:
                cause = f"its plan has more than {LARGEST_PLAN} bytes"
                raise Refused(f"experiment {job.experiment}", cause, "the offer was not stored")

    async def _fetch_file(self, path: str, blob: str, most: int) -> int:
        """Fetch and keep one file of a plan, if it has at most so many bytes; how many came."""
        with self.site.blobs.writer() as writer:
            source = bytearray()
            async with contextlib.aclosing(self.link.fetch(blob)) as chunks:
                async for chunk in chunks:
                    source += chunk
                    if len(source) > most:
                        return len(source)
                    writer.write(chunk)
            plan_text(bytes(source), path)
            writer.commit(blob)
            return len(source)

    def _begin(self, task: Task) -> None:
        work = self._work_of(task)
        key = str(task.key)
        running = work.running.get(key) if work is not None else None
        if running is not None and not running.done():
            self._beside(self._met_at_work(task))
            return
        doing = asyncio.create_task(self._do(task, work))
        if work is not None:
            work.running[key] = doing
            doing.add_done_callback(lambda _: work.running.pop(key, None))
        else:
            self._aside.add(doing)
            doing.add_done_callback(self._aside.discard)

    async def _met_at_work(self, task: Task) -> None:
        """An offer whose key is at work: accepted when it is the same task, refused when its content is another."""
        try:
            await asyncio.to_thread(self._store.find, task)
        except ArchipelError as error:
            await self._failed(task, failure_of(error), str(error))
            return
        await self.link.send(TaskAcceptedMessage(key=task.key))

    def _work_of(self, task: Task) -> _Work | None:
        """The experiment's work; made when its job is approved here, None when it is not."""
        experiment = task.key.experiment
        try:
            allowed = authorisation.authorise(self.site, experiment, task.job_hash)
        except ArchipelError:
            return None
        work = self._work.get(experiment)
        if work is None or work.job_hash != task.job_hash:
            if work is not None:
                self._beside(self._close(work))
            work = self._work[experiment] = self._new_work(allowed.job, task.job_hash)
        return work

    def _new_work(self, job: Job, job_hash: str) -> _Work:
        def allowed() -> authorisation.Authorisation:
            return authorisation.authorise(self.site, job.experiment, job_hash)

        def permission(task: Task) -> None:
            allowed()
            check_task_of_job(job, job_hash, task)

        trainer = SandboxTrainer(self.site, self._store, job, allowed, self.link.fetch)
        made_here = Compute(job, self.site.name, trainer, self.site.spool, self._room)
        compute = RepeatOnCohortChange(made_here, lambda: allowed().view)

        async def accepted(task: Task) -> LocalUpdate:
            await self.link.send(TaskAcceptedMessage(key=task.key))
            return await compute(task)

        handler = RequirePermission(Idempotent(accepted, self._store, self._room), permission)
        return _Work(job, job_hash, trainer, handler)

    async def _do(self, task: Task, work: _Work | None) -> None:
        """One task from offer to delivered update or failure."""
        try:
            if work is None:
                authorisation.authorise(self.site, task.key.experiment, task.job_hash)
                return
            await deliver(self.site, self._store, self.link, await self._make(task, work.handler))
        except WorkerTaskFailed as error:
            await self._failed(task, error.failure, error.detail)
        except ArchipelError as error:
            if error.code not in _GONE:
                await self._failed(task, failure_of(error), str(error))
        except Exception as error:
            _log.error("task failed unexpectedly", task=str(task.key), exc_info=error)
            await self._failed(task, failure_of(error), "".join(traceback.format_exception(error)))

    async def _room(self, task: Task, error: StorageFull) -> None:
        """Wait a little for room on a full disk; what is in the way is said once for a task."""
        if self._waits.get(str(task.key)) != str(error):
            self._waits[str(task.key)] = str(error)
            _log.error("the task waits for disk space", task=str(task.key), error=str(error))
        await asyncio.sleep(SPACE_WAIT_S)

    async def _make(self, task: Task, handler: Handler) -> LocalUpdate:
        """What was made for the task; tried again while the disk has no room even to begin."""
        try:
            while True:
                try:
                    return await handler(task)
                except StorageFull as error:
                    await self._room(task, error)
        finally:
            self._waits.pop(str(task.key), None)

    async def _failed(self, task: Task, failure: Failure, detail: str) -> None:
        _log.warning("task failed", task=str(task.key), code=failure.code, detail=detail[:2000])
        try:
            await asyncio.to_thread(self._store.fail, task, failure, detail)
        except StorageFull as error:
            # The server must learn of the failure even when it cannot be written down here.
            _log.error("a failure could not be kept", task=str(task.key), error=str(error))
        await self.link.send(TaskFailedMessage(key=task.key, failure=failure))

    async def _withdraw(self, key: TaskKey, reason: str) -> None:
        work = self._work.get(key.experiment)
        running = work.running.get(str(key)) if work else None
        if work is None or running is None:
            return
        _log.info("task withdrawn", task=str(key), reason=reason)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await work.trainer.stop()
        try:
            await asyncio.to_thread(self._store.withdrawn, key)
        except StorageFull as error:
            _log.error("that a task was withdrawn could not be kept", task=str(key), error=str(error))

    def _settle(self, message: RoundMessage) -> None:
        closed, server_key = message.closed, self.site.joined().server_key
        head = JournalHead.model_validate(message.head)
        if not closed_is_signed_by(server_key, closed, message.signature) or not journal_heads.is_of_server(
            server_key, head
        ):
            _log.error("a round result without the server's signature was ignored", task=str(closed.key))
            return
        receipt = JournalHead.model_validate(message.attested) if message.attested else None
        if receipt is not None and not journal_heads.is_receipt(server_key, self.site.name, receipt):
            receipt = None
        self._store.settle(closed, head, receipt)

    async def _ended(self, experiment: str, state: str) -> None:
        await self._end_work(experiment)
        try:
            offer = await asyncio.to_thread(offers.offered, self.site.database, experiment)
            if offer.state is not OfferState.ENDED:
                await asyncio.to_thread(self._store.forget, experiment)
                await asyncio.to_thread(offers.end, self.site.database, experiment, state)
        except ArchipelError as error:
            # The server says it again at the next connection.
            _log.info("the end of an experiment was not noted", experiment=experiment, error=str(error))

    async def _end_work(self, experiment: str) -> None:
        work = self._work.pop(experiment, None)
        if work is not None:
            await self._close(work)

    async def _close(self, work: _Work) -> None:
        for running in list(work.running.values()):
            running.cancel()
        await work.trainer.stop()
        await asyncio.gather(*work.running.values(), return_exceptions=True)
        await work.trainer.close()

    # What the people here decide

    async def decided(self) -> None:
        """Look at the database: stop what was revoked, then tell the server what is new.

        Telling may take long or fail, and so may looking at one experiment: neither holds up a revocation.
        """
        stopped = {experiment: await self._stop_revoked(experiment) for experiment in list(self._work)}
        for experiment in list(self._work):
            await self._narrowed(experiment)
        for experiment, keys in stopped.items():
            await self._tell_revoked(experiment, keys)
        await self.reporting.report()
        await asyncio.to_thread(self._look_at_opt_outs)

    def _look_at_opt_outs(self) -> None:
        """Log once for each opt-out list which of its lines match nobody: the numbers, for logs are copied easily."""
        listed = opt_outs.listed(self.site.folder)
        if listed == self._listed:
            return
        self._listed = listed
        unmatched = register.unmatched(self.site)
        if unmatched:
            _log.warning(
                "lines of opt-out.txt match no subject in any dataset of this site",
                unmatched=opt_outs.in_words(unmatched),
            )

    async def _narrowed(self, experiment: str) -> None:
        """Stop a worker that still sees somebody who was withdrawn; what it was at is done again without them."""
        work = self._work.get(experiment)
        if work is None:
            return
        try:
            await work.trainer.renew()
        except ArchipelError as error:
            _log.warning("nothing more runs on its cohort, worker stopped", experiment=experiment, error=str(error))
            await work.trainer.stop()

    async def _stop_revoked(self, experiment: str) -> list[str]:
        """Stop the worker at once unless its experiment is approved; the keys of the tasks it was at."""
        try:
            if (await asyncio.to_thread(offers.offered, self.site.database, experiment)).state is OfferState.APPROVED:
                return []
        except StorageFull as error:
            # Says nothing about the approval, which is proven again before each task.
            _log.error("could not check for a revocation", experiment=experiment, error=str(error))
            return []
        except Exception as error:
            _log.error("an experiment's row cannot be read and allows nothing", experiment=experiment, exc_info=error)
        work = self._work.get(experiment)
        keys = list(work.running) if work is not None else []
        await self._end_work(experiment)
        _log.warning("approval withdrawn, worker stopped", experiment=experiment)
        return keys

    async def _tell_revoked(self, experiment: str, keys: list[str]) -> None:
        """Say so for each task that the stopped worker was at."""
        failure = Failure(code=ErrorCode.REVOKED, sentence="the site withdrew its approval")
        for task in await asyncio.to_thread(self._store.unfinished, experiment) if keys else ():
            if str(task.key) in keys:
                await self._failed(task, failure, "the approval was withdrawn while the task ran")
