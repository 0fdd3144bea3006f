"""The jobs that the server offered to this site, and what the people here decided about each.

An offer is a job's document and nothing more; a changed job is a new offer. What is decided is in ``decisions``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NamedTuple

from sqlalchemy import Connection, RowMapping, func, insert, select, update

from archipel.governance import Approval, canonical
from archipel.plans import declared
from archipel.plans.files import PlanFiles
from archipel.site.approval import offer_limits
from archipel.site.approval.offer_limits import OFFER_LIMITS, OfferLimits
from archipel.site.approval.stored_jobs import stored_job
from archipel.site.audit import ExperimentEnded, JobAsker, JobChanged, JobOffered, add_entry
from archipel.site.state import OfferState, SiteJournalKind, StateFolder, schema
from archipel.storage import BlobStore, Database, utc_now
from archipel.tensors import blob_hash, document_hash
from archipel.vocabulary import Conflict, ErrorCode, Job, NotFound, Refused, Thing
from archipel.vocabulary.bounds import LONGEST_JOB
from archipel.vocabulary.documents import parsed
from archipel.vocabulary.remedies import ListOffers, StartAgent

_rows = schema.experiments


@dataclass(frozen=True)
class Offer:
    """An experiment at this site: its job, its state, and the approval if there is one.

    ``document`` is the job as it is stored. It is read at its first use.
    """

    experiment: str
    state: OfferState
    document: str
    job_hash: str
    cohort_hash: str | None
    approval: Approval | None
    note: str
    offered_at: str
    decided_at: str | None
    ended_at: str | None
    asked_by: str

    @property
    def job(self) -> Job:
        """The job. Raises ValueError when what is stored cannot be read."""
        return stored_job(self.document)


class StoredOffer(NamedTuple):
    """What a decision needs of an experiment's row: its state, its job as it is stored, and who asks."""

    state: OfferState
    job: str
    job_hash: str
    asked_by: str


def check_ours(site: StateFolder, job: Job) -> None:
    """Raise Refused when a job is not of this federation or does not name this site by its identity key."""
    thing = Thing("experiment", job.experiment)
    if job.server_key != site.joined().server_key:
        raise Refused(thing, "names another federation's server", "it was not taken on", code=ErrorCode.TRUST)
    entries = {entry.site: entry for entry in job.roster}
    if site.name not in entries or entries[site.name].identity_key != site.identity.public:
        raise Refused(thing, "does not name this site by its identity key", "it was not taken on", code=ErrorCode.TRUST)


def known_plan(database: Database, experiment: str, hashed: str) -> dict[str, str] | None:
    """The files of the plan (blobs by path) of an experiment that is stored with this very job; else None."""
    # SQLite looks for it: Python would hold up everything else while it reads a job of 60,000 tensors.
    files = func.json_extract(_rows.c.job, "$.plan.files")
    with database.read() as connection:
        found = connection.scalar(select(files).where(_rows.c.experiment == experiment, _rows.c.job_hash == hashed))
    known: dict[str, str] | None = None if found is None else json.loads(found)
    return known


def read_offer(experiment: str, hashed: str, document: bytes) -> Job:
    """The job in a document that the server sent. Raises Refused unless it is the one that the offer names."""
    thing = Thing("experiment", experiment)
    if document_hash(document) != hashed:
        raise Refused(thing, "its job is not the one that the offer names", "it was not taken on", code=ErrorCode.TRUST)
    try:
        job = parsed(Job.model_validate, document, LONGEST_JOB)
        if canonical(job) != document:
            raise ValueError("it is not the canonical document of its job")
    except ValueError as error:
        raise Refused(thing, "its job cannot be read by this version", "update Archipel here") from error
    if job.experiment != experiment:
        raise Refused(thing, f"its job is of experiment {job.experiment}", "it was not taken on", code=ErrorCode.TRUST)
    return job


def check_offer(site: StateFolder, job: Job, document: bytes | None = None, limits: OfferLimits = OFFER_LIMITS) -> None:
    """Raise Refused when this site refuses the offer, before anything is fetched for it.

    ``document`` is the job's canonical one, which takes a second to make of 60,000 tensors.
    """
    check_ours(site, job)
    document = document or canonical(job)
    with site.database.read() as connection:
        known = find(connection, job.experiment)
        if known is None or known.job_hash != document_hash(document):
            offer_limits.check_limits(connection, job, len(document), limits)


