"""Why a site's policy, or the strategies that this site knows, do not allow a job."""

from __future__ import annotations

from archipel.governance import SitePolicy, objections
from archipel.strategies import known_needs
from archipel.vocabulary import BadInput, Job


def policy_objections(job: Job, policy: SitePolicy, subjects: int) -> list[str]:
    """One sentence for each reason not to run the job with a cohort of so many subjects; none when it may run.

    Parameters that a strategy known here does not take are such a reason: a person reads it beside the others.
    """
    try:
        needs = known_needs(job.strategy)
    except BadInput as error:
        misfit = f"strategy {job.strategy.name} does not take what the job gives it ({error.thing}: {error.cause})"
        # What it would need from the sites cannot be said then, and is no second reason.
        return [*objections(job, policy, subjects, job.privacy.release), misfit]
    return objections(job, policy, subjects, needs)
