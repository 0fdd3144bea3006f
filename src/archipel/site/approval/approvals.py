"""What may run here: jobs that were offered, and what the people at this site decided about them.

An offer is a job's document and nothing more. Approving freezes a cohort and signs (job hash, cohort hash); a changed
job is a new offer. Every decision is a journal line in the same transaction, and the agent is woken after it.
"""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import Connection, insert, select, update

from archipel.data import Answer, Cohort, Verdict, check_needs
from archipel.governance import (
    Approval,
    canonical,
    job_hash,
    objections,
)
from archipel.governance import approve as sign
from archipel.plans import plan_text
from archipel.site.approval import offer_limits
from archipel.site.audit import journal
from archipel.site.cohorts import cohort_versions
from archipel.site.datasets import catalog
from archipel.site.state import schema
from archipel.site.state.folder import StateFolder
from archipel.site.withdrawals import withdrawals
from archipel.storage import BlobStore, utc_now
from archipel.strategies import known_needs
from archipel.tensors import blob_hash
from archipel.vocabulary import Conflict, ErrorCode, Job, NotFound, Refused

_rows = schema.experiments


class OfferState(StrEnum):
    """Where an experiment stands at this site."""

    OFFERED = "offered"
    APPROVED = "approved"
    REJECTED = "rejected"
    REVOKED = "revoked"
    ENDED = "ended"


class Offer(NamedTuple):
    """An experiment at this site: its job, where it stands, and the approval if there is one."""

    experiment: str
    state: OfferState
    job: Job
    job_hash: str
    cohort_hash: str | None
    approval: Approval | None
    note: str
    offered_at: str
    decided_at: str | None
    ended_at: str | None
    asked_by: str


def check_ours(site: StateFolder, job: Job) -> None:
    """Raise Refused when a job is not of this federation or does not name this site by its identity key."""
    thing = f"experiment {job.experiment}"
    if job.server_key != site.joined().server_key:
        raise Refused(thing, "names another federation's server", "it was not taken on", code=ErrorCode.TRUST)
    entries = {entry.site: entry for entry in job.roster}
    if site.name not in entries or entries[site.name].identity_key != site.identity.public:
        raise Refused(thing, "does not name this site by its identity key", "it was not taken on", code=ErrorCode.TRUST)


def check_offer(site: StateFolder, job: Job) -> None:
    """Raise Refused when this site will not take the job on, before anything is fetched for it."""
    check_ours(site, job)
    with site.database.read() as connection:
        row = _find(connection, job.experiment)
        if row is None or row["job_hash"] != job_hash(job):
            offer_limits.check_limits(connection, job, len(canonical(job)))


def offer(site: StateFolder, job: Job, asked_by: str = "") -> OfferState:
    """Take note of a job that the server offers; a job that differs from the one known asks the people here again.

    ``asked_by`` is whom the server names as the one who asks; another name for a known job is noted and no more, for
    what was approved is the job. Returns where the experiment stands now. Raises Refused when the job is not of this
    federation or does not name this site by its identity key, and when too many wait for a decision here.
    """
    check_ours(site, job)
    hashed, document, unused = job_hash(job), canonical(job), set[str]()
    with site.database.write() as connection:
        row = _find(connection, job.experiment)
        if row is not None and row["job_hash"] == hashed:
            if asked_by not in ("", row["asked_by"]):
                body = {"experiment": job.experiment, "asked_by": asked_by, "before": row["asked_by"]}
                journal.append(connection, "job-asker", body)
                change = update(_rows).where(_rows.c.experiment == job.experiment)
                connection.execute(change.values(asked_by=asked_by))
            return OfferState(row["state"])
        offer_limits.check_limits(connection, job, len(document))
        unused |= offer_limits.forget_ended(connection)
        values = {
            "job": document.decode(),
            "job_hash": hashed,
            "plan_hash": job.plan.hash,
            "state": OfferState.OFFERED,
            "cohort_hash": None,
            "approval": None,
            "note": "",
            "offered_at": utc_now(),
            "decided_at": None,
            "ended_at": None,
            "asked_by": asked_by,
        }
        body = {"experiment": job.experiment, "job_hash": hashed, "plan_hash": job.plan.hash, "asked_by": asked_by}
        if row is None:
            journal.append(connection, "job-offered", body)
            connection.execute(insert(_rows).values(experiment=job.experiment, **values))
        else:
            unused.add(row["plan_hash"])
            body |= {"before": row["job_hash"], "was": row["state"]}
            journal.append(connection, "job-changed", body)
            connection.execute(update(_rows).where(_rows.c.experiment == job.experiment).values(**values))
    offer_limits.drop_plans(site, unused)
    return OfferState.OFFERED


def offers(site: StateFolder) -> list[Offer]:
    """Every experiment this site was ever offered, the newest offer first."""
    with site.database.read() as connection:
        rows = connection.execute(select(_rows).order_by(_rows.c.offered_at.desc())).mappings().all()
    return [_offer(row) for row in rows]


