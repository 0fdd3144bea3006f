"""Experiments at the server: submitted, approved by sites, steered by researchers, and a loop for each that runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from dataclasses import replace
from typing import BinaryIO

import structlog
from sqlalchemy import Connection, select, update

from archipel.governance import SERVER_JOURNAL, JournalHead, head, job_hash, sign_head
from archipel.rounds import (
    ASKED_FOR,
    Delivered,
    ExperimentLoop,
    ExperimentVerb,
    FleetEvent,
    Nudged,
    check_attempts_left,
    check_can_finish,
)
from archipel.server.experiments import views
from archipel.server.experiments.experiment_store import SqlExperimentStore
from archipel.server.experiments.hub import Hub
from archipel.server.experiments.package_answers import keep_packages
from archipel.server.experiments.records import ExperimentRecords
from archipel.server.experiments.spare_files import drop_spares
from archipel.server.experiments.states import add_event
from archipel.server.membership import ServerContext
from archipel.server.state import schema
from archipel.transport import AnswerMessage, EndedMessage, JobOffer, PackagesMessage
from archipel.transport.rest import (
    Event,
    EventKind,
    ExperimentSummary,
    ExperimentView,
    Interrupted,
    ModelView,
    RoundView,
)
from archipel.vocabulary import (
    Actor,
    ArchipelError,
    ErrorCode,
    Job,
    NotFound,
    RoundClosed,
    StorageFull,
    TaskKey,
    Thing,
    Value,
)
from archipel.vocabulary.remedies import Nothing
from archipel.vocabulary.states import ApprovalState, ControlVerb, ExperimentState

_log = structlog.get_logger("archipel.experiments")


class Experiments:
    """Every experiment of this server."""

    def __init__(self, federation: ServerContext) -> None:
        self.federation = federation
        self.records = ExperimentRecords(
            federation.database, federation.blobs, federation.registry, federation.identity.public
        )
        self.hub = Hub(federation.identity, self._signed_head)
        self._loops: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._changed = asyncio.Condition()

    def _signed_head(self) -> JournalHead:
        with self.federation.database.read() as connection:
            return sign_head(self.federation.identity, head(connection, schema.journal, SERVER_JOURNAL))

    # What a process does

    async def start(self) -> None:
        """Sweep what a crash left, and continue every experiment that was running or has an open round."""
        await asyncio.to_thread(self._sweep)
        for name, job, digest, state in await asyncio.to_thread(self.records.known):
            store = self._book(job, digest)
            opened = (await asyncio.to_thread(store.progress)).opened is not None
            if state is ExperimentState.RUNNING or opened:
                self._ensure_loop(name, job, digest)

    async def stop(self) -> None:
        """Stop the loops; the experiment stores have everything."""
        for loop in self._loops.values():
            loop.cancel()
        await asyncio.gather(*self._loops.values(), return_exceptions=True)

    def _sweep(self) -> None:
        with self.federation.database.read() as connection:
            jobs = _jobs(connection)
            kept = _named_blobs(connection, jobs.values())
        self.federation.blobs.sweep(kept)
        for job in jobs.values():
            self._book(job, job_hash(job)).sweep()
        for path in self.federation.state.spool.iterdir():
            if path.name.split(".")[0] not in jobs:
                path.unlink()

    def _book(self, job: Job, digest: str) -> SqlExperimentStore:
        return SqlExperimentStore(
            self.federation.database,
            self.federation.blobs,
            self.federation.state.spool,
            job,
            digest,
            self.hub.journal_heads,
            self.hub.fetched,
            self.notify_threadsafe,
        )

    def _ensure_loop(self, name: str, job: Job, digest: str) -> None:
        running = self._loops.get(name)
        if running is None or running.done():
            self._loops[name] = asyncio.create_task(self._supervise(name, job, digest))
            return
        self._again.add(name)
        if name in self.hub.fleets:
            self.hub.fleets[name].events.put_nowait(Nudged())

    async def _supervise(self, name: str, job: Job, digest: str) -> None:
        """Run the loop; what it cannot handle (a full disk, say) is logged, reported to researchers and tried again."""
        while True:
            store = self._book(job, digest)
            fleet = self.hub.fleet(name)
            interrupted: Exception | None = None
            state = None
            try:
                state = await ExperimentLoop(job, digest, store, fleet).run()
            except Exception as error:
                interrupted = error
            finally:
                self.hub.fleets.pop(name, None)
                _settle_rest(fleet.events)
            goes_on = False
            if interrupted is None:
                try:
                    if state is not None and state.is_over:
                        await asyncio.to_thread(store.sweep)
                        for site in job.sites:
                            await self.hub.send(site, EndedMessage(experiment=name, state=state))
                    goes_on = await self._goes_on(store)
                except Exception as error:
                    interrupted = error
            if interrupted is not None:
                await self._interrupted(name, interrupted)
                continue
            # Nothing can run between the last check of `_again` and the return, so no verb is lost between two loops.
            if not goes_on and name not in self._again:
                return
            self._again.discard(name)

    async def _interrupted(self, name: str, error: Exception) -> None:
        reason = str(error) if isinstance(error, ArchipelError) else "an unexpected error; see the server's log"
        unexpected = None if isinstance(error, StorageFull) else error
        if not unexpected:
            await asyncio.to_thread(drop_spares, self.federation.state.spool)
        if await self.note_interruption(name, reason) or unexpected:
            _log.error("experiment interrupted", experiment=name, error=reason, exc_info=unexpected)
        await asyncio.sleep(self.federation.limits.retry_s)

    async def _goes_on(self, store: SqlExperimentStore) -> bool:
        return (await asyncio.to_thread(store.progress)).state is ExperimentState.RUNNING

    async def note_interruption(self, name: str, reason: str) -> bool:
        """Report to researchers what an experiment waits for; False if it was reported since its last closed round."""

        def note() -> bool:
            with self.federation.database.write() as connection:
                if _is_told(connection, name, reason):
                    return False
                add_event(connection, name, Interrupted(reason=reason))
                table = schema.experiments
                connection.execute(update(table).where(table.c.experiment == name).values(reason=reason))
                return True

        try:
            is_new = await asyncio.to_thread(note)
        except Exception as error:
            # What broke the loop may be what breaks this; the loop is tried again all the same.
            _log.error("could not record the interruption", experiment=name, error=str(error))
            return True
        await self._notify()
        return is_new

    # What sites do

    def offers(self, site: str) -> list[JobOffer]:
        """The jobs of experiments that are not over and have the site in their roster."""
        askers = self.records.askers()
        return [
            JobOffer(experiment=name, job_hash=digest, asked_by=askers.get(name, ""))
            for name, job, digest, state in self.records.known()
            if site in job.sites and not state.is_over
        ]

    def ended(self, site: str) -> list[EndedMessage]:
        """The experiments of this site that are over, so that a site that was away ends them too."""
        return [
            EndedMessage(experiment=name, state=state)
            for name, job, _, state in self.records.known()
            if site in job.sites and state.is_over
        ]

    def missed_results(self, site: str) -> list[RoundClosed]:
        """The results of closed rounds of the site's experiments that it may have missed."""
        return views.last_closed(self.federation.database, site)

    async def answer(self, site: str, message: AnswerMessage, head: JournalHead | None = None) -> JournalHead | None:
        """Keep what the people at a site decided. Raises when the signature or the job differs. Returns the head that
        is kept of the site's journal when it showed one, ``head``.
        """
        kept = await asyncio.to_thread(self.records.keep_answer, site, message, head)
        # A site keeps results from its approval on only, so that it lacks those which were sent when it connected.
        is_approved = message.state == ApprovalState.APPROVED
        for closed in await asyncio.to_thread(self.missed_results, site) if is_approved else ():
            if closed.experiment == message.experiment:
                await self.hub.send(site, await self.hub.round_message(closed, site))
        loop = self.hub.fleets.get(message.experiment)
        if loop is not None:
            loop.events.put_nowait(Nudged())
        await self._notify()
        return kept

    async def keep_packages(self, site: str, message: PackagesMessage) -> None:
        """Keep which of the packages that a job names a site has."""
        await asyncio.to_thread(keep_packages, self.federation.database, site, message)

    async def keep_detail(self, site: str, key: TaskKey, detail: str) -> None:
        """Keep an error's full text that a person at the site released."""
        await asyncio.to_thread(self.records.keep_detail, site, key, detail)
        await self._notify()

    # What researchers do (contract.ExperimentService)

    async def submit(self, job: Job, token: str) -> ExperimentView:
        """Keep a job and ask its sites for approval."""
        digest = await asyncio.to_thread(job_hash, job)
        await asyncio.to_thread(self.records.keep_job, job, digest, token)
        asked_by = (await asyncio.to_thread(self.records.askers)).get(job.experiment, "")
        for site in job.sites:
            await self.hub.send(site, JobOffer(experiment=job.experiment, job_hash=digest, asked_by=asked_by))
        return await self.get(job.experiment)

    async def delete_unnamed(self, blobs: Collection[str]) -> None:
        """Delete those of these blobs that no experiment names."""

        def delete() -> None:
            with self.federation.database.read() as connection:
                known = _jobs(connection)
            # In a transaction that writes, so that no experiment begins to name one meanwhile.
            with self.federation.database.write() as connection:
                jobs = known | _jobs(connection, but=known)
                for blob in set(blobs) - _named_blobs(connection, jobs.values()):
                    self.federation.blobs.delete(blob)

        await asyncio.to_thread(delete)

    async def token(self, experiment: str) -> str:
        """The id of the access token that submitted it."""
        return await asyncio.to_thread(self.records.token, experiment)

    async def has_asked_for(self, name: str, blob: str) -> bool:
        """Whether an experiment that a token of this name submitted has the blob as a kept model or names it."""
        return await asyncio.to_thread(self.records.has_asked_for, name, blob)

    async def all(self) -> list[ExperimentSummary]:
        """Every experiment in a line, newest first."""
        return await asyncio.to_thread(views.experiments, self.federation.database)

    async def get(self, experiment: str) -> ExperimentView:
        """One experiment with its approvals."""
        return await asyncio.to_thread(views.experiment, self.federation.database, experiment)

    async def control(self, experiment: str, verb: ControlVerb, *, by: Actor) -> ExperimentView:
        """Steer it; the experiment as it is then."""
        job, digest, _ = await asyncio.to_thread(self.records.job, experiment)
        if verb in (ControlVerb.START, ControlVerb.STEP, ControlVerb.RESUME, ControlVerb.FINISH):
            await asyncio.to_thread(self._check_can_run, job, digest, verb)
        await asyncio.to_thread(self.records.steer, job, ExperimentVerb(verb), by=by)
        if verb is ControlVerb.CANCEL and experiment not in self.hub.fleets:
            for site in job.sites:
                await self.hub.send(site, EndedMessage(experiment=experiment, state=ExperimentState.CANCELLED))
        else:
            self._ensure_loop(experiment, job, digest)
        await self._notify()
        return await self.get(experiment)

    def _check_can_run(self, job: Job, digest: str, verb: ControlVerb) -> None:
        progress = self._book(job, digest).progress()
        if verb is ControlVerb.FINISH:
            # Those that wait or are over are refused by their state.
            if progress.state in (ExperimentState.RUNNING, ExperimentState.PAUSED):
                check_can_finish(job, progress)
            progress = replace(progress, ending=ASKED_FOR)
        if progress.state is ExperimentState.PAUSED:
            check_attempts_left(job, progress)

    async def set_arguments(self, experiment: str, values: Mapping[str, Value], *, by: Actor) -> ExperimentView:
        """Change hyper-parameters for the rounds to come, inside their bounds."""
        await asyncio.to_thread(self.records.keep_arguments, experiment, dict(values), by=by)
        await self._notify()
        return await self.get(experiment)

    async def rounds(self, experiment: str) -> list[RoundView]:
        """The records of its rounds, oldest first."""
        return await asyncio.to_thread(views.rounds, self.federation.database, experiment)

    async def events(self, experiment: str, after: int, follow: bool) -> AsyncIterator[Event]:
        """Events after ``after``; with ``follow`` until the experiment has ended."""
        seen = after
        while True:
            new_events = await asyncio.to_thread(views.events, self.federation.database, experiment, seen)
            for event in new_events:
                seen = event.seq
                yield event
            if new_events:
                continue
            if not follow:
                return
            # Asked each second of every stream, so the job, which may be long, is not read for it.
            if (await asyncio.to_thread(self.records.state, experiment)).is_over:
                return
            try:
                async with asyncio.timeout(1.0), self._changed:
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def models(self, experiment: str) -> list[ModelView]:
        """Its kept models."""
        return await asyncio.to_thread(views.models, self.federation.database, experiment)

    async def open_model(self, experiment: str, name: str) -> tuple[BinaryIO, int]:
        """A model's safetensors file and its size in bytes."""
        for model in await self.models(experiment):
            if model.name == name:
                return self.federation.blobs.open(model.hash), self.federation.blobs.size(model.hash)
        raise NotFound(
            Thing.worded(f"model {name} of {experiment}", model=name, experiment=experiment),
            "is not kept",
            "list the experiment's models",
        )

    def notify_threadsafe(self) -> None:
        """Wake the followers of events; callable from any thread."""
        loop = self._loop()
        if loop is not None:
            loop.call_soon_threadsafe(lambda: loop.create_task(self._notify()))

    def _loop(self) -> asyncio.AbstractEventLoop | None:
        # A copy: this is asked from threads, and the loop's own thread adds to it meanwhile.
        running = next((task for task in list(self._loops.values()) if not task.done()), None)
        return running.get_loop() if running else None

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def _jobs(connection: Connection, but: Collection[str] = ()) -> dict[str, Job]:
    table = schema.experiments
    rows = connection.execute(select(table.c.experiment, table.c.job).where(table.c.experiment.not_in(but)))
    return {row.experiment: views.parsed_job(row.job) for row in rows}


