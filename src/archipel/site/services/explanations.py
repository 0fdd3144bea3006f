"""An offered experiment as a person reads it before deciding: the explanation, and whether the data fits."""

from __future__ import annotations

from collections.abc import Sequence

from archipel.data import Answer, Cohort, SampleCounts
from archipel.site.approval import (
    Offer,
    approved_before,
    differences,
    explain_offer,
    offers,
    samples_for,
    starts_from,
    suitability,
)
from archipel.site.cohorts import cohort_versions
from archipel.site.datasets import Dataset
from archipel.site.packages import QUESTION, answer, packages_of, warnings
from archipel.site.state import StateFolder
from archipel.vocabulary import ArchipelError, BadInput, ErrorCode, Job, NotFound, Refused

Explanation = tuple[tuple[str, str], ...]
"""Questions a person would ask about a job, each with its answer."""
_AFTER_WHAT_RUNS = 3
"""Where the answer about packages stands: behind who asks, what for and what runs."""


def explain(site: StateFolder, offer: Offer, dataset: str | None = None) -> Explanation:
    """The offer on ``dataset``, or on the one that it asks for; if that dataset is not here, the explanation says
    so.
    """
    try:
        return explain_on(site, offer, suitability.asked_dataset(site.database, site.name, offer.job, dataset))
    except NotFound as error:
        asked = dataset or offer.job.entry(site.name).dataset
        answers = explain_offer(offer.job, site.settings, site.joined().name, asked, 0, offer.asked_by)
        known = _with_history(site, offer, _with_packages(site, offer, answers))
        return (*known, ("What prevents it?", str(error)))


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
    known = _with_history(site, offer, _with_packages(site, offer, answers))
    return (*known, ("Does the data fit?", met), *objection)


def package_warnings(site: StateFolder, offer: Offer) -> tuple[str, ...]:
    """One sentence about packages that the plan needs and this site lacks; none where they cannot be looked for."""
    try:
        return tuple(warnings(packages_of(site, offer)))
    except ArchipelError as error:
        return (_unknown(error),)


def _with_packages(site: StateFolder, offer: Offer, answers: list[tuple[str, str]]) -> Explanation:
    """The answers, with that about packages behind what runs."""
    try:
        found = answer(offer.job, packages_of(site, offer), site.settings.policy.disclose_packages)
    except ArchipelError as error:
        found = f"WARNING: {_unknown(error)}."
    return (*answers[:_AFTER_WHAT_RUNS], (QUESTION, found), *answers[_AFTER_WHAT_RUNS:])


def _unknown(error: ArchipelError) -> str:
    """That packages could not be looked for; what is wrong with the plan itself is an error of its own."""
    if error.code is not ErrorCode.SANDBOX:
        raise error
    return f"which packages this site has could not be found out ({error.cause})"


def _with_history(site: StateFolder, offer: Offer, answers: Sequence[tuple[str, str]]) -> Explanation:
    """The answers with two more after that of what runs: what it starts from, and what was approved before."""
    with site.database.read() as connection:
        start = starts_from(connection, offer.job)
        before = approved_before(connection, site.name, offer.job, offer.asked_by)
    more = [("Which model does it start from?", start)] if start else []
    if before is not None:
        lines = differences(before.job, offer.job, _texts(site, before.job), _texts(site, offer.job))
        listed = "\n".join(f"- {line}" for line in lines)
        head = f"Compared with {before.job.experiment} (job {before.job_hash}), approved here on {before.at[:10]}:"
        more.append(("What differs from what was approved before?", f"{head}\n{listed}"))
    place = next(place for place, (question, _) in enumerate(answers, 1) if question == "What runs?")
    return (*answers[:place], *more, *answers[place:])


def _texts(site: StateFolder, job: Job) -> dict[str, str] | None:
    """The texts of the plan's files, None where one of them is not here or cannot be read."""
    try:
        kept = offers.plan_files(site.blobs, job)
    except (BadInput, Refused):
        return None
    return None if kept is None else dict(kept.texts)


def answer_needs(site: StateFolder, offer: Offer, dataset: str | None = None) -> tuple[Answer, ...]:
    """The answer for each need of the offer's plan; none where the dataset is not here."""
    try:
        return suitability.needs_met(offer.job, suitability.asked_dataset(site.database, site.name, offer.job, dataset))
    except NotFound:
        return ()
