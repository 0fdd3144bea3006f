"""What the database knows of experiments: each question one read, each change one transaction with its journal line.

It neither waits nor wakes a waiting task; ``service`` does that.
"""

from __future__ import annotations

import json

from sqlalchemy import Connection, bindparam, exists, func, insert, select, update

from archipel.governance import Approval, JournalHead, canonical, check_approval
from archipel.rounds import ASKED_FOR, ExperimentVerb
from archipel.rounds.named_models import MEMORY
from archipel.rounds.tables import next_state
from archipel.server.experiments import journal_heads, views
from archipel.server.experiments.attempt_rows import SITE_ROW, site_place
from archipel.server.experiments.fetching import experiment_for
from archipel.server.experiments.job_blobs import names_blob
from archipel.server.experiments.parent_models import check_parent
from archipel.server.experiments.states import add_event, end_early, ending_of, set_state
from archipel.server.experiments.submitted_jobs import check_submitted
from archipel.server.experiments.views import parsed_job
from archipel.server.membership import MemberRegistry
from archipel.server.state import AnswerKept, ArgumentsKept, ExperimentSubmitted, ServerJournalKind, add_entry, schema
from archipel.storage import BlobStore, Database, Statement, utc_now
from archipel.transport import AnswerMessage
from archipel.transport.rest import AnswerReceived, ArgumentsChanged, ErrorReleased, EventKind, Submitted
from archipel.transport.rest.events import place_of
from archipel.vocabulary import (
    Actor,
    Conflict,
    ErrorCode,
    Job,
    NotFound,
    NotPermitted,
    Refused,
    TaskKey,
    TaskKind,
    Thing,
    Update,
    Value,
    check_arguments,
)
from archipel.vocabulary.remedies import Nothing
from archipel.vocabulary.states import ApprovalState, ExperimentState, RoundState, TaskState

MOST_DETAILS = 3
"""Error texts that are kept of one site's part of a round: what a site sends must not fill the disk."""
MOST_ANSWERS = 100
"""How often a site may change its answer to one job; after that it may only take an approval back."""

_JOB = Statement(select(schema.experiments.c.job).where(schema.experiments.c.experiment == bindparam("named")))


