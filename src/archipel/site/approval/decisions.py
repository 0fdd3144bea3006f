"""What the people at this site decide about an offer: they approve, reject or revoke it.

Approving signs (job hash, cohort hash) of the job that was shown and a frozen cohort. Every decision is a journal line
in the same transaction, which names the person, and the agent is woken at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sqlalchemy import Connection, update

from archipel.data import cohort_hash
from archipel.governance import Approval
from archipel.governance import approve as sign
from archipel.site.approval import offers, suitability
from archipel.site.approval.offers import Offer
from archipel.site.approval.past_decisions import check_decisions_shown
from archipel.site.audit import Approved, Decided, add_entry
from archipel.site.cohorts import cohort_versions
from archipel.site.state import OfferState, SiteJournalKind, StateFolder, schema
from archipel.storage import BlobStore, Database, utc_now
from archipel.vocabulary import Actor, Conflict, ErrorCode, Refused, Thing
from archipel.vocabulary.remedies import Nothing, ShowOffer, StartAgent

_rows = schema.experiments


class _Decision(NamedTuple):
    """What a decision writes into the experiment's row; ``cohort_hash`` None leaves the one that is there."""

    state: OfferState
    note: str
    approval: Approval | None = None
    cohort_hash: str | None = None


def approve(
    site: StateFolder,
    experiment: str,
    *,
    job_hash: str,
    frozen: cohort_versions.Frozen,
    by: Actor,
    last_decision: int = 0,
    note: str = "",
) -> Approval:
    """Approve the job with this hash on a frozen cohort; the agent learns of it at once.

    ``job_hash`` is that of the job that the person saw; ``frozen`` is a version kept before or one just frozen, which
    is kept with the approval. ``last_decision`` is the journal's line of the newest earlier decision that the person
    saw. Raises Refused when the site's rules object or the plan is not here to be read, and Conflict when the job
    changed since it was shown, another person decided since, or the experiment ended.
    """
    known = offers.offered(site.database, experiment)
    check_shown(known, job_hash)
    check_readable(site.blobs, known)
    entry, cohort = frozen.dataset, frozen.cohort
    against = suitability.reasons_against(site, known.job, entry, cohort)
    if against:
        raise Refused(
            Thing("experiment", experiment),
            "; ".join(against),
            "it cannot be approved as it is",
            values={"reasons": len(against)},
            command=ShowOffer(experiment=experiment),
        )
    hashed = cohort_hash(cohort, site.cohort_key)
    draft = Approval(
        experiment=experiment,
        site=site.name,
        job_hash=job_hash,
        cohort_hash=hashed,
        approved_at=utc_now(),
    )
    approval = sign(site.identity, draft)

    def decide(connection: Connection, offer: offers.StoredOffer) -> _Decision:
        if offer.job_hash != job_hash:
            raise _changed(experiment)
        if offer.state is OfferState.ENDED:
            raise Conflict(
                Thing("experiment", experiment), "has ended", "nothing is left to approve", command=Nothing()
            )
        check_decisions_shown(connection, experiment, last_decision)
        cohort_versions.keep(site, connection, frozen, by=by)
        return _Decision(OfferState.APPROVED, note, approval, hashed)

    body = Approved(
        experiment=experiment,
        by=by.journal_name,
        job_hash=job_hash,
        cohort_hash=hashed,
        dataset=entry.name,
        version=cohort.version,
        subjects=len(cohort.subjects),
        signature=approval.signature,
        note=note,
    )
    _decide(site.database, SiteJournalKind.APPROVED, body, decide)
    return approval


def check_shown(offer: Offer, job_hash: str) -> None:
    """Raise Conflict unless the offer's job is the one with this hash, which a person saw."""
    if offer.job_hash != job_hash:
        raise _changed(offer.experiment)


def check_readable(blobs: BlobStore, offer: Offer) -> None:
    """Raise Refused while the offer's plan has not been fetched, and as ``offers.plan_files`` does."""
    if offers.plan_files(blobs, offer.job) is None:
        raise Refused(
            Thing("experiment", offer.experiment),
            "its plan has not been fetched yet",
            "start the agent, which fetches it, then approve",
            code=ErrorCode.NOT_APPROVED,
            command=StartAgent(),
        )


def _changed(experiment: str) -> Conflict:
    return Conflict(
        Thing("experiment", experiment),
        "its job has changed since it was shown",
        "read the new one, then approve it",
        command=ShowOffer(experiment=experiment),
    )


def reject(database: Database, experiment: str, *, by: Actor, note: str = "") -> None:
    """Reject an offer. Raises Conflict when it is approved already (revoke it) or has ended."""

    def decide(_: Connection, offer: offers.StoredOffer) -> _Decision:
        if offer.state in (OfferState.APPROVED, OfferState.ENDED):
            raise Conflict(
                Thing("experiment", experiment),
                f"is {offer.state}",
                "to withdraw an approval use revoke; an experiment that ended needs no decision",
                values={"state": offer.state},
            )
        return _Decision(OfferState.REJECTED, note)

    body = Decided(experiment=experiment, by=by.journal_name, note=note)
    _decide(database, SiteJournalKind.REJECTED, body, decide)


def revoke(database: Database, experiment: str, *, by: Actor, note: str = "") -> None:
    """Revoke an approval: from this moment no task of the experiment is allowed, and the agent kills its worker.

    Raises Conflict when there is no approval to revoke.
    """

    def decide(_: Connection, offer: offers.StoredOffer) -> _Decision:
        if offer.state is not OfferState.APPROVED:
            raise Conflict(
                Thing("experiment", experiment),
                f"is {offer.state}, not approved",
                "there is nothing to revoke",
                values={"state": offer.state},
                command=Nothing(),
            )
        return _Decision(OfferState.REVOKED, note)

    body = Decided(experiment=experiment, by=by.journal_name, note=note)
    _decide(database, SiteJournalKind.REVOKED, body, decide)


def _decide(
    database: Database,
    kind: SiteJournalKind,
    body: Decided,
    decide: Callable[[Connection, offers.StoredOffer], _Decision],
) -> None:
    """Journal and store one decision in one transaction, of which the agent then learns."""
    with database.write() as connection:
        decision = decide(connection, offers.stored(connection, body.experiment))
        add_entry(connection, kind, body)
        values = {
            "state": decision.state,
            "approval": decision.approval.model_dump_json() if decision.approval is not None else None,
            "note": decision.note,
        }
        if decision.cohort_hash is not None:
            values["cohort_hash"] = decision.cohort_hash
        query = update(_rows).where(_rows.c.experiment == body.experiment)
        connection.execute(query.values(decided_at=utc_now(), **values))