def _named_blobs(connection: Connection, jobs: Iterable[Job]) -> set[str]:
    kept = set(connection.scalars(select(schema.models.c.hash)))
    kept |= {row for row in connection.scalars(select(schema.rounds.c.model_before)) if row}
    return kept | {blob for job in jobs for blob in job.blobs}


def _is_told(connection: Connection, name: str, reason: str) -> bool:
    """Whether this very interruption is the newest of the experiment and no round has closed since."""
    table = schema.events
    kinds = (EventKind.INTERRUPTED, EventKind.ROUND_COMMITTED, EventKind.ROUND_FAILED)
    query = select(table.c.kind, table.c.body).where(table.c.experiment == name, table.c.kind.in_(kinds))
    newest = connection.execute(query.order_by(table.c.seq.desc()).limit(1)).first()
    if newest is None or newest.kind != EventKind.INTERRUPTED:
        return False
    return Interrupted.model_validate_json(newest.body).reason == reason


def _settle_rest(events: asyncio.Queue[FleetEvent]) -> None:
    """Answer deliveries that came after the loop had ended: sent again, they meet the next loop or a closed round."""
    while not events.empty():
        event = events.get_nowait()
        if isinstance(event, Delivered) and not event.settled.done():
            event.settled.set_exception(
                ArchipelError(
                    "update", "the round was interrupted", "it is sent again", code=ErrorCode.LOST, command=Nothing()
                )
            )
