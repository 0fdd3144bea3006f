"""What an experiment does, in order: its rounds, a last validation, and the baselines it is shown against."""

from __future__ import annotations

from collections.abc import Collection

from archipel.vocabulary import Job, Record, TaskKind


class Stage(Record):
    """One exchange with the sites. ``round`` counts from 1; what follows the last round keeps the last number."""

    kind: TaskKind
    round: int
    about: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.round}" + (f" of {self.about}" if self.about else "")


ENSEMBLE = "ensemble"


def next_stage(job: Job, rounds_done: int, done: Collection[Stage]) -> Stage | None:
    """The stage after ``rounds_done`` rounds of training and the later stages in ``done``; None when all is done."""
    if rounds_done < job.terms.rounds:
        return Stage(kind=TaskKind.TRAIN, round=rounds_done + 1)
    return next((stage for stage in stages_after_training(job) if stage not in done), None)


def stages_after_training(job: Job) -> list[Stage]:
    """What follows the last round, in order.

    The last model is validated (earlier ones are validated at the start of the next round); then each site trains
    alone for as many passes, and its model, and the ensemble of them, are validated everywhere.
    """
    last = job.terms.rounds
    stages: list[Stage] = []
    if job.validation:
        stages.append(Stage(kind=TaskKind.EVALUATE, round=last))
    if job.baselines.local:
        stages.append(Stage(kind=TaskKind.LOCAL, round=last))
        if job.validation:
            stages += [Stage(kind=TaskKind.EVALUATE, round=last, about=site) for site in job.sites]
    if job.baselines.ensemble and job.validation:
        stages.append(Stage(kind=TaskKind.EVALUATE, round=last, about=ENSEMBLE))
    return stages


def most_attempts(job: Job) -> int:
    """How many attempts there may be in a whole experiment, at all of its stages together."""
    return (job.terms.rounds + len(stages_after_training(job))) * job.terms.attempts