class ExperimentRecords:
    """Every experiment of this server, as rows."""

    def __init__(self, database: Database, blobs: BlobStore, registry: MemberRegistry, server_key: str) -> None:
        self._database, self._blobs, self._registry, self._server_key = database, blobs, registry, server_key

    def known(self) -> list[tuple[str, Job, str, ExperimentState]]:
        """Every experiment: its name, job, job hash and state."""
        with self._database.read() as connection:
            rows = connection.execute(select(schema.experiments)).mappings().all()
        return [
            (row["experiment"], parsed_job(row["job"]), row["job_hash"], ExperimentState(row["state"])) for row in rows
        ]

    def job(self, experiment: str) -> tuple[Job, str, ExperimentState]:
        """One experiment: its job, job hash and state. Raises NotFound."""
        table = schema.experiments
        with self._database.read() as connection:
            row = connection.execute(select(table).where(table.c.experiment == experiment)).mappings().first()
        if row is None:
            raise views.unknown(experiment)
        return parsed_job(row["job"]), row["job_hash"], ExperimentState(row["state"])

    def state(self, experiment: str) -> ExperimentState:
        """The state of one experiment. Raises NotFound."""
        table = schema.experiments
        with self._database.read() as connection:
            found = connection.scalar(select(table.c.state).where(table.c.experiment == experiment))
        if found is None:
            raise views.unknown(experiment)
        return ExperimentState(found)

    def token(self, experiment: str) -> str:
        """The id of the access token that submitted an experiment. Raises NotFound."""
        table = schema.experiments
        with self._database.read() as connection:
            found: str | None = connection.scalar(select(table.c.token).where(table.c.experiment == experiment))
        if found is None:
            raise views.unknown(experiment)
        return found

    def has_asked_for(self, name: str, blob: str) -> bool:
        """Whether an experiment that a token of this name submitted has the blob as a kept model or names it."""
        table, models, tokens = schema.experiments, schema.models, schema.access_tokens
        kept = exists().where(
            models.c.experiment == table.c.experiment, models.c.hash == blob, models.c.name.not_like(f"{MEMORY}%")
        )
        query = select(table.c.experiment).join(tokens, tokens.c.id == table.c.token).where(tokens.c.name == name)
        with self._database.read() as connection:
            return connection.execute(query.where(kept | names_blob(blob)).limit(1)).first() is not None

    def askers(self) -> dict[str, str]:
        """Of each experiment, whose access token submitted it."""
        table, tokens = schema.experiments, schema.access_tokens
        query = select(table.c.experiment, tokens.c.name).join(tokens, tokens.c.id == table.c.token)
        with self._database.read() as connection:
            return {row.experiment: row.name for row in connection.execute(query)}

    def keep_job(self, job: Job, digest: str, token: str) -> None:
        """Keep a job and its sites as waiting. Raises BadInput, Conflict."""
        check_submitted(job, self._blobs, self._registry, self._server_key)
        with self._database.read() as connection:
            check_parent(connection, job)
        table = schema.experiments
        with self._database.write() as connection:
            known = connection.execute(select(table).where(table.c.experiment == job.experiment)).mappings().first()
            if known is not None:
                if known["job_hash"] == digest:
                    return
                raise Conflict(
                    Thing("experiment", job.experiment),
                    "exists with another job",
                    "choose another name",
                    values={"job_hash": known["job_hash"]},
                )
            for blob in job.blobs:
                # Asked again: one that no experiment named until now may have been deleted since the check.
                self._blobs.size(blob)
            tokens = schema.access_tokens
            asked_by = connection.scalar(select(tokens.c.name).where(tokens.c.id == token)) or ""
            entry = ExperimentSubmitted(
                experiment=job.experiment, job_hash=digest, token=token, sites=job.sites, asked_by=asked_by
            )
            add_entry(connection, ServerJournalKind.EXPERIMENT_SUBMITTED, entry)
            connection.execute(
                insert(table).values(
                    experiment=job.experiment, job=canonical(job).decode(), job_hash=digest,
                    state=ExperimentState.WAITING, arguments=json.dumps(job.arguments),
                    token=token, created_at=utc_now(),
                )
            )  # fmt: skip
            rows = [
                {"experiment": job.experiment, "site": site, "state": ApprovalState.WAITING, "at": utc_now()}
                for site in job.sites
            ]
            connection.execute(insert(schema.approvals), rows)
            first = {"experiment": job.experiment, "name": "initial", "round": 0, "hash": job.initial_model}
            connection.execute(insert(schema.models).values(**first, at=utc_now()))
            add_event(connection, job.experiment, Submitted(job_hash=digest))

    def steer(self, job: Job, verb: ExperimentVerb, *, by: Actor) -> None:
        """Take a verb to its new state. Raises Conflict when the state or the missing approvals do not allow it."""
        table = schema.experiments
        with self._database.write() as connection:
            row = connection.execute(select(table).where(table.c.experiment == job.experiment)).mappings().one()
            state = next_state(job.experiment, ExperimentState(row["state"]), verb)
            if state is ExperimentState.RUNNING:
                approvals = select(schema.approvals).where(schema.approvals.c.experiment == job.experiment)
                rows = connection.execute(approvals).mappings().all()
                waiting = [answer["site"] for answer in rows if answer["state"] != ApprovalState.APPROVED]
                if len(rows) - len(waiting) < job.terms.quorum:
                    raise Conflict(
                        Thing("experiment", job.experiment),
                        f"{len(rows) - len(waiting)} sites have approved, its quorum is {job.terms.quorum}",
                        f"wait for {', '.join(waiting)}",
                        values={"approved": len(rows) - len(waiting), "quorum": job.terms.quorum},
                    )
            if verb is ExperimentVerb.FINISH:
                end_early(connection, job.experiment, ASKED_FOR, by=by)
            pause_after = None
            if verb is ExperimentVerb.STEP:
                closed = select(schema.rounds.c.round).where(
                    schema.rounds.c.experiment == job.experiment,
                    schema.rounds.c.kind == TaskKind.TRAIN,
                    schema.rounds.c.state == RoundState.COMMITTED,
                )
                pause_after = max(connection.scalars(closed), default=0) + 1
            if state != row["state"]:
                reason = ending_of(connection, job.experiment) if state is ExperimentState.RUNNING else None
                set_state(connection, job.experiment, state, reason, by=by)
            changed = update(table).where(table.c.experiment == job.experiment)
            connection.execute(changed.values(pause_after=pause_after))

    def keep_arguments(self, experiment: str, values: dict[str, Value], *, by: Actor) -> None:
        """Change hyper-parameters for the rounds to come. Raises BadInput outside their bounds."""
        job, _, state = self.job(experiment)
        if state.is_over:
            raise Conflict(
                Thing("experiment", experiment), f"is {state}", "create a new experiment", values={"state": state}
            )
        table = schema.experiments
        with self._database.write() as connection:
            now = json.loads(connection.scalar(select(table.c.arguments).where(table.c.experiment == experiment)) or "")
            new = check_arguments(job.parameters, {**now, **values})
            entry = ArgumentsKept(experiment=experiment, arguments=new, by=by.journal_name)
            add_entry(connection, ServerJournalKind.ARGUMENTS_CHANGED, entry)
            connection.execute(update(table).where(table.c.experiment == experiment).values(arguments=json.dumps(new)))
            add_event(connection, experiment, ArgumentsChanged(arguments=new))

    def keep_answer(self, site: str, message: AnswerMessage, head: JournalHead | None = None) -> JournalHead | None:
        """Keep what the people at a site decided. Raises Refused when signature or job is another.

        ``head``, which the site signed, is kept in the same transaction; returns the one that is kept after it.
        """
        job, digest, _ = self.job(message.experiment)
        if site not in job.sites:
            raise NotPermitted(
                Thing.worded(f"answer of {site}", site=site),
                f"is about {message.experiment}, which it is not part of",
                "ignore",
                values={"experiment": message.experiment},
            )
        if message.job_hash != digest:
            raise Refused(
                Thing.worded(f"answer of {site}", site=site),
                "is about another version of the job",
                "approve the new job",
                code=ErrorCode.NOT_APPROVED,
                values={"experiment": message.experiment},
            )
        text = approval = None
        if message.state is ApprovalState.APPROVED:
            approval = Approval.model_validate(message.approval)
            if approval.site != site or approval.experiment != message.experiment:
                raise Refused(
                    Thing.worded(f"answer of {site}", site=site),
                    "carries another approval",
                    "approve again",
                    values={"experiment": message.experiment},
                )
            check_approval(approval, identity_key=job.entry(site).identity_key, job_hash=digest)
            text = canonical(approval).decode()
        table = schema.approvals
        with self._database.write() as connection:
            kept = journal_heads.take(connection, site, head, in_order=False) if head is not None else None
            where = (table.c.experiment == message.experiment, table.c.site == site)
            before = connection.execute(select(table).where(*where)).mappings().one()
            if before["state"] == message.state and before["approval"] == text:
                return kept
            if before["state"] != ApprovalState.APPROVED or text is not None:
                _check_patience(connection, message.experiment, site)
            entry = AnswerKept(
                experiment=message.experiment, site=site, state=message.state, job_hash=digest, approval=approval
            )
            add_entry(connection, ServerJournalKind.of_answer(message.state), entry)
            values = {"state": message.state, "approval": text, "subjects": message.subjects, "at": utc_now()}
            connection.execute(update(table).where(*where).values(**values))
            received = AnswerReceived(experiment=message.experiment, site=site, state=message.state, job_hash=digest)
            add_event(connection, message.experiment, received)
        return kept

    def expects(self, site: str, update_: Update) -> tuple[Job, bool]:
        """The job of an update that is on offer to the site, and whether this very update is here already.

        Raises Conflict (round-closed, replayed) when it cannot count any more.
        """
        key = update_.key
        with self._database.read() as connection:
            document = _JOB.scalar(connection, {"named": key.experiment})
            row = SITE_ROW.first(connection, site_place(key, site))
        if document is None:
            raise views.unknown(key.experiment)
        job = parsed_job(document)
        thing = key.update_of(site)
        if row is None:
            raise Conflict(
                thing, "was not asked for", "no action is needed", code=ErrorCode.ROUND_CLOSED, command=Nothing()
            )
        if row["state"] == TaskState.RECEIVED:
            if row["update"] is not None and Update.model_validate_json(row["update"]) == update_:
                return job, True
            raise Conflict(thing, "another update counts already", "send the first again", code=ErrorCode.REPLAYED)
        if row["round_state"] != RoundState.OPEN or row["state"] != TaskState.OFFERED:
            cause = f"the round is {row['round_state']} and the site's part {row['state']}"
            raise Conflict(thing, cause, "no action is needed", code=ErrorCode.ROUND_CLOSED, command=Nothing())
        return job, False

    def document(self, site: str, digest: str) -> bytes:
        """The canonical document of the job with this hash. Raises NotFound unless the site is asked about it."""
        table = schema.experiments
        with self._database.read() as connection:
            rows = connection.execute(select(table.c.job, table.c.state).where(table.c.job_hash == digest)).all()
        for row in rows:
            if site in parsed_job(row.job).sites and not ExperimentState(row.state).is_over:
                return str(row.job).encode()
        raise NotFound(
            Thing("job", digest), f"is not one that {site} is asked about", "no action is needed", command=Nothing()
        )

    def may_fetch(self, site: str, blob: str) -> str | None:
        """The experiment for which the site may have this blob, or None."""
        return experiment_for(self._database, site, blob)

    def keep_detail(self, site: str, key: TaskKey, detail: str) -> None:
        """Keep an error's full text, once; a task done again may have another.

        Raises NotPermitted for a task that did not fail at this site, and when there are too many of one task.
        """
        self._check_failed(site, key)
        place = {"site": site, **key.model_dump(mode="json", exclude={"experiment"})}
        released = ErrorReleased(**place_of(key), site=site, detail=detail)
        table = schema.events
        with self._database.write() as connection:
            query = select(table.c.body).where(
                table.c.experiment == key.experiment, table.c.kind == EventKind.ERROR_RELEASED
            )
            same = (func.json_extract(table.c.body, f"$.{name}") == value for name, value in place.items())
            bodies = connection.scalars(query.where(*same))
            known = [ErrorReleased.model_validate_json(text).detail for text in bodies]
            if detail in known:
                return
            if len(known) == MOST_DETAILS:
                cause = f"is one too many about {key}: {MOST_DETAILS} are kept"
                raise NotPermitted(
                    Thing.worded(f"error text of {site}", site=site),
                    cause,
                    "ask the site for the rest",
                    values={"task": str(key), "limit": MOST_DETAILS},
                )
            add_entry(connection, ServerJournalKind.ERROR_RELEASED, released)
            add_event(connection, key.experiment, released)

    def _check_failed(self, site: str, key: TaskKey) -> None:
        """Raise NotPermitted unless the site reported a failure of this task: only such a text is asked for."""
        with self._database.read() as connection:
            row = SITE_ROW.first(connection, site_place(key, site))
            if row is None or row["failure"] is None:
                raise NotPermitted(
                    Thing.worded(f"error text of {site}", site=site),
                    f"is about {key}, which did not fail there",
                    "ignore",
                    values={"task": str(key)},
                )


def _check_patience(connection: Connection, experiment: str, site: str) -> None:
    """Raise NotPermitted when a site has changed its answer too often: each change is a line that stays."""
    table = schema.events
    query = select(func.count()).where(table.c.experiment == experiment, table.c.kind == EventKind.APPROVAL)
    if (connection.scalar(query.where(func.json_extract(table.c.body, "$.site") == site)) or 0) >= MOST_ANSWERS:
        cause = f"is one too many about {experiment}: {MOST_ANSWERS} are kept"
        raise NotPermitted(
            Thing.worded(f"answer of {site}", site=site),
            cause,
            "submit the job under another name to ask again",
            values={"experiment": experiment, "limit": MOST_ANSWERS},
        )
