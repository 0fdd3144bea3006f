"""Experiments at the server: submitted, approved by sites, steered by researchers, and a loop for each that runs."""

from __future__ import annotations

import asyncio
import json
import mmap
from collections.abc import AsyncIterator, Mapping
from functools import lru_cache
from typing import Any, BinaryIO

import structlog
from sqlalchemy import insert, select, update

from archipel.governance import Approval, append, canonical, check_approval, head, job_hash, sign_head
from archipel.rounds import ExperimentLoop, ExperimentState, ExperimentVerb, Nudged
from archipel.rounds.tables import next_state
from archipel.server import schema, views
from archipel.server.book import SqlBook, add_event, set_state
from archipel.server.federation import Federation
from archipel.server.hub import Hub
from archipel.server.rest.context import ControlVerb
from archipel.storage import utc_now
from archipel.tensors import check_header
from archipel.transport import AnswerMessage, EndedMessage, JobOffer
from archipel.vocabulary import (
    ArchipelError,
    BadInput,
    Conflict,
    ErrorCode,
    Job,
    NotFound,
    NotPermitted,
    Refused,
    Task,
    TaskKey,
    Update,
    Value,
    check_arguments,
)

_log = structlog.get_logger("archipel.experiments")
_OVER = (ExperimentState.FINISHED, ExperimentState.CANCELLED)
RETRY_S = 10.0