def note_asker(database: Database, experiment: str, asked_by: str) -> None:
    """Note who the server says asks for a known job: the job was approved and not the name."""
    with database.read() as connection:
        if asked_by in ("", stored(connection, experiment).asked_by):
            return
    with database.write() as connection:
        _note_asker(connection, experiment, asked_by)


def _note_asker(connection: Connection, experiment: str, asked_by: str) -> None:
    before = stored(connection, experiment).asked_by
    if asked_by in ("", before):
        return
    body = JobAsker(experiment=experiment, asked_by=asked_by, before=before)
    add_entry(connection, SiteJournalKind.JOB_ASKER, body)
    connection.execute(update(_rows).where(_rows.c.experiment == experiment).values(asked_by=asked_by))


def record(
    site: StateFolder,
    job: Job,
    asked_by: str = "",
    limits: OfferLimits = OFFER_LIMITS,
    *,
    document: bytes | None = None,
) -> OfferState:
    """Store a job that the server offers; a job that differs from the stored one needs a new decision.

    ``asked_by`` is the access token that the server names; another name for a known job is only noted. ``document`` is
    the job's canonical one. Returns the experiment's state. Raises Refused when the job is not of this federation
    or does not name this site by its identity key, and when too many wait for a decision here.
    """
    check_ours(site, job)
    document = document or canonical(job)
    hashed, unused = document_hash(document), set[str]()
    with site.database.write() as connection:
        known = find(connection, job.experiment)
        if known is not None and known.job_hash == hashed:
            _note_asker(connection, job.experiment, asked_by)
            return known.state
        offer_limits.check_limits(connection, job, len(document), limits)
        unused |= offer_limits.forget_ended(connection, limits)
        values = {
            "job": document.decode(),
            "job_hash": hashed,
            "state": OfferState.OFFERED,
            "cohort_hash": None,
            "approval": None,
            "note": "",
            "offered_at": utc_now(),
            "decided_at": None,
            "ended_at": None,
            "asked_by": asked_by,
        }
        offered = JobOffered(experiment=job.experiment, job_hash=hashed, plan_hash=job.plan.hash, asked_by=asked_by)
        if known is None:
            add_entry(connection, SiteJournalKind.JOB_OFFERED, offered)
            connection.execute(insert(_rows).values(experiment=job.experiment, **values))
        else:
            unused |= offer_limits.files_in(known.job)
            unused |= offer_limits.frozen_parts(connection, _rows.c.experiment == job.experiment)
            changed = JobChanged(**dict(offered), before=known.job_hash, was=known.state)
            add_entry(connection, SiteJournalKind.JOB_CHANGED, changed)
            connection.execute(update(_rows).where(_rows.c.experiment == job.experiment).values(**values))
    offer_limits.drop_files(site.database, site.blobs, unused)
    return OfferState.OFFERED


def all_offers(database: Database) -> list[Offer]:
    """Every experiment this site was ever offered, the newest offer first."""
    with database.read() as connection:
        rows = connection.execute(select(_rows).order_by(_rows.c.offered_at.desc())).mappings().all()
    return [_offer(row) for row in rows]


def names(database: Database) -> list[str]:
    """Every experiment this site was ever offered, the newest offer first."""
    with database.read() as connection:
        return list(connection.scalars(select(_rows.c.experiment).order_by(_rows.c.offered_at.desc())))


def named(database: Database, text: str) -> str:
    """The experiment with this name, or the only one whose name begins with it.

    Raises Conflict when several do, and NotFound, with the names that are like it, when none does.
    """
    known = names(database)
    if text in known:
        return text
    begins = [name for name in known if text and name.startswith(text)]
    if len(begins) == 1:
        return begins[0]
    thing = Thing("experiment", text)
    if begins:
        raise Conflict(thing, f"may be {', '.join(begins[:5])}", "give more of its name")
    like = get_close_matches(text, known, n=3)
    remedy = f"did you mean {' or '.join(like)}?" if like else "see archipel site plans"
    raise NotFound(thing, "was not offered to this site", remedy, command=ListOffers())


