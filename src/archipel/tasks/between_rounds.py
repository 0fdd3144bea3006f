"""What a site may be asked beside its rounds: to measure the federated model between two, and to end after one.

An experiment may end after any round of its job, and is measured after a step or a pause. What that allows a server to
ask for is bounded here: it is about the last round whose signed result this site holds, the federated model is measured
between rounds as often as the job says, and the baselines, which end the experiment, are trained after one round only.
"""

from __future__ import annotations

from dataclasses import dataclass

from archipel.rounds import most_measurements
from archipel.tasks.failing import ResultNotHeld
from archipel.vocabulary import Conflict, ErrorCode, Job, Task, TaskKey, TaskKind, Thing
from archipel.vocabulary.counting import pluralise
from archipel.vocabulary.remedies import Nothing


@dataclass(frozen=True)
class KnownRounds:
    """What a site knows of the rounds of an experiment, by the tasks that it took on and the results that it holds.

    ``closed`` is the newest round of training that counts by the server's signature (0: none). ``measured`` are the
    rounds after which it measured the federated model; ``ended`` is the round after which its baselines began.
    """

    closed: int = 0
    measured: frozenset[int] = frozenset()
    ended: int | None = None


def ends_experiment(key: TaskKey) -> bool:
    """Whether only an experiment that ends asks for such a task: a baseline, or its measurement.

    >>> ends_experiment(TaskKey(experiment="heart", round=4, kind=TaskKind.LOCAL))
    True
    """
    return key.kind is TaskKind.LOCAL or bool(key.about)


def check_between_rounds(job: Job, task: Task, known: KnownRounds) -> None:
    """Raise Conflict (code not-approved) for a task that this job does not need where its rounds are now."""
    key, is_training = task.key, task.key.kind is TaskKind.TRAIN
    if known.ended is not None and (is_training or key.round != known.ended):
        raise _unasked(task, f"comes after the baselines of round {known.ended}, which end the experiment")
    if is_training or key.round >= job.terms.rounds:
        return
    if known.closed < key.round:
        raise _not_held(task, "of which this site holds no signed result that counts")
    if known.closed > key.round:
        raise _not_held(task, f"and this site holds the signed result of round {known.closed}")
    most = most_measurements(job)
    if not ends_experiment(key) and len(known.measured | {key.round}) > most:
        times = pluralise(most, "time")
        raise _unasked(task, f"measures the model between rounds once more than the {times} that the job allows")


def _not_held(task: Task, cause: str) -> ResultNotHeld:
    return ResultNotHeld(
        Thing("task", task.key),
        f"follows round {task.key.round}, {cause}",
        "the server sends the newest result when the site connects",
        code=ErrorCode.NOT_APPROVED,
        command=Nothing(),
    )


def _unasked(task: Task, cause: str) -> Conflict:
    return Conflict(Thing("task", task.key), cause, "submit a new job", code=ErrorCode.NOT_APPROVED)
