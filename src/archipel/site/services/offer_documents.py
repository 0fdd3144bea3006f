"""Offered experiments as programs read them: a row, or one in full with its explanation and its plan's text."""

from __future__ import annotations

from archipel.data import Answer, Cohort
from archipel.site.approval import EarlierDecision, Offer, earlier_decisions, offers, suitability
from archipel.site.datasets import Dataset
from archipel.site.services import explanations
from archipel.site.services.explanations import Explanation
from archipel.site.state import OfferState, StateFolder
from archipel.vocabulary import Job, Record


class OfferRow(Record):
    """An experiment in a row. ``plan`` is the file that holds the plan class; times are ISO 8601 in UTC."""

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
    """An experiment in full. ``files`` are the texts of the plan's files by path, None while they are not fetched.

    ``earlier`` are the decisions that were made about it here, the oldest first.
    """

    job: Job
    earlier: tuple[EarlierDecision, ...]
    explanation: tuple[tuple[str, str], ...]
    needs: tuple[Answer, ...]
    files: dict[str, str] | None


def row(offer: Offer) -> OfferRow:
    """One offer in a row."""
    return OfferRow(
        experiment=offer.experiment,
        state=offer.state,
        title=offer.job.title,
        plan=offer.job.plan.entry,
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
    return tuple(map(row, offers.all_offers(site.database)))


def full_name(site: StateFolder, text: str) -> str:
    """The experiment with this name, or the only one whose name begins with it. Raises as ``offers.named`` does."""
    return offers.named(site.database, text)


def document(site: StateFolder, experiment: str, dataset: str | None = None) -> OfferDocument:
    """An offer in full, on ``dataset`` or on the one that it asks for. Raises NotFound."""
    offer = offers.offered(site.database, experiment)
    needs = explanations.answer_needs(site, offer, dataset)
    return _document(site, offer, explanations.explain(site, offer, dataset), needs)


def document_on(site: StateFolder, offer: Offer, entry: Dataset, cohort: Cohort) -> OfferDocument:
    """An offer in full, on the cohort that would be approved."""
    needs = suitability.needs_met(offer.job, entry, cohort)
    return _document(site, offer, explanations.explain_on(site, offer, entry, cohort), needs)


def _document(site: StateFolder, offer: Offer, explained: Explanation, needs: tuple[Answer, ...]) -> OfferDocument:
    kept = offers.plan_files(site.blobs, offer.job)
    with site.database.read() as connection:
        earlier = earlier_decisions(connection, offer.experiment)
    return OfferDocument(
        **dict(row(offer)),
        job=offer.job,
        earlier=earlier,
        explanation=explained,
        needs=needs,
        files=None if kept is None else {path: kept.texts[path] for path in offer.job.plan.paths},
    )
