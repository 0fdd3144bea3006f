"""The proof before every task: what the people here signed is compared with what is stored, each time.

What is allowed is the approved job on the approved cohort, without those who were withdrawn since.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, select

from archipel.data import Cohort, SampleCounts, cohort_hash, subject_token
from archipel.governance import (
    Approval,
    SignedWithdrawal,
    SitePolicy,
    check_approval,
    check_withdrawal,
)
from archipel.site.approval.policy_objections import policy_objections, samples_for
from archipel.site.approval.stored_jobs import stored_job, stored_job_hash
from archipel.site.cohorts import stored_cohorts
from archipel.site.state import OfferState, StateFolder, schema
from archipel.site.withdrawals import withdrawals
from archipel.site.withdrawn import register, signed_withdrawals
from archipel.storage import Statement
from archipel.vocabulary import ErrorCode, Job, Refused, Thing
from archipel.vocabulary.remedies import Approve, CheckJournal, FreezeAgain, Nothing, ShowOffer

_rows = schema.experiments
_APPROVED = Statement(
    select(
        _rows.c.state,
        _rows.c.job,
        _rows.c.job_hash,
        _rows.c.approval,
        _rows.c.cohort_hash,
        schema.cohorts.c.dataset,
    )
    .join_from(_rows, schema.cohorts, schema.cohorts.c.hash == _rows.c.cohort_hash, isouter=True)
    .where(_rows.c.experiment == bindparam("named"))
)
"""What was decided about an experiment, with the cohort; composed once, since every task asks several times."""


class Authorisation(NamedTuple):
    """What the agent may run: the job, the cohort to run it on, and the site's own signature that says so.

    ``cohort`` is without those who were withdrawn since; ``samples`` says how many of its samples
    train and how many validate. ``view`` changes whenever the cohort changes: a worker that was given an older view
    must not be used any more.
    """

    job: Job
    cohort: Cohort
    approval: Approval
    view: str
    samples: SampleCounts


def authorise(site: StateFolder, experiment: str, job: str) -> Authorisation:
    """What may run for this experiment under the job with hash ``job``, proven again on every call.

    Raises Refused when the job was not approved, changed or revoked, when the row was tampered with (the signature,
    the job's hash and the cohort's keyed hash must all agree, and no withdrawal may be missing), when the site's policy
    now objects, or (code bad-data) when too few patients are left after withdrawals; BadInput when the
    opt-out list cannot be read.
    """
    thing = Thing("experiment", experiment)
    withdrawals.take_opt_outs(site)
    with site.database.read() as connection:
        row = _APPROVED.first(connection, {"named": experiment})
        out = (
            _withdrawn(connection, row["cohort_hash"] or "", row["dataset"] or "") if row is not None else _Withdrawn()
        )
        approved = row is not None and row["state"] == OfferState.APPROVED and bool(row["dataset"])
        content = (
            stored_cohorts.StoredCohort.of(connection, site.database, row["cohort_hash"])
            if row is not None and approved
            else None
        )
    if row is None:
        nothing = Nothing()
        raise Refused(
            thing, "was never offered here", "no action is needed", code=ErrorCode.NOT_APPROVED, command=nothing
        )
    about = {"experiment": experiment, "state": str(row["state"])}
    decide = Approve(experiment=experiment)
    if row["state"] == OfferState.REVOKED:
        cause, remedy = "was revoked by this site", "only people at the site can approve it again"
        raise Refused(thing, cause, remedy, code=ErrorCode.REVOKED, values=about, command=decide)
    if row["state"] != OfferState.APPROVED:
        cause = f"is {row['state']}, not approved, at this site"
        raise Refused(
            thing,
            cause,
            "only people at the site can approve it",
            code=ErrorCode.NOT_APPROVED,
            values=about,
            command=decide,
        )
    if row["job_hash"] != job:
        raise Refused(thing, "another job was approved", "offer the changed job and wait", code=ErrorCode.NOT_APPROVED)
    if row["approval"] is None or content is None:
        raise _tampered(thing, "its approval is missing")
    stored = _Stored(experiment, site.name, job, row["job"], row["approval"], row["dataset"], content, out)
    allowed = _proven(stored, site.identity.public, site.cohort_key)
    if out.signed:
        _check_enough(site.settings.policy, thing, allowed)
    against = policy_objections(
        allowed.job,
        site.settings.policy,
        len(allowed.cohort.subjects),
        allowed.samples,
        gpus=len(site.settings.gpus),
    )
    if against:
        remedy, show = "the site's policy must allow this first", ShowOffer(experiment=experiment)
        raise Refused(thing, "; ".join(against), remedy, values={"experiment": experiment}, command=show)
    return allowed


def _check_enough(policy: SitePolicy, thing: str, allowed: Authorisation) -> None:
    """Raise Refused when too few subjects are left of a cohort after withdrawals."""
    left = len(allowed.cohort.subjects)
    needed = max(policy.minimum_subjects, allowed.job.needs.minimum_subjects)
    if left < needed or not allowed.cohort.training:
        least = f"at least {needed} are needed, and one of them to train on"
        cause = f"patients were withdrawn and {left} subjects are left of its cohort; {least}"
        remedy = "approve it with a cohort that has more"
        dataset = allowed.cohort.dataset
        raise Refused(
            thing,
            cause,
            remedy,
            code=ErrorCode.BAD_DATA,
            values={"dataset": dataset, "subjects": left, "needed": needed},
            command=FreezeAgain(dataset=dataset),
        )


class _Withdrawn(NamedTuple):
    """The subjects withdrawn from a cohort, in the three places where that is stored.

    As signed withdrawals of the cohort, as a number of lines of the journal, and as tokens in the register.
    """

    signed: tuple[str, ...] = ()
    journaled: int = 0
    tokens: frozenset[str] = frozenset()


def _withdrawn(connection: Connection, hashed: str, dataset: str) -> _Withdrawn:
    return _Withdrawn(
        signed_withdrawals.of(connection, hashed),
        signed_withdrawals.journaled(connection, hashed),
        register.tokens_out_of(connection, dataset),
    )


class _Stored(NamedTuple):
    """What the database has of an approved experiment, as the exact stored texts and bytes."""

    experiment: str
    site: str
    job_hash: str
    job: str
    approval: str
    dataset: str
    cohort: stored_cohorts.StoredCohort
    withdrawn: _Withdrawn


@lru_cache(maxsize=8)
def _proven(stored: _Stored, identity_key: str, cohort_key: bytes) -> Authorisation:
    """The proof as a function of the stored texts alone, and so cached: a changed text is another call and is
    checked.
    """
    thing = Thing("experiment", stored.experiment)
    try:
        job = stored_job(stored.job)
        approval = Approval.model_validate_json(stored.approval)
        cohort = stored.cohort.cohort()
        hashed = cohort_hash(cohort, cohort_key)
        signed = [SignedWithdrawal.model_validate_json(body) for body in stored.withdrawn.signed]
    except ValueError as error:
        raise _tampered(thing, "a stored document cannot be read") from error
    if stored_job_hash(stored.job) != stored.job_hash or job.experiment != stored.experiment:
        raise _tampered(thing, "the stored job is not the one that was approved")
    if (approval.experiment, approval.site) != (stored.experiment, stored.site):
        raise _tampered(thing, "its approval is for something else")
    if cohort.dataset != stored.dataset:
        raise _tampered(thing, "its cohort is filed under another dataset")
    check_approval(approval, identity_key=identity_key, job_hash=stored.job_hash, cohort_hash=hashed)
    for withdrawal in signed:
        check_withdrawal(withdrawal, identity_key=identity_key, cohort_hash=hashed)
    left = signed_withdrawals.without_withdrawn(cohort, cohort_key, signed)
    out = stored.withdrawn.tokens
    still_there = bool(out) and any(subject_token(subject, cohort_key) in out for subject in left.subjects)
    if len(set(stored.withdrawn.signed)) < stored.withdrawn.journaled or still_there:
        raise _tampered(thing, "a withdrawal from its cohort is missing")
    return Authorisation(job, left, approval, f"{hashed} less {len(signed)}", samples_for(job, left))


def _tampered(thing: str, cause: str) -> Refused:
    remedy = "this site's database was changed by hand: check its journal"
    return Refused(thing, cause, remedy, code=ErrorCode.NOT_APPROVED, command=CheckJournal())
