"""Bootstrap intervals over subjects: the subjects are drawn again with replacement, and the metric is computed again.

The interval is that of percentiles (Efron and Tibshirani 1993, chapter 13), 95 %: between the 2.5th and the 97.5th
percentile of the metric over the draws. Samples of one subject stay together. The same seed gives the same interval.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
_CELLS_AT_ONCE = 1 << 22


class Interval(NamedTuple):
    """The ends of a 95 % interval."""

    low: float
    high: float


def draws(subjects: int, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Places of drawn subjects, int64 ``[draws, subjects]``, some draws at a time and ``resamples`` in all."""
    generator = np.random.default_rng(seed)
    at_once = max(1, _CELLS_AT_ONCE // max(1, subjects))
    for begin in range(0, resamples, at_once):
        yield generator.integers(0, subjects, (min(at_once, resamples - begin), subjects))


def of_sums(totals: NDArray[Any], weights: NDArray[Any], resamples: int, seed: int) -> Interval | None:
    """The interval of ``totals.sum() / weights.sum()``, of sums by subject, float64 ``[subjects]`` each.

    >>> of_sums(np.array([1.0, 0.0, 1.0, 1.0]), np.ones(4), resamples=1000, seed=0)
    Interval(low=0.25, high=1.0)
    """
    means = []
    for places in draws(len(totals), resamples, seed):
        counted = weights[places].sum(1)
        means.append(totals[places].sum(1)[counted > 0] / counted[counted > 0])
    return of_values(np.concatenate(means) if means else np.empty(0), len(totals))


def of_values(values: NDArray[Any], subjects: int) -> Interval | None:
    """The interval of a metric's values over the draws; None for fewer than two subjects, and without a value."""
    if subjects < 2 or not len(values):
        return None
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(float(low), float(high))
