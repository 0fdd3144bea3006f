"""Whether an offered job fits this site: its dataset, what the plan needs, and the site's rules."""

from __future__ import annotations

from archipel.data import Answer, Cohort, SampleCounts, Verdict, check_needs
from archipel.site.approval.lineage import lineage_against
from archipel.site.approval.policy_objections import policy_objections, samples_for
from archipel.site.cohorts import cohort_versions
from archipel.site.datasets import catalog
from archipel.site.state import StateFolder
from archipel.storage import Database
from archipel.vocabulary import Job, NotFound


def asked_dataset(database: Database, site_name: str, job: Job, dataset: str | None = None) -> catalog.Dataset:
    """The dataset to run on: the one named here, else the one the job asks for. Raises NotFound when it is not here."""
    name = dataset or job.entry(site_name).dataset
    try:
        return catalog.dataset(database, name)
    except NotFound as error:
        raise NotFound(error.thing, error.cause, "add it, or choose another one with --dataset NAME") from error


def needs_met(job: Job, entry: catalog.Dataset, cohort: Cohort | None = None) -> tuple[Answer, ...]:
    """The answer for each need of the job's plan: by the dataset's last scan and the cohort's mapping."""
    return check_needs(job.needs, entry.summary, entry.mapping if cohort is None else cohort.mapping)


def rules_against(site: StateFolder, job: Job, entry: catalog.Dataset, cohort: Cohort | None = None) -> list[str]:
    """Why the site's rules do not allow the job, whatever the dataset holds.

    ``cohort`` is the one that would be approved, where that is settled; without it, all subjects of the dataset.
    """
    if cohort is None:
        every, subjects = entry.summary.samples, entry.subjects
        samples = SampleCounts(every, every, subjects)
    else:
        left = cohort_versions.as_it_stands(site.database, site.cohort_key, cohort)
        subjects, samples = len(left.subjects), samples_for(job, left)
    gpus = len(site.settings.gpus)
    reasons = policy_objections(job, site.settings.policy, subjects, samples, gpus=gpus)
    if cohort is not None and cohort.validation_fraction not in (None, job.validation_fraction):
        reasons.append(
            f"version {cohort.version} of dataset {entry.name} keeps {cohort.validation_fraction:g} for validation; "
            f"the job asks for {job.validation_fraction:g}"
        )
    return reasons


def reasons_against(site: StateFolder, job: Job, entry: catalog.Dataset, cohort: Cohort | None = None) -> list[str]:
    """Why the site's rules, the dataset or what the site knows of its model do not fit the job; nothing is approved
    while there is a reason.
    """
    with site.database.read() as connection:
        false = lineage_against(connection, job)
    unmet = [answer for answer in needs_met(job, entry, cohort) if answer.verdict is Verdict.NOT_MET]
    return [*false, *rules_against(site, job, entry, cohort)] + [f"dataset {entry.name}: {answer}" for answer in unmet]
