"""How much a plan can tell the server in an update beside its weights, counted exactly.

A plan that wants to can use every number that it reports, the time that it takes and the way in which it fails as an
alphabet. The number of different updates that leave a site is finite, since totals are float32, weights whole and
bounded, and seconds whole; its logarithm is what can be told. Not counted: when a message arrives, which a server can
measure below the second.
"""

from __future__ import annotations

from collections.abc import Iterable

from archipel.privacy.steps import steps_of
from archipel.vocabulary import EXCEPTION_CLASSES, ErrorCode, Job, TaskKind
from archipel.vocabulary.failures import MOST_LINES

FLOATS = 2**32 - 2**24 - 1
"""Totals: the float32 numbers that are finite, with one zero (IEEE 754)."""
_CLASSES = len(EXCEPTION_CLASSES) + 2
"""Classes of a failure: those of the list, ``Exception`` for every other, and none."""


def reported_bytes(job: Job, training: int, validation: int) -> int:
    """The most bytes that a plan can tell in one attempt beside its weights, at a site with so many samples."""
    return max(
        _bytes((updates(job, kind, training, validation) + failures(job)) * readings(job, kind, validation))
        for kind in TaskKind
    )


def updates(job: Job, kind: TaskKind, training: int, validation: int) -> int:
    """How many different updates, their weights aside, the plan can make of a task of this kind."""
    weights: list[int] = []
    if kind is not TaskKind.EVALUATE:
        weights += [metric.most(training) for metric in job.metrics]
        weights += [1 for step in steps_of(job) for _ in step.metrics]
    if kind is not TaskKind.LOCAL:
        weights += [metric.most(validation) for metric in job.validation]
    passes = job.terms.rounds if kind is TaskKind.LOCAL else 1
    return _product((most_seconds(job, passes) + 1, *(1 + (most + 1) * FLOATS for most in weights)))


def readings(job: Job, kind: TaskKind, validation: int) -> int:
    """In how many ways a plan can read the models of its task: a site fetches those of an ensemble as they are read, in
    their order and at most once for each sample to validate on (``plans/in_turn.py:ReadingOrder``).
    """
    ensemble = kind is TaskKind.EVALUATE and job.baselines.ensemble
    return 1 + validation * len(job.sites) if ensemble else 1


def most_seconds(job: Job, passes: int) -> int:
    """The longest time that an update says that it took, in whole seconds."""
    return int(job.limits.wall_s * passes)


def failures(job: Job) -> int:
    """How many different failures a site can send in the place of an update."""
    return len(ErrorCode) * 2 * _CLASSES * (1 + len(job.plan.files) * MOST_LINES)


def _bytes(states: int) -> int:
    return ((states - 1).bit_length() + 7) // 8


def _product(factors: Iterable[int]) -> int:
    found = 1
    for factor in factors:
        found *= factor
    return found
