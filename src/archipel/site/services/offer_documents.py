"""Offered experiments as programs read them: a row, or one in full with its explanation and its plan's text."""

from __future__ import annotations

from archipel.data import Answer
from archipel.site.approval import approvals
from archipel.site.approval.approvals import Offer, OfferState
from archipel.site.services import offers
from archipel.site.state.folder import StateFolder
from archipel.vocabulary import Job, Record


class OfferRow(Record):
    """An experiment in a row. ``plan`` is the plan's file name; times are ISO 8601 in UTC."""

    experiment: str
    state: OfferState
    title: str
    plan: str
    rounds: int
    asked_by: str
    job_hash: str
    plan_hash: str
    cohort_hash: str | None
    offered_at: str
    decided_at: str | None
    note: str


class OfferDocument(OfferRow):
    """An experiment in full. ``source`` is the plan's text, None while it has not been fetched."""

    job: Job
    explanation: tuple[tuple[str, str], ...]
    needs: tuple[Answer, ...]
    source: str | None


def row(offer: Offer) -> OfferRow:
    """One offer in a row."""
    return OfferRow(
        experiment=offer.experiment,
        state=offer.state,
        title=offer.job.title,
        plan=offer.job.plan.file_name,
        rounds=offer.job.terms.rounds,
        asked_by=offer.asked_by,
        job_hash=offer.job_hash,
        plan_hash=offer.job.plan.hash,
        cohort_hash=offer.cohort_hash,
        offered_at=offer.offered_at,
        decided_at=offer.decided_at,
        note=offer.note,
    )


def rows(site: StateFolder) -> tuple[OfferRow, ...]:
    """Every experiment this site was ever offered, the newest offer first."""
    return tuple(map(row, approvals.offers(site)))


def document(site: StateFolder, offer: Offer, dataset: str | None = None) -> OfferDocument:
    """An offer in full, on ``dataset`` or on the one that it asks for."""
    return OfferDocument(
        **dict(row(offer)),
        job=offer.job,
        explanation=tuple(offers.explain(site, offer, dataset)),
        needs=offers.answer_needs(site, offer, dataset),
        source=approvals.plan_source(site, offer.job),
    )
