"""What comes next in an experiment, and how many attempts at it the job still allows.

The job allows a number of attempts at each stage, which every site counts too. A server that asked for more would be
refused, so the loop stops there, and a resume is refused.
"""

from __future__ import annotations

from archipel.rounds.experiment_store import ExperimentProgress
from archipel.rounds.stages import ENSEMBLE, Stage, last_round, next_stage, stages_after_training
from archipel.vocabulary import Conflict, Job, Thing
from archipel.vocabulary.counting import pluralise

NEW_JOB = "submit a new job under another name"
"""The way on for an experiment whose attempts are used up."""


def next_possible_stage(job: Job, progress: ExperimentProgress) -> Stage | None:
    """The stage that comes next; None when all is done.

    A site whose local training failed has no model to validate; the record of that stage says why.
    """
    possible = ("", ENSEMBLE, *progress.local_models)
    early = progress.ending is not None
    last = last_round(job, progress.rounds_done, early)
    impossible = [stage for stage in stages_after_training(job, last) if stage.about not in possible]
    return next_stage(job, progress.rounds_done, {*progress.done, *impossible}, ends_early=early)


def is_used_up(job: Job, progress: ExperimentProgress, stage: Stage) -> bool:
    """Whether the job allows no further attempt at this stage."""
    return progress.attempts.get(stage, 0) >= job.terms.attempts


def check_attempts_left(job: Job, progress: ExperimentProgress) -> None:
    """Raise Conflict when the next thing to do is an attempt that the job does not allow."""
    stage = next_possible_stage(job, progress)
    if progress.opened is None and stage is not None and is_used_up(job, progress, stage):
        most = job.terms.attempts
        cause = f"cannot continue: {used_up(job, stage)}"
        raise Conflict(
            Thing("experiment", job.experiment), cause, NEW_JOB, values={"attempts": most, "stage": str(stage)}
        )


def used_up(job: Job, stage: Stage) -> str:
    """In words, that every attempt at this stage is made, and why there are so many."""
    terms = job.terms
    return (
        f"all {pluralise(terms.attempts, 'attempt')} at {stage} that the job allows are used up "
        f"({terms.retries + 1} at first, and {terms.retries + 1} after each of {pluralise(terms.resumes, 'resume')})"
    )
