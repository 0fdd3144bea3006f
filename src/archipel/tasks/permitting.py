"""Whether a task is one of the approved job's: a stage that its rounds make, with the models and passes that it needs.

The server sends tasks; the job, which the site approved, says which tasks there are. A task that no experiment of this
job would need is refused, so that a server gains nothing by sending it. An experiment may end after any round of its
job; whether this one has come so far is asked in ``between_rounds``.
"""

from __future__ import annotations

from archipel.rounds import ENSEMBLE, Stage, stages_after_training
from archipel.vocabulary import Conflict, ErrorCode, Job, Task, TaskKind, Thing, check_arguments


def check_task_of_job(job: Job, job_hash: str, task: Task) -> None:
    """Raise unless the task is one of this job's: its hash, a stage of it, and arguments inside the approved bounds.

    Raises Conflict (code not-approved) that names what does not fit, and BadInput for an argument.
    """
    if task.job_hash != job_hash or task.key.experiment != job.experiment:
        raise _unasked(task, "is for another version of the job", "approve it first")
    for cause in (_stage(job, task), _models(job, task), _passes(job, task)):
        if cause:
            raise _unasked(task, cause, "submit a job that has it")
    for training_pass in task.passes:
        check_arguments(job.parameters, training_pass.arguments)


def _stage(job: Job, task: Task) -> str:
    key, rounds = task.key, job.terms.rounds
    if key.attempt > job.terms.attempts:
        return f"attempt {key.attempt} is beyond the {job.terms.attempts} that the job allows"
    if key.kind is TaskKind.TRAIN and not key.about and 1 <= key.round <= rounds:
        return ""
    if key.round > rounds:
        return f"round {key.round} is beyond the job's {rounds}"
    stage = Stage(kind=key.kind, round=key.round, about=key.about)
    return (
        ""
        if key.round >= 1 and stage in stages_after_training(job, key.round)
        else f"{stage} is not a stage of the job"
    )


def _models(job: Job, task: Task) -> str:
    most = len(job.sites) if task.key.about == ENSEMBLE else 1
    if len(task.models) > most:
        return f"names {len(task.models)} models where {most} are enough"
    first = task.key.kind is TaskKind.LOCAL or (task.key.kind is TaskKind.TRAIN and task.key.round == 1)
    return "starts from another model than the job's" if first and task.models[0] != job.initial_model else ""


def _passes(job: Job, task: Task) -> str:
    rounds = [one.round for one in task.passes]
    if task.key.kind is TaskKind.LOCAL:
        # Counted first: the list of a round that no job has may be longer than memory.
        whole = len(rounds) == task.key.round and rounds == list(range(1, task.key.round + 1))
        return "" if whole else f"has {len(rounds)} passes that are not those of rounds 1 to {task.key.round}"
    return "" if rounds == [task.key.round] else f"has passes that are not the one of round {task.key.round}"


def _unasked(task: Task, cause: str, remedy: str) -> Conflict:
    return Conflict(Thing("task", task.key), cause, remedy, code=ErrorCode.NOT_APPROVED)