def offered(database: Database, experiment: str) -> Offer:
    """One experiment. Raises NotFound."""
    with database.read() as connection:
        row = connection.execute(select(_rows).where(_rows.c.experiment == experiment)).mappings().first()
    if row is None:
        raise _not_offered(experiment)
    return _offer(row)


def plan_files(blobs: BlobStore, job: Job) -> PlanFiles | None:
    """The texts of the plan's files as the job's hashes name them, None while one of them has not been fetched.

    Raises Refused when what is kept is not what a hash says, and BadInput when it is not a text that can be read as
    Python reads it.
    """
    if not all(map(blobs.has, job.plan.files.values())):
        return None
    return declared(job.plan, ((path, _kept(blobs, job, path)) for path in job.plan.paths)).files


def check_packages(blobs: BlobStore, job: Job) -> None:
    """Raise BadInput when a job asks about packages that its plan, which was fetched, does not import."""
    if job.plan.packages:
        plan_files(blobs, job)


def _kept(blobs: BlobStore, job: Job, path: str) -> bytes:
    with blobs.open(job.plan.files[path]) as file:
        source = file.read()
    if blob_hash(source) != job.plan.files[path]:
        raise Refused(
            Thing("plan", path),
            "what is kept here is not what the job names",
            "restart the agent, which fetches it again",
            code=ErrorCode.BAD_PLAN,
            command=StartAgent(),
        )
    return source


def kept_blobs(database: Database, blobs: BlobStore) -> set[str]:
    """The hashes of what is kept here for jobs: the files of plans that have the right content, and the frozen parts of
    jobs that did not end, whose content is checked when it is read.
    """
    with database.read() as connection:
        known, frozen = offer_limits.plan_blobs(connection), offer_limits.frozen_parts(connection)
    return {one for one in known if _is_whole(blobs, one)} | frozen


def _is_whole(blobs: BlobStore, blob: str) -> bool:
    if not blobs.has(blob):
        return False
    with blobs.open(blob) as file:
        return blob_hash(file.read()) == blob


def drop_frozen_part(site: StateFolder, experiment: str) -> None:
    """Delete the frozen part of an experiment that ended, unless a job that did not end has the same."""
    with site.database.read() as connection:
        part = offer_limits.frozen_parts(connection, _rows.c.experiment == experiment)
    offer_limits.drop_files(site.database, site.blobs, part)


def end(database: Database, experiment: str, how: str) -> None:
    """Record that the server ended the experiment (``how``: finished, cancelled, ...); does nothing the second time."""
    with database.write() as connection:
        if stored(connection, experiment).state is OfferState.ENDED:
            return
        add_entry(connection, SiteJournalKind.EXPERIMENT_ENDED, ExperimentEnded(experiment=experiment, how=how))
        values = {"state": OfferState.ENDED, "ended_at": utc_now()}
        connection.execute(update(_rows).where(_rows.c.experiment == experiment).values(**values))


def find(connection: Connection, experiment: str) -> StoredOffer | None:
    """An experiment as it is stored, None when it was never offered."""
    columns = (_rows.c.state, _rows.c.job, _rows.c.job_hash, _rows.c.asked_by)
    row = connection.execute(select(*columns).where(_rows.c.experiment == experiment)).first()
    return None if row is None else StoredOffer(OfferState(row.state), row.job, row.job_hash, row.asked_by)


def stored(connection: Connection, experiment: str) -> StoredOffer:
    """An experiment as it is stored. Raises NotFound when it was never offered."""
    known = find(connection, experiment)
    if known is None:
        raise _not_offered(experiment)
    return known


def _not_offered(experiment: str) -> NotFound:
    return NotFound(
        Thing("experiment", experiment), "was not offered to this site", "see archipel site plans", command=ListOffers()
    )


def _offer(row: RowMapping) -> Offer:
    approval = Approval.model_validate_json(row["approval"]) if row["approval"] else None
    return Offer(
        experiment=row["experiment"],
        state=OfferState(row["state"]),
        document=row["job"],
        job_hash=row["job_hash"],
        cohort_hash=row["cohort_hash"],
        approval=approval,
        note=row["note"],
        offered_at=row["offered_at"],
        decided_at=row["decided_at"],
        ended_at=row["ended_at"],
        asked_by=row["asked_by"],
    )
