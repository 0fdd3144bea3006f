"""An offered experiment as a person reads it before deciding: the explanation, and whether the data fits."""

from __future__ import annotations

from archipel.data import Answer, Cohort, SampleCounts
from archipel.site.approval import Offer, explain_offer, samples_for, suitability
from archipel.site.cohorts import cohort_versions
from archipel.site.datasets import Dataset
from archipel.site.state import StateFolder
from archipel.vocabulary import NotFound

Explanation = tuple[tuple[str, str], ...]
"""Questions a person would ask about a job, each with its answer."""


def explain(site: StateFolder, offer: Offer, dataset: str | None = None) -> Explanation:
    """The offer on ``dataset``, or on the one that it asks for; if that dataset is not here, the explanation says
    so.
    """
    try:
        return explain_on(site, offer, suitability.asked_dataset(site.database, site.name, offer.job, dataset))
    except NotFound as error:
        asked = dataset or offer.job.entry(site.name).dataset
        answers = explain_offer(offer.job, site.settings, site.joined().name, asked, 0, offer.asked_by)
        return (*answers, ("What prevents it?", str(error)))


def explain_on(site: StateFolder, offer: Offer, entry: Dataset, cohort: Cohort | None = None) -> Explanation:
    """The offer on a dataset of the catalog, or on the ``cohort`` of it that would be approved."""
    left = None if cohort is None else cohort_versions.as_it_stands(site.database, site.cohort_key, cohort)
    subjects, held_out = (entry.subjects, None) if left is None else (len(left.subjects), len(left.validation or ()))
    options = (entry if cohort is None else cohort).options
    every = entry.summary.samples
    samples = SampleCounts(every, every, entry.subjects) if left is None else samples_for(offer.job, left)
    answers = explain_offer(
        offer.job, site.settings, site.joined().name, entry.name, subjects, offer.asked_by, held_out, options, samples
    )
    met = "\n".join(f"- {answer}" for answer in suitability.needs_met(offer.job, entry, cohort))
    against = suitability.reasons_against(site, offer.job, entry, cohort)
    objection = (("What prevents it?", "\n".join(f"- {reason}" for reason in against)),) if against else ()
    return (*answers, ("Does the data fit?", met), *objection)


def answer_needs(site: StateFolder, offer: Offer, dataset: str | None = None) -> tuple[Answer, ...]:
    """The answer for each need of the offer's plan; none where the dataset is not here."""
    try:
        return suitability.needs_met(offer.job, suitability.asked_dataset(site.database, site.name, offer.job, dataset))
    except NotFound:
        return ()
