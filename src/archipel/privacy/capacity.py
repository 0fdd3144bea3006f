"""How much a plan can tell the server in an update beside its weights, counted exactly.

A plan that wants to can use every number that it reports, the time that it takes and the way in which it fails as an
alphabet. The number of different updates that leave a site is finite, since totals are float32, weights whole and
bounded, and seconds whole; its logarithm is what can be told. Not counted: when a message arrives, which a server can
measure below the second.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import comb

from archipel.privacy.steps import steps_of
from archipel.vocabulary import EXCEPTION_CLASSES, ErrorCode, Job, TaskKind
from archipel.vocabulary.failures import MOST_LINES

FLOATS = 2**32 - 2**24 - 1
"""Totals: the float32 numbers that are finite, with one zero (IEEE 754)."""
SQUARES = 2**31 - 2**23
"""Sums of squares: those of them that are not negative."""
MOST_RUNS = 3
"""How often a site runs an evaluation of an ensemble in one attempt: each run can read the models in another way. A
worker or an agent that dies, and a patient who is withdrawn, take one more run; after the last the attempt fails."""
_CLASSES = len(EXCEPTION_CLASSES) + 2
"""Classes of a failure: those of the list, ``Exception`` for every other, and none."""


@dataclass(frozen=True)
class Measured:
    """What a site measures on, and what it discloses: samples of each side, patients held out, its smallest cell."""

    training: int
    validation: int
    held_out_patients: int
    minimum_cell: int


def reported_bytes(job: Job, site: Measured) -> int:
    """The most bytes that a plan can tell in one attempt beside its weights, at such a site."""
    return max(
        _bytes((updates(job, kind, site) + failures(job)) * readings(job, kind, site.validation)) for kind in TaskKind
    )


def updates(job: Job, kind: TaskKind, site: Measured) -> int:
    """How many different updates, their weights aside, the plan can make of a task of this kind."""
    factors: list[int] = []
    if kind is not TaskKind.EVALUATE:
        factors += [_sums(metric.most(site.training)) for metric in job.metrics]
        factors += [_sums(1) for step in steps_of(job) for _ in step.metrics]
    if kind is not TaskKind.LOCAL:
        smallest = smallest_group(site.held_out_patients, site.minimum_cell)
        for metric in job.validation:
            most = metric.most(site.validation)
            if metric.bins is not None:
                factors.append(1 + (most + 1) * FLOATS * (1 + histograms(metric.bins, most, smallest)))
            else:
                factors.append(_sums(most, smallest if metric.spread else None))
    passes = job.terms.rounds if kind is TaskKind.LOCAL else 1
    return _product((most_seconds(job, passes) + 1, *factors))


def smallest_group(patients: int, minimum_cell: int) -> int | None:
    """The fewest values of which it is disclosed how much they differ, and the fewest scores that are counted together;
    None where neither is disclosed at this site."""
    return max(2, minimum_cell) if patients >= minimum_cell else None


@lru_cache(maxsize=256)
def histograms(bins: int, most: int, smallest: int | None) -> int:
    """How many different histograms of at most ``most`` scores there are that have left a site, none not among them.

    Each class has j runs, which cover all bins: ``C(bins - 1, j - 1)`` ways to choose where they end, or no case.
    Each of all r runs of both classes holds ``smallest`` cases or more: ``C(most - r * smallest + r, r)`` ways.
    """
    if smallest is None:
        return 0
    places = [1, *(comb(bins - 1, runs - 1) for runs in range(1, bins + 1))]
    found = 0
    for runs in range(1, min(2 * bins, most // smallest) + 1):
        ways = sum(places[one] * places[runs - one] for one in range(max(0, runs - bins), min(runs, bins) + 1))
        found += ways * comb(most - runs * smallest + runs, runs)
    return found


def _sums(most: int, smallest: int | None = None) -> int:
    """How many different sums of a metric there are, none at all among them."""
    alone = most + 1 if smallest is None else min(most + 1, smallest)
    return 1 + FLOATS * (alone + (most + 1 - alone) * SQUARES)


def readings(job: Job, kind: TaskKind, validation: int) -> int:
    """In how many ways a plan can read the models of its task: a site fetches those of an ensemble as they are read, in
    their order and at most once for each sample to validate on (``plans/in_turn.py:ReadingOrder``), in each run.
    """
    ensemble = kind is TaskKind.EVALUATE and job.baselines.ensemble
    return (1 + validation * len(job.sites)) ** MOST_RUNS if ensemble else 1


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
