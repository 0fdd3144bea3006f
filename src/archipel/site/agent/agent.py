"""The agent: what a site does with each message of its server, each decision of its people, and nothing else.

The tasks themselves are in ``tasks_under_way``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any

import structlog

from archipel.governance import JournalHead, closed_is_signed_by
from archipel.plans.files import LARGEST_PLAN
from archipel.plans.source import plan_text
from archipel.site.agent.connection import ServerConnection
from archipel.site.agent.reporting import StatusReporting
from archipel.site.agent.tasks_under_way import TasksUnderWay
from archipel.site.approval import offers
from archipel.site.audit import journal, journal_heads
from archipel.site.execution import SiteTaskStore
from archipel.site.state import OfferState, StateFolder, stages
from archipel.site.withdrawn import opt_outs, register, spellings
from archipel.transport import (
    EndedMessage,
    FromServer,
    Heartbeat,
    JobOffer,
    RoundMessage,
    TaskOffer,
    TaskWithdrawn,
    Welcome,
)
from archipel.transport.messages import Document
from archipel.vocabulary import ArchipelError, ErrorCode, Failure, Refused, StorageFull, Thing
from archipel.vocabulary.bounds import LONGEST_JOB

_log = structlog.get_logger("archipel.agent")

SHORT_JOB = 256 << 10
"""Bytes of a job that is read in a tenth of a second: some 4,000 tensors."""


class Agent:
    """One site's agent over one link."""

    def __init__(self, site: StateFolder, link: ServerConnection) -> None:
        self.site, self.link = site, link
        self.reporting = StatusReporting(site, link)
        self._store = SiteTaskStore(site)
        self.tasks = TasksUnderWay(site, self._store, link, self._beside)
        self._listed: tuple[opt_outs.OptOutLine, ...] = ()
        self._aside: set[asyncio.Task[Any]] = set()
        self._turns = (asyncio.Lock(), SHORT_JOB), (asyncio.Lock(), LONGEST_JOB)
        self._keeping = asyncio.Lock()
        self._stopped: list[tuple[str, str]] = []

    def start(self) -> None:
        """Sweep what a crash left, also files of its workers, and plans whose bytes are not what was offered: those are
        fetched again."""
        self._store.sweep()
        stages.sweep(self.site.folder)
        self.site.blobs.sweep(offers.kept_blobs(self.site.database, self.site.blobs))

    async def stop(self) -> None:
        """Stop all work; the database has what is to be continued."""
        await self.tasks.stop()
        await asyncio.to_thread(self._store.keep_sent)

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
            case JobOffer():
                self._beside(self._offered(message))
            case TaskOffer(task=task):
                self.tasks.begin(task)
            case TaskWithdrawn(key=key, reason=reason):
                await self.tasks.withdraw(key, reason)
            case RoundMessage():
                await asyncio.to_thread(self._settle, message)
            case EndedMessage(experiment=experiment, state=state):
                await self._ended(experiment, state)
            case _:
                pass

    def _heard(self, head: Document | None, attested: Document | None, contains: bool | None = None) -> None:
        """Keep the heads of both journals; what cannot be kept now comes again, and must not break the connection."""
        try:
            journal_heads.record_seen(self.site, head, attested, contains)
        except ArchipelError as error:
            _log.error("heads that the server sent were not kept", error=str(error))

    def _check_attested(self, attested: JournalHead) -> None:
        """The server keeps this head of the site's journal; if the journal lacks it, it was cut or rewritten here."""
        if not journal_heads.is_receipt(self.site.joined().server_key, self.site.name, attested):
            return
        found = journal.verify(self.site, [attested])
        if not found.whole:
            _log.error("this site's journal is not intact", problems=list(found.problems)[:5])

    def _beside(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run something beside the control stream; its error is logged, not lost."""

        def done(task: asyncio.Task[Any]) -> None:
            self._aside.discard(task)
            if not task.cancelled() and task.exception() is not None:
                error = task.exception()
                _log.error("failed beside the control stream", error=str(error), exc_info=error)

        task = asyncio.create_task(work)
        self._aside.add(task)
        task.add_done_callback(done)

    async def _offered(self, offer: JobOffer) -> None:
        # A long job takes seconds to read. The long ones wait for each other, and the short ones for none of them.
        for turn, longest in self._turns:
            async with turn:
                if await self._known(offer) or await self._kept(offer, longest):
                    await self.decided()
                    return
        cause = f"its job has more than {LONGEST_JOB} bytes"
        raise Refused(Thing("experiment", offer.experiment), cause, "it was not taken on")

    async def _known(self, offer: JobOffer) -> bool:
        """Whether this very job is here already; what is missing of its plan is fetched then."""
        plan = await asyncio.to_thread(offers.known_plan, self.site.database, offer.experiment, offer.job_hash)
        if plan is None:
            return False
        async with self._keeping:
            await self._fetch_plan(offer.experiment, plan)
        await asyncio.to_thread(offers.note_asker, self.site.database, offer.experiment, offer.asked_by)
        return True

    async def _kept(self, offer: JobOffer, longest: int) -> bool:
        """Fetch, check and keep a job that is not here; False if it has more than ``longest`` bytes."""
        document = await self.link.fetch(offer.job_hash, longest)
        if document is None:
            return False
        job = await asyncio.to_thread(offers.read_offer, offer.experiment, offer.job_hash, document)
        # One at a time: whether another offer fits is known when the one before is kept.
        async with self._keeping:
            await asyncio.to_thread(offers.check_offer, self.site, job, document)
            await self._fetch_plan(offer.experiment, job.plan.files)
            await asyncio.to_thread(offers.check_packages, self.site.blobs, job)
            await asyncio.to_thread(offers.record, self.site, job, offer.asked_by, document=document)
        return True

    async def _fetch_plan(self, experiment: str, files: Mapping[str, str]) -> None:
        """Fetch the files of a plan (blobs by path) that are not here yet; all together may be as large as a plan."""
        left = LARGEST_PLAN
        for path, blob in sorted(files.items()):
            left -= (
                self.site.blobs.size(blob) if self.site.blobs.has(blob) else await self._fetch_file(path, blob, left)
            )
            if left < 0:
                cause = f"its plan has more than {LARGEST_PLAN} bytes"
                raise Refused(Thing("experiment", experiment), cause, "the offer was not stored")

    async def _fetch_file(self, path: str, blob: str, most: int) -> int:
        """Fetch and keep one file of a plan, if it has at most ``most`` bytes; how many it has, or one more."""
        source = await self.link.fetch(blob, most)
        if source is None:
            return most + 1
        # Aside: a text of a megabyte may take seconds, and a revocation must not wait for it.
        await asyncio.to_thread(plan_text, source, path)
        self.site.blobs.put(source, blob)
        return len(source)

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
        await self.tasks.end(experiment)
        try:
            offer = await asyncio.to_thread(offers.offered, self.site.database, experiment)
            if offer.state is not OfferState.ENDED:
                await asyncio.to_thread(self._store.forget, experiment)
                await asyncio.to_thread(offers.end, self.site.database, experiment, state)
                await asyncio.to_thread(offers.drop_frozen_part, self.site, experiment)
        except ArchipelError as error:
            # The server repeats it at the next connection.
            _log.info("the end of an experiment was not noted", experiment=experiment, error=str(error))

    # What the people here decide

    async def decided(self) -> None:
        """Read the database: stop what was revoked, then report what is new to the server.

        Reporting may take long or fail, and so may one experiment's check: neither delays a revocation.
        """
        for experiment in list(self.tasks.work):
            stopped = await self._stop_revoked(experiment)
            # Looked up after the wait: this may run twice at the same time, and what the other adds must stay.
            self._stopped += stopped
        for experiment in list(self.tasks.work):
            await self.tasks.renew(experiment)
        await self._tell_revoked()
        await self.reporting.report()
        await asyncio.to_thread(self._look_at_opt_outs)

    def _look_at_opt_outs(self) -> None:
        """Log once for each opt-out list which of its lines match no subject: only their numbers, because logs are
        often copied.
        """
        listed = opt_outs.listed(self.site.folder)
        if listed == self._listed:
            return
        self._listed = listed
        unmatched = register.unmatched(self.site)
        if unmatched:
            _log.warning(
                "lines of opt-out.txt match no subject in any dataset of this site",
                unmatched=opt_outs.line_ranges(unmatched),
            )
        also = sorted({line for line, _ in spellings.of_lines(self.site)})
        if also:
            _log.warning(
                "patients of opt-out.txt may be in a dataset under another id; archipel site status says which",
                lines=opt_outs.line_ranges(also),
            )

    async def _stop_revoked(self, experiment: str) -> list[tuple[str, str]]:
        """Stop the worker at once unless its experiment is approved; the experiment with each key of a running task."""
        try:
            offer = await asyncio.to_thread(offers.offered, self.site.database, experiment)
            # A job that cannot be read any more allows nothing.
            if offer.state is OfferState.APPROVED and await asyncio.to_thread(lambda: offer.job) is not None:
                return []
        except StorageFull as error:
            # Says nothing about the approval, which is proven again before each task.
            _log.error("could not check for a revocation", experiment=experiment, error=str(error))
            return []
        except Exception as error:
            _log.error("an experiment's row cannot be read and allows nothing", experiment=experiment, exc_info=error)
        work = self.tasks.work.get(experiment)
        keys = list(work.running) if work is not None else []
        try:
            await self.tasks.end(experiment)
        except Exception as error:
            # The server must learn it all the same, and other experiments are looked at.
            _log.error("a worker was not ended in good order", experiment=experiment, exc_info=error)
        _log.warning("approval withdrawn, worker stopped", experiment=experiment)
        return [(experiment, key) for key in keys]

    async def _tell_revoked(self) -> None:
        """Report the revocation for each task that a stopped worker was running; what fails now is told next time."""
        failure = Failure(code=ErrorCode.REVOKED, sentence="the site withdrew its approval")
        while self._stopped:
            experiment, key = self._stopped[0]
            for task in await asyncio.to_thread(self._store.unfinished, experiment):
                if str(task.key) == key:
                    await self.tasks.fail(task, failure, "the approval was withdrawn while the task ran")
            # In place, for the same reason; the other may have taken it out already.
            self._stopped[:] = [one for one in self._stopped if one != (experiment, key)]
