"""Why a site's policy, or the strategies and privacy steps that this site knows, do not allow a job."""

from __future__ import annotations

from archipel.data import Cohort, SampleCounts, count_samples
from archipel.governance import SitePolicy, objections
from archipel.privacy import Measured, reported_bytes, steps_of
from archipel.strategies import known_needs
from archipel.vocabulary import BadInput, Job


def policy_objections(job: Job, policy: SitePolicy, subjects: int, samples: SampleCounts, *, gpus: int) -> list[str]:
    """One sentence for each reason not to run the job with a cohort of so many subjects; none when it may run.

    ``samples`` are those to train and to validate on; ``gpus`` is how many GPUs the site's owner named.

    A privacy step that is not known here, and parameters that a step or a known strategy does not take, are such
    reasons: a person reads them beside the others.
    """
    against = _of_steps(job)
    reported = 0 if against else reported_bytes(job, Measured(*samples, policy.minimum_cell))
    return [*_of_policy(job, policy, subjects, reported, gpus), *against]


def samples_for(job: Job, cohort: Cohort) -> SampleCounts:
    """How many samples of the cohort the job's plan trains and validates on."""
    return count_samples(cohort, job.validation_fraction, job.needs)


def _of_steps(job: Job) -> list[str]:
    try:
        steps_of(job)
    except BadInput as error:
        return [f"the privacy steps cannot be taken here ({error.thing}: {error.cause})"]
    return []


def _of_policy(job: Job, policy: SitePolicy, subjects: int, reported: int, gpus: int) -> list[str]:
    try:
        needs = known_needs(job.strategy)
    except BadInput as error:
        misfit = f"strategy {job.strategy.name} does not take what the job gives it ({error.thing}: {error.cause})"
        # What it would need from the sites cannot be said then, and is no second reason.
        return [*objections(job, policy, subjects, job.privacy.release, reported, gpus), misfit]
    return objections(job, policy, subjects, needs, reported, gpus)