class Experiments:
    """Every experiment of this server."""

    def __init__(self, federation: Federation) -> None:
        self.federation = federation
        self.hub = Hub(federation.identity, self._signed_head)
        self._loops: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._changed = asyncio.Condition()

    def _signed_head(self) -> Any:
        with self.federation.database.read() as connection:
            return sign_head(self.federation.identity, head(connection, schema.journal, "server"))

    # What a process does

    async def start(self) -> None:
        """Sweep what a crash left, and go on with every experiment that was running or has an open round."""
        await asyncio.to_thread(self._sweep)
        for name, job, digest, state in await asyncio.to_thread(self._known):
            book = self._book(job, digest)
            opened = (await asyncio.to_thread(book.progress)).opened is not None
            if state is ExperimentState.RUNNING or opened:
                self._ensure_loop(name, job, digest)

    async def stop(self) -> None:
        """Stop the loops; their books hold everything."""
        for loop in self._loops.values():
            loop.cancel()
        await asyncio.gather(*self._loops.values(), return_exceptions=True)

    def _sweep(self) -> None:
        with self.federation.database.read() as connection:
            jobs = [_parsed(text) for text in connection.scalars(select(schema.experiments.c.job))]
            kept = set(connection.scalars(select(schema.models.c.hash)))
            kept |= {row for row in connection.scalars(select(schema.rounds.c.model_before)) if row}
        kept |= {blob for job in jobs for blob in (job.plan.hash, job.initial_model)}
        self.federation.blobs.sweep(kept)
        names = {job.experiment for job in jobs}
        for job in jobs:
            self._book(job, job_hash(job)).sweep()
        for path in self.federation.state.spool.iterdir():
            if path.name.split(".")[0] not in names:
                path.unlink()

    def _known(self) -> list[tuple[str, Job, str, ExperimentState]]:
        with self.federation.database.read() as connection:
            rows = connection.execute(select(schema.experiments)).mappings().all()
        return [
            (row["experiment"], _parsed(row["job"]), row["job_hash"], ExperimentState(row["state"])) for row in rows
        ]

    def _book(self, job: Job, digest: str) -> SqlBook:
        return SqlBook(self.federation, job, digest, self.hub.heads, self.hub.fetched, self.notify_threadsafe)

    def _ensure_loop(self, name: str, job: Job, digest: str) -> None:
        running = self._loops.get(name)
        if running is None or running.done():
            self._loops[name] = asyncio.create_task(self._supervise(name, job, digest))
            return
        self._again.add(name)
        if name in self.hub.fleets:
            self.hub.fleets[name].events.put_nowait(Nudged())

    async def _supervise(self, name: str, job: Job, digest: str) -> None:
        """Run the loop; what it cannot handle (a full disk, say) is logged, told, and tried again: nothing is lost."""
        while True:
            book = self._book(job, digest)
            fleet = self.hub.fleet(name)
            interrupted: Exception | None = None
            state = None
            try:
                state = await ExperimentLoop(job, digest, book, fleet).run()
            except Exception as error:
                interrupted = error
            finally:
                self.hub.fleets.pop(name, None)
                _settle_rest(fleet.events)
            if interrupted is not None:
                await self._interrupted(name, interrupted)
                continue
            if state in _OVER:
                for site in job.sites:
                    await self.hub.send(site, EndedMessage(experiment=name, state=str(state)))
            # Nothing can come between the last look at `_again` and the return, so no verb is lost between two loops.
            goes_on = await self._goes_on(book)
            if not goes_on and name not in self._again:
                return
            self._again.discard(name)

    async def _interrupted(self, name: str, error: Exception) -> None:
        reason = str(error) if isinstance(error, ArchipelError) else "an unexpected error; see the server's log"
        _log.error("experiment interrupted", experiment=name, exc_info=error)
        await self._note_interruption(name, reason)
        await asyncio.sleep(RETRY_S)

    async def _goes_on(self, book: SqlBook) -> bool:
        return (await asyncio.to_thread(book.progress)).state is ExperimentState.RUNNING

    async def _note_interruption(self, name: str, reason: str) -> None:
        def note() -> None:
            with self.federation.database.write() as connection:
                add_event(connection, name, "interrupted", {"reason": reason})
                table = schema.experiments
                connection.execute(update(table).where(table.c.experiment == name).values(reason=reason))

        try:
            await asyncio.to_thread(note)
        except ArchipelError as error:
            _log.error("could not note the interruption", experiment=name, error=str(error))

    # What sites do

    def offers(self, site: str) -> list[JobOffer]:
        """The jobs of experiments that are not over and have the site in their roster."""
        return [
            JobOffer(job=job, job_hash=digest)
            for _, job, digest, state in self._known()
            if site in job.sites and state not in _OVER
        ]

    def ended(self, site: str) -> list[EndedMessage]:
        """The experiments of this site that are over, so that a site that was away ends them too."""
        return [
            EndedMessage(experiment=name, state=state.value)
            for name, job, _, state in self._known()
            if site in job.sites and state in _OVER
        ]

    def last_words(self, site: str) -> list[Any]:
        """The newest closed round of each experiment of the site, which it may have missed."""
        return views.last_closed(self.federation.database, site)

    async def answer(self, site: str, message: AnswerMessage) -> None:
        """Keep what the people at a site decided. Raises when the signature or the job is another."""
        await asyncio.to_thread(self._keep_answer, site, message)
        loop = self.hub.fleets.get(message.experiment)
        if loop is not None:
            loop.events.put_nowait(Nudged())
        await self._notify()

    def _keep_answer(self, site: str, message: AnswerMessage) -> None:
        job, digest, _ = self._job(message.experiment)
        if site not in job.sites:
            raise NotPermitted(f"answer of {site}", f"is about {message.experiment}, which it is not part of", "ignore")
        if message.job_hash != digest:
            raise Refused(
                f"answer of {site}", "is about another version of the job", "approve the new job",
                code=ErrorCode.NOT_APPROVED,
            )  # fmt: skip
        if message.state == "approved":
            approval = Approval.model_validate(message.approval)
            if approval.site != site or approval.experiment != message.experiment:
                raise Refused(f"answer of {site}", "carries another approval", "approve again")
            check_approval(approval, identity_key=job.entry(site).identity_key, job_hash=digest)
        table = schema.approvals
        body = {"experiment": message.experiment, "site": site, "state": message.state, "job_hash": digest}
        with self.federation.database.write() as connection:
            where = (table.c.experiment == message.experiment, table.c.site == site)
            before = connection.execute(select(table).where(*where)).mappings().one()
            text = canonical(message.approval).decode() if message.approval else None
            if before["state"] == message.state and before["approval"] == text:
                return
            append(connection, schema.journal, f"site-{message.state}", {**body, "approval": message.approval})
            values = {"state": message.state, "approval": text, "subjects": message.subjects, "at": utc_now()}
            connection.execute(update(table).where(*where).values(**values))
            add_event(connection, message.experiment, "approval", body)

    def expects(self, site: str, update_: Update) -> tuple[Job, bool]:
        """The job of an update that is on offer to the site, and whether this very update is here already.

        Raises Conflict (round-closed, replayed) when it cannot count any more.
        """
        job, _, _ = self._job(update_.key.experiment)
        table, key = schema.updates, update_.key
        query = select(table, schema.rounds.c.state.label("round_state")).join(
            schema.rounds,
            (schema.rounds.c.experiment == table.c.experiment)
            & (schema.rounds.c.round == table.c.round)
            & (schema.rounds.c.kind == table.c.kind)
            & (schema.rounds.c.about == table.c.about)
            & (schema.rounds.c.attempt == table.c.attempt),
        )
        query = query.where(
            table.c.experiment == key.experiment,
            table.c.round == key.round,
            table.c.attempt == key.attempt,
            table.c.kind == key.kind.value,
            table.c.about == key.about,
            table.c.site == site,
        )
        with self.federation.database.read() as connection:
            row = connection.execute(query).mappings().first()
        thing = f"update of {site} for {key}"
        if row is None:
            raise Conflict(thing, "was not asked for", "nothing is to be done", code=ErrorCode.ROUND_CLOSED)
        if row["state"] == "received":
            if row["update"] is not None and Update.model_validate_json(row["update"]) == update_:
                return job, True
            raise Conflict(thing, "another update counts already", "send the first again", code=ErrorCode.REPLAYED)
        if row["round_state"] != "open" or row["state"] in ("late", "failed", "lost"):
            cause = f"the round is {row['round_state']} and the site's part {row['state']}"
            raise Conflict(thing, cause, "nothing is to be done", code=ErrorCode.ROUND_CLOSED)
        return job, False

    def may_fetch(self, site: str, blob: str) -> str | None:
        """The experiment for which the site may have this blob, or None.

        A site of the roster may read the plan before it decides, and models once it has approved.
        """
        for name, job, _, state in self._known():
            if site not in job.sites or state in _OVER:
                continue
            if blob == job.plan.hash:
                return name
            if self._approved(name, site) and blob in self._models_in_use(name, job):
                return name
        return None

    def _approved(self, experiment: str, site: str) -> bool:
        table = schema.approvals
        query = select(table.c.state).where(table.c.experiment == experiment, table.c.site == site)
        with self.federation.database.read() as connection:
            return connection.scalar(query) == "approved"

    def _models_in_use(self, experiment: str, job: Job) -> set[str]:
        with self.federation.database.read() as connection:
            query = select(schema.models.c.hash).where(schema.models.c.experiment == experiment)
            found = set(connection.scalars(query))
            rounds = select(schema.updates.c.task).where(schema.updates.c.experiment == experiment)
            tasks = connection.scalars(rounds.where(schema.updates.c.state == "offered").distinct())
            for text in tasks:
                found |= set(Task.model_validate_json(text).models)
        return found | {job.initial_model}

    async def keep_detail(self, site: str, key: TaskKey, detail: str) -> None:
        """Keep an error's full text that a person at the site released."""

        def keep() -> None:
            self._check_failed(site, key)
            body = {"site": site, "round": key.round, "attempt": key.attempt, "kind": key.kind.value, "detail": detail}
            with self.federation.database.write() as connection:
                append(connection, schema.journal, "error-released", {"experiment": key.experiment, **body})
                add_event(connection, key.experiment, "error-released", body)

        await asyncio.to_thread(keep)
        await self._notify()

    def _check_failed(self, site: str, key: TaskKey) -> None:
        """Raise NotPermitted unless the site told of a failure of this task: only such a text is asked for."""
        table = schema.updates
        place = {**key.model_dump(mode="json"), "site": site}
        query = select(table.c.failure).where(*(table.c[name] == value for name, value in place.items()))
        with self.federation.database.read() as connection:
            if connection.scalar(query) is None:
                raise NotPermitted(f"error text of {site}", f"is about {key}, which did not fail there", "ignore")

    # What researchers do (rest.context.ExperimentService)

    async def submit(self, job: Job, owner: str) -> dict[str, Any]:
        """Keep a job and ask its sites for approval."""
        digest = job_hash(job)
        await asyncio.to_thread(self._keep_job, job, digest, owner)
        for site in job.sites:
            await self.hub.send(site, JobOffer(job=job, job_hash=digest))
        return await self.get(job.experiment)

    def _keep_job(self, job: Job, digest: str, owner: str) -> None:
        self._check_job(job)
        table = schema.experiments
        with self.federation.database.write() as connection:
            known = connection.execute(select(table).where(table.c.experiment == job.experiment)).mappings().first()
            if known is not None:
                if known["job_hash"] == digest:
                    return
                raise Conflict(f"experiment {job.experiment}", "exists with another job", "choose another name")
            append(
                connection, schema.journal, "experiment-submitted",
                {"experiment": job.experiment, "job_hash": digest, "owner": owner, "sites": list(job.sites)},
            )  # fmt: skip
            connection.execute(
                insert(table).values(
                    experiment=job.experiment, job=canonical(job).decode(), job_hash=digest, state="waiting",
                    arguments=json.dumps(job.arguments), owner=owner, created_at=utc_now(),
                )
            )  # fmt: skip
            rows = [
                {"experiment": job.experiment, "site": site, "state": "waiting", "at": utc_now()} for site in job.sites
            ]
            connection.execute(insert(schema.approvals), rows)
            first = {"experiment": job.experiment, "name": "initial", "round": 0, "hash": job.initial_model}
            connection.execute(insert(schema.models).values(**first, at=utc_now()))
            add_event(connection, job.experiment, "submitted", {"job_hash": digest})

    def _check_job(self, job: Job) -> None:
        thing = f"job {job.experiment}"
        if job.server_key != self.federation.identity.public:
            raise BadInput(thing, "names another server's key", "make the job with this server's connection")
        known = {site.site: site.identity_key for site in self.federation.registry.sites()}
        for entry in job.roster:
            if entry.site not in known:
                raise BadInput(thing, f"names site {entry.site}, which is not enrolled", "choose enrolled sites")
            if known[entry.site] != entry.identity_key:
                raise BadInput(thing, f"has another identity key for {entry.site}", "make the job again")
        blobs = self.federation.blobs
        if blobs.size(job.plan.hash) > 4 << 20:
            raise BadInput(thing, "has a plan of more than 4 MiB", "keep data out of the plan's source")
        with (
            blobs.open(job.initial_model) as file,
            mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as frame,
        ):
            check_header(job.tensors, frame)

    async def all(self) -> list[dict[str, Any]]:
        """Every experiment, newest first."""
        return await asyncio.to_thread(views.experiments, self.federation.database)

    async def get(self, experiment: str) -> dict[str, Any]:
        """One experiment with its approvals."""
        return await asyncio.to_thread(views.experiment, self.federation.database, experiment)

    async def control(self, experiment: str, verb: ControlVerb) -> dict[str, Any]:
        """Steer it; the experiment as it is then."""
        job, digest, _ = await asyncio.to_thread(self._job, experiment)
        await asyncio.to_thread(self._steer, job, ExperimentVerb(verb))
        if verb == "cancel" and experiment not in self.hub.fleets:
            for site in job.sites:
                await self.hub.send(site, EndedMessage(experiment=experiment, state="cancelled"))
        else:
            self._ensure_loop(experiment, job, digest)
        await self._notify()
        return await self.get(experiment)

    def _steer(self, job: Job, verb: ExperimentVerb) -> None:
        table = schema.experiments
        with self.federation.database.write() as connection:
            row = connection.execute(select(table).where(table.c.experiment == job.experiment)).mappings().one()
            state = next_state(job.experiment, ExperimentState(row["state"]), verb)
            if state is ExperimentState.RUNNING:
                approvals = select(schema.approvals).where(schema.approvals.c.experiment == job.experiment)
                rows = connection.execute(approvals).mappings().all()
                waiting = [one["site"] for one in rows if one["state"] != "approved"]
                if len(rows) - len(waiting) < job.terms.quorum:
                    raise Conflict(
                        f"experiment {job.experiment}",
                        f"{len(rows) - len(waiting)} sites have approved, its quorum is {job.terms.quorum}",
                        f"wait for {', '.join(waiting)}",
                    )
            pause_after = None
            if verb is ExperimentVerb.STEP:
                closed = select(schema.rounds.c.round).where(
                    schema.rounds.c.experiment == job.experiment,
                    schema.rounds.c.kind == "train",
                    schema.rounds.c.state == "committed",
                )
                pause_after = max(connection.scalars(closed), default=0) + 1
            set_state(connection, job.experiment, state, None)
            changed = update(table).where(table.c.experiment == job.experiment)
            connection.execute(changed.values(pause_after=pause_after))

    async def set_arguments(self, experiment: str, values: Mapping[str, Value]) -> dict[str, Any]:
        """Change hyper-parameters for the rounds to come, inside their bounds."""
        await asyncio.to_thread(self._keep_arguments, experiment, dict(values))
        await self._notify()
        return await self.get(experiment)

    def _keep_arguments(self, experiment: str, values: dict[str, Value]) -> None:
        job, _, state = self._job(experiment)
        if state in _OVER:
            raise Conflict(f"experiment {experiment}", f"is {state}", "create a new experiment")
        table = schema.experiments
        with self.federation.database.write() as connection:
            now = json.loads(connection.scalar(select(table.c.arguments).where(table.c.experiment == experiment)) or "")
            new = check_arguments(job.parameters, {**now, **values})
            append(connection, schema.journal, "arguments-changed", {"experiment": experiment, "arguments": new})
            connection.execute(update(table).where(table.c.experiment == experiment).values(arguments=json.dumps(new)))
            add_event(connection, experiment, "arguments", {"arguments": new})

    async def rounds(self, experiment: str) -> list[dict[str, Any]]:
        """The records of its rounds, oldest first."""
        return await asyncio.to_thread(views.rounds, self.federation.database, experiment)

    async def events(self, experiment: str, after: int, follow: bool) -> AsyncIterator[dict[str, Any]]:
        """Events after ``after``; with ``follow`` until the experiment has ended."""
        seen = after
        while True:
            found = await asyncio.to_thread(views.events, self.federation.database, experiment, seen)
            for event in found:
                seen = event["seq"]
                yield event
            if found:
                continue
            if not follow:
                return
            _, _, state = await asyncio.to_thread(self._job, experiment)
            if state in _OVER:
                return
            try:
                async with asyncio.timeout(1.0), self._changed:
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def models(self, experiment: str) -> list[dict[str, Any]]:
        """Its kept models."""
        return await asyncio.to_thread(views.models, self.federation.database, experiment)

    async def open_model(self, experiment: str, name: str) -> tuple[BinaryIO, int]:
        """A model's safetensors file and its size in bytes."""
        for model in await self.models(experiment):
            if model["name"] == name:
                return self.federation.blobs.open(model["hash"]), self.federation.blobs.size(model["hash"])
        raise NotFound(f"model {name} of {experiment}", "is not kept", "list the experiment's models")

    def _job(self, experiment: str) -> tuple[Job, str, ExperimentState]:
        table = schema.experiments
        with self.federation.database.read() as connection:
            row = connection.execute(select(table).where(table.c.experiment == experiment)).mappings().first()
        if row is None:
            raise views.unknown(experiment)
        return _parsed(row["job"]), row["job_hash"], ExperimentState(row["state"])

    def notify_threadsafe(self) -> None:
        """Wake whoever follows events; callable from any thread."""
        loop = self._loop()
        if loop is not None:
            loop.call_soon_threadsafe(lambda: loop.create_task(self._notify()))

    def _loop(self) -> asyncio.AbstractEventLoop | None:
        running = next((task for task in self._loops.values() if not task.done()), None)
        return running.get_loop() if running else None

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


@lru_cache(maxsize=256)
def _parsed(job: str) -> Job:
    """A stored job; a large schema takes milliseconds to check, and every call of a site needs its job."""
    return Job.model_validate_json(job)


def _settle_rest(events: asyncio.Queue[Any]) -> None:
    """Answer deliveries that came after the loop had ended: sent again, they meet the next loop or a closed round."""
    while not events.empty():
        settled = getattr(events.get_nowait(), "settled", None)
        if settled is not None and not settled.done():
            settled.set_exception(
                ArchipelError("update", "the round was interrupted", "it is sent again", code=ErrorCode.LOST)
            )