def names(site: StateFolder) -> list[str]:
    """Every experiment this site was ever offered, the newest offer first."""
    with site.database.read() as connection:
        return list(connection.scalars(select(_rows.c.experiment).order_by(_rows.c.offered_at.desc())))


def named(site: StateFolder, text: str) -> str:
    """The experiment that is called so, or the only one whose name begins so.

    Raises Conflict when several do, and NotFound, with the names that are like it, when none does.
    """
    known = names(site)
    if text in known:
        return text
    begins = [name for name in known if text and name.startswith(text)]
    if len(begins) == 1:
        return begins[0]
    thing = f"experiment {text}"
    if begins:
        raise Conflict(thing, f"may be {', '.join(begins[:5])}", "give more of its name")
    like = get_close_matches(text, known, n=3)
    remedy = f"did you mean {' or '.join(like)}?" if like else "see archipel site plans"
    raise NotFound(thing, "was not offered to this site", remedy)


def offered(site: StateFolder, experiment: str) -> Offer:
    """One experiment. Raises NotFound."""
    with site.database.read() as connection:
        return _offer(_known(connection, experiment))


def plan_source(site: StateFolder, job: Job) -> str | None:
    """The plan's source as the job's hash names it, None while it has not been fetched.

    Raises Refused when what is kept is not what the hash says, and BadInput when it is not a text that can be read as
    Python reads it.
    """
    if not site.blobs.has(job.plan.hash):
        return None
    with site.blobs.open(job.plan.hash) as file:
        source = file.read()
    if blob_hash(source) != job.plan.hash:
        raise Refused(
            f"plan {job.plan.file_name}",
            "what is kept here is not what the job names",
            "restart the agent, which fetches it again",
            code=ErrorCode.BAD_PLAN,
        )
    return plan_text(source, job.plan.file_name)


def whole_plans(site: StateFolder) -> set[str]:
    """The hashes of the plans that are here as they were offered."""
    with site.database.read() as connection:
        known = set(connection.scalars(select(_rows.c.plan_hash)))
    return {one for one in known if _is_whole(site.blobs, one)}


def _is_whole(blobs: BlobStore, blob: str) -> bool:
    if not blobs.has(blob):
        return False
    with blobs.open(blob) as file:
        return blob_hash(file.read()) == blob


def asked_dataset(site: StateFolder, job: Job, dataset: str | None = None) -> catalog.Dataset:
    """The dataset to run on: the one named here, else the one the job asks for. Raises NotFound when it is not here."""
    name = dataset or job.entry(site.name).dataset
    try:
        return catalog.dataset(site, name)
    except NotFound as error:
        raise NotFound(error.thing, error.cause, "add it, or choose another one with --dataset NAME") from error


def needs_met(job: Job, entry: catalog.Dataset, cohort: Cohort | None = None) -> tuple[Answer, ...]:
    """The answer for each need of the job's plan: by the dataset as it was last looked at, and the cohort's mapping."""
    return check_needs(job.needs, entry.summary, entry.mapping if cohort is None else cohort.mapping)


def rules_against(site: StateFolder, job: Job, entry: catalog.Dataset, cohort: Cohort | None = None) -> list[str]:
    """Why the site's rules do not allow the job, whatever the dataset holds.

    ``cohort`` is the one that would be approved, where that is settled; without it, all subjects of the dataset.
    """
    subjects = entry.subjects if cohort is None else len(cohort_versions.as_it_stands(site, cohort).subjects)
    found = objections(job, site.settings.policy, subjects, known_needs(job.strategy))
    if cohort is not None and cohort.validation_fraction not in (None, job.validation_fraction):
        found.append(
            f"version {cohort.version} of dataset {entry.name} keeps {cohort.validation_fraction:g} for validation; "
            f"the job asks for {job.validation_fraction:g}"
        )
    return found


def reasons_against(site: StateFolder, job: Job, entry: catalog.Dataset, cohort: Cohort | None = None) -> list[str]:
    """Why the site's rules or the dataset do not fit the job; nothing is approved while there is a reason."""
    unmet = [answer for answer in needs_met(job, entry, cohort) if answer.verdict is Verdict.NOT_MET]
    return rules_against(site, job, entry, cohort) + [f"dataset {entry.name}: {answer}" for answer in unmet]


