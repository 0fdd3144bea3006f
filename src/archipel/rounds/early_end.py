"""An early end: the rule of patience, the measurements between rounds, and why an experiment ended, for people.

The rule sees the models in the order of their rounds, each as it was measured at the start of the next round, and
nothing else. So a simulation, a federation that was paused and a server that was restarted end after the same round.
"""

from __future__ import annotations

from collections.abc import Mapping

from archipel.rounds.experiment_store import ExperimentProgress
from archipel.rounds.stages import Stage, most_measurements
from archipel.vocabulary import Conflict, Job, MetricSum, TaskKind, Thing
from archipel.vocabulary.states import ExperimentState

ASKED_FOR = "a person asked to finish it"
"""Why an experiment ends early that a person finishes."""


class Course:
    """The measured models of an experiment, one after the other, as its rule of patience sees them."""

    def __init__(self, job: Job) -> None:
        self.rule = job.terms.patience
        self._sign = 1.0
        if self.rule is not None:
            better = {metric.name: metric.better for metric in job.validation}[self.rule.metric]
            self._sign = 1.0 if better == "higher" else -1.0
        self.rounds = 0
        self._best: float | None = None
        self._without_gain = 0

    def take(self, measured: Mapping[int, MetricSum | None]) -> None:
        """Note what the committed rounds measured, by their number; a round that measured nothing changes nothing."""
        for number in sorted(measured):
            self.rounds, found = number, measured[number]
            if self.rule is None or found is None or not found.weight:
                continue
            value = self._sign * found.mean()
            gain = None if self._best is None else value - self._best
            if gain is None or (gain > 0 and gain >= self.rule.smallest_gain):
                self._best, self._without_gain = value, 0
            else:
                self._without_gain += 1

    @property
    def is_over(self) -> bool:
        """Whether the rule ends the experiment now."""
        return self.rule is not None and self._without_gain >= self.rule.rounds


def has_stepped(job: Job, progress: ExperimentProgress) -> bool:
    """Whether the one round that was asked for is done, and others are left."""
    done = progress.rounds_done
    asked = progress.pause_after is not None and done >= progress.pause_after
    return asked and progress.ending is None and done < job.terms.rounds


def measurement_due(job: Job, progress: ExperimentProgress) -> Stage | None:
    """The measurement of the newest model after a step or a pause; None when it was measured, tried, or may not be.

    One of the job's measurements between rounds is left for an early end, until no later round can be such an end.
    """
    stage = Stage(kind=TaskKind.EVALUATE, round=progress.rounds_done)
    known = {*progress.done, *progress.attempts}
    made = sum(one.measures_federated and one.round < job.terms.rounds for one in known)
    due = (
        progress.state in (ExperimentState.RUNNING, ExperimentState.PAUSED)
        and progress.ending is None
        and 0 < progress.rounds_done < job.terms.rounds
        and stage not in known
    )
    kept = 1 if progress.rounds_done + 1 < job.terms.rounds else 0
    return stage if due and made + kept < most_measurements(job) else None


def check_can_finish(job: Job, progress: ExperimentProgress) -> None:
    """Raise Conflict before the first round: there is no model to measure yet."""
    if progress.rounds_done == 0 and progress.opened is None:
        cause = "cannot finish: none of its rounds has begun"
        remedy = "run a round first, or cancel it"
        raise Conflict(Thing("experiment", job.experiment), cause, remedy, values={"round": 0})


def why_it_ends(job: Job, progress: ExperimentProgress) -> str | None:
    """Why the experiment ends before its last round, for people; None for one that does not.

    The best round is that of the model which the job's selection chose so far.
    """
    if progress.ending is None or progress.rounds_done >= job.terms.rounds:
        return None
    words = f"ended early after round {progress.rounds_done} of {job.terms.rounds}: {progress.ending}"
    if progress.best_round is None or job.selection is None:
        return words
    rule = job.terms.patience
    by = "" if rule is not None and rule.metric == job.selection.metric else f" by {job.selection.metric}"
    initial = "the untrained initial model" if job.lineage is None else "the model that it started from"
    which = f"after round {progress.best_round}" if progress.best_round else f"is {initial}"
    return f"{words}; best{by} {which}"
