"""The task of a stage: which models it starts from, and with which passes."""

from __future__ import annotations

from collections.abc import Mapping

from archipel.rounds.experiment_store import ExperimentProgress
from archipel.rounds.stages import ENSEMBLE, Stage
from archipel.vocabulary import Job, Task, TaskKey, TaskKind, TrainingPass, Value


def task_of(
    job: Job,
    job_hash: str,
    stage: Stage,
    attempt: int,
    progress: ExperimentProgress,
    arguments: Mapping[int, Mapping[str, Value]],
) -> Task:
    """What each site is asked for at an attempt; ``arguments`` are those of each round that it goes through.

    A site that trains alone goes through all rounds up to the stage's, from the initial model on.
    """
    key = TaskKey(experiment=job.experiment, round=stage.round, attempt=attempt, kind=stage.kind, about=stage.about)
    models: tuple[str, ...] = (progress.model,)
    if stage.kind is TaskKind.LOCAL:
        models = (job.initial_model,)
    elif stage.about == ENSEMBLE:
        models = tuple(model for _, model in sorted(progress.local_models.items()))
    elif stage.about:
        models = (progress.local_models[stage.about],)
    rounds = sorted(number for number in arguments if number <= stage.round)
    passes = tuple(TrainingPass(round=number, arguments=dict(arguments[number])) for number in rounds)
    return Task(key=key, job_hash=job_hash, models=models, passes=passes)
