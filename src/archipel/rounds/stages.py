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

    @property
    def measures_federated(self) -> bool:
        """Whether it does nothing but measure the federated model."""
        return self.kind is TaskKind.EVALUATE and not self.about


ENSEMBLE = "ensemble"


def last_round(job: Job, rounds_done: int, ends_early: bool) -> int:
    """The round after which the experiment ends. One that ends early opens no further round after its first one.

    An early end that was asked for in the first round waits for it: without a round there is no model to measure.
    """
    return min(max(rounds_done, 1), job.terms.rounds) if ends_early else job.terms.rounds


def next_stage(job: Job, rounds_done: int, done: Collection[Stage], *, ends_early: bool = False) -> Stage | None:
    """The stage after ``rounds_done`` rounds of training and the later stages in ``done``; None when all is done."""
    last = last_round(job, rounds_done, ends_early)
    if rounds_done < last:
        return Stage(kind=TaskKind.TRAIN, round=rounds_done + 1)
    return next((stage for stage in stages_after_training(job, last) if stage not in done), None)


def stages_after_training(job: Job, last: int | None = None) -> list[Stage]:
    """What follows round ``last`` (by default the job's last), in order, where that round ends the experiment.

    The last model is validated (earlier ones are validated at the start of the next round); then each site trains
    alone for as many passes, and its model, and the ensemble of them, are validated everywhere.
    """
    last = job.terms.rounds if last is None else last
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


def most_measurements(job: Job) -> int:
    """How often the federated model may be measured between rounds, by the job's terms."""
    return min(job.terms.measurements, job.terms.rounds - 1) if job.validation else 0


def most_attempts(job: Job) -> int:
    """How many attempts there may be in a whole experiment, at all of its stages together."""
    stages = job.terms.rounds + most_measurements(job) + len(stages_after_training(job))
    return stages * job.terms.attempts
