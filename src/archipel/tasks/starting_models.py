"""Which model a task may start from: the one that its stage started from here before, and that a round has made.

A server that could name another model at each attempt would get a model of its choice trained as often as there are
attempts. So all attempts at a stage name the models of the first one that this site was asked for. And what starts from
a round's result names the model of the last committed result of that round which the server signed and this site holds.
"""

from __future__ import annotations

from dataclasses import replace

from archipel.rounds import Stage
from archipel.tasks.between_rounds import KnownRounds, check_between_rounds, ends_experiment
from archipel.vocabulary import Conflict, ErrorCode, Hash, Job, RoundClosed, Task, TaskKey, TaskKind, Thing


def round_before(key: TaskKey) -> int | None:
    """The round of training whose result a task starts from; None for one that starts from other models.

    >>> round_before(TaskKey(experiment="heart", round=4))
    3
    """
    if key.kind is TaskKind.TRAIN:
        return key.round - 1 if key.round > 1 else None
    return key.round if key.kind is TaskKind.EVALUATE and not key.about else None


def check_starting_models(task: Task, first: tuple[Hash, ...] | None, made: Hash | None) -> None:
    """Raise Conflict (code not-approved) unless the task names the models that it must start from.

    ``first`` are the models of this stage's first attempt here, ``made`` is what the round before made by the server's
    signed result; each is None where this site has none.
    """
    if first is not None and task.models != first:
        raise _other_model(task, "the first attempt at this stage did")
    if made is not None and task.models != (made,):
        raise _other_model(task, f"the server signed as the result of round {round_before(task.key)}")


def _other_model(task: Task, than: str) -> Conflict:
    cause = f"names another model than {than}"
    return Conflict(Thing("task", task.key), cause, "submit a new job", code=ErrorCode.NOT_APPROVED)


class StartingModels:
    """What one site of a simulation knows of the rounds, and of the models that its tasks must start from."""

    def __init__(self, job: Job) -> None:
        self._job, self._known = job, KnownRounds()
        self._first: dict[Stage, tuple[Hash, ...]] = {}
        self._made: dict[int, Hash] = {}

    def begin(self, task: Task) -> None:
        """Note a task. Raises Conflict (code not-approved) for one that names other models than it must, or that the
        job does not need now.
        """
        stage = Stage(kind=task.key.kind, round=task.key.round, about=task.key.about)
        before = round_before(task.key)
        made = None if before is None else self._made.get(before)
        check_starting_models(task, self._first.get(stage), made)
        check_between_rounds(self._job, task, self._known)
        self._first.setdefault(stage, task.models)
        if stage.measures_federated and stage.round < self._job.terms.rounds:
            self._known = replace(self._known, measured=self._known.measured | {stage.round})
        elif ends_experiment(task.key):
            self._known = replace(self._known, ended=stage.round)

    def settle(self, closed: RoundClosed) -> None:
        """Note the result of a stage."""
        if closed.committed and closed.kind is TaskKind.TRAIN and closed.model is not None:
            self._made[closed.round] = closed.model
            self._known = replace(self._known, closed=max(self._known.closed, closed.round))