def approve(
    site: StateFolder,
    experiment: str,
    *,
    shown: str | None = None,
    dataset: str | None = None,
    frozen: cohort_versions.Frozen | None = None,
    note: str = "",
) -> Approval:
    """Approve an experiment's job and wake the agent.

    ``shown`` is the job hash that the person saw and ``frozen`` the cohort, a version kept before or one just frozen;
    without it, all subjects that the dataset (``dataset``, else the one asked for) holds now. Raises Refused when the
    site's rules object or the plan is not here to be read, Conflict when the job changed since it was shown or the
    experiment ended, DatasetProblems when the data has become unusable.
    """
    known = offered(site, experiment)
    if plan_source(site, known.job) is None:
        raise Refused(
            f"experiment {experiment}",
            "its plan has not been fetched yet",
            "start the agent, which fetches it, then approve",
            code=ErrorCode.NOT_APPROVED,
        )
    if frozen is None:
        entry = asked_dataset(site, known.job, dataset)
        frozen = cohort_versions.freeze(site, entry, withdrawals.take_opt_outs, fraction=known.job.validation_fraction)
    entry, cohort = frozen.dataset, frozen.cohort
    against = reasons_against(site, known.job, entry, cohort)
    if against:
        raise Refused(f"experiment {experiment}", "; ".join(against), "it cannot be approved as it is")
    hashed = cohort_versions.hash_of(site, cohort)
    draft = Approval(
        experiment=experiment,
        site=site.name,
        job_hash=known.job_hash,
        cohort_hash=hashed,
        approved_at=utc_now(),
    )
    approval = sign(site.identity, draft)

    def decide(connection: Connection, row: Mapping[Any, Any]) -> dict[str, Any]:
        if {row["job_hash"], shown or known.job_hash} != {known.job_hash}:
            raise Conflict(
                f"experiment {experiment}",
                "its job has changed since it was shown",
                "read the new one, then approve it",
            )
        if row["state"] == OfferState.ENDED:
            raise Conflict(f"experiment {experiment}", "has ended", "nothing is left to approve")
        cohort_versions.keep(site, connection, frozen)
        return {
            "state": OfferState.APPROVED,
            "cohort_hash": hashed,
            "approval": approval.model_dump_json(),
            "note": note,
        }

    body = {
        "job_hash": known.job_hash,
        "cohort_hash": hashed,
        "dataset": entry.name,
        "version": cohort.version,
        "subjects": len(cohort.subjects),
        "signature": approval.signature,
        "note": note,
    }
    _decide(site, experiment, "approved", body, decide)
    return approval


def reject(site: StateFolder, experiment: str, note: str = "") -> None:
    """Say no to an offer. Raises Conflict when it is approved already (revoke it) or has ended."""

    def decide(_: Connection, row: Mapping[Any, Any]) -> dict[str, Any]:
        if row["state"] in (OfferState.APPROVED, OfferState.ENDED):
            raise Conflict(
                f"experiment {experiment}",
                f"is {row['state']}",
                "to withdraw an approval use revoke; an experiment that ended needs no decision",
            )
        return {"state": OfferState.REJECTED, "approval": None, "note": note}

    _decide(site, experiment, "rejected", {"note": note}, decide)


def revoke(site: StateFolder, experiment: str, note: str = "") -> None:
    """Take an approval back; from this moment no task of the experiment is allowed, and the agent kills its worker.

    Raises Conflict when there is no approval to take back.
    """

    def decide(_: Connection, row: Mapping[Any, Any]) -> dict[str, Any]:
        if row["state"] != OfferState.APPROVED:
            raise Conflict(f"experiment {experiment}", f"is {row['state']}, not approved", "there is nothing to revoke")
        return {"state": OfferState.REVOKED, "approval": None, "note": note}

    _decide(site, experiment, "revoked", {"note": note}, decide)


def end(site: StateFolder, experiment: str, how: str) -> None:
    """Record that the server ended the experiment (``how``: finished, cancelled, ...); does nothing the second time."""
    with site.database.write() as connection:
        row = _known(connection, experiment)
        if row["state"] == OfferState.ENDED:
            return
        journal.append(connection, "experiment-ended", {"experiment": experiment, "how": how})
        values = {"state": OfferState.ENDED, "ended_at": utc_now()}
        connection.execute(update(_rows).where(_rows.c.experiment == experiment).values(**values))


def _decide(
    site: StateFolder,
    experiment: str,
    kind: str,
    body: dict[str, Any],
    decide: Callable[[Connection, Mapping[Any, Any]], dict[str, Any]],
) -> None:
    """Journal and store one decision in one transaction, then wake the agent."""
    with site.database.write() as connection:
        values = decide(connection, _known(connection, experiment))
        journal.append(connection, kind, {"experiment": experiment, "by": person()} | body)
        query = update(_rows).where(_rows.c.experiment == experiment)
        connection.execute(query.values(decided_at=utc_now(), **values))
    site.ring()


def person() -> str:
    """The operating system's name for whoever decides: the account, which the environment cannot change."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def _find(connection: Connection, experiment: str) -> Mapping[Any, Any] | None:
    return connection.execute(select(_rows).where(_rows.c.experiment == experiment)).mappings().first()


def _known(connection: Connection, experiment: str) -> Mapping[Any, Any]:
    row = _find(connection, experiment)
    if row is None:
        raise NotFound(f"experiment {experiment}", "was not offered to this site", "see archipel site plans")
    return row


def _offer(row: Mapping[Any, Any]) -> Offer:
    approval = Approval.model_validate_json(row["approval"]) if row["approval"] else None
    return Offer(
        experiment=row["experiment"],
        state=OfferState(row["state"]),
        job=Job.model_validate(json.loads(row["job"])),
        job_hash=row["job_hash"],
        cohort_hash=row["cohort_hash"],
        approval=approval,
        note=row["note"],
        offered_at=row["offered_at"],
        decided_at=row["decided_at"],
        ended_at=row["ended_at"],
        asked_by=row["asked_by"],
    )
