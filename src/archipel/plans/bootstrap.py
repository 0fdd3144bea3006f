"""Intervals of a mean by drawing patients again: for data that are here, value by value."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from archipel.plans.base import derive_seed

DRAWS = 2000
_AT_ONCE = 100


def bootstrap_interval(values: Sequence[float], patients: Sequence[str]) -> tuple[float, float] | None:
    """The 95 % interval of the mean of ``values``, each of the patient at its place; None for fewer than two patients.

    Patients are drawn, with replacement and all their values together, because values of one patient are not
    independent (cluster bootstrap, Field and Welsh 2007); the interval has the 2.5 and the 97.5 percentile of the means
    (Efron and Tibshirani 1993, chapter 13). The draws have a fixed seed: the same values give the same interval.

    >>> low, high = bootstrap_interval([0.7, 0.8, 0.9, 0.8], ["a", "b", "c", "d"])
    >>> 0.7 <= low < 0.8 < high <= 0.9
    True
    """
    names, places = np.unique(np.asarray(patients, dtype=object).astype(str), return_inverse=True)
    if len(names) < 2:
        return None
    totals = np.bincount(places, weights=np.asarray(values, dtype=np.float64))
    counts = np.bincount(places)
    generator = np.random.default_rng(derive_seed("bootstrap"))
    means = []
    for _ in range(DRAWS // _AT_ONCE):
        drawn = generator.integers(0, len(names), (_AT_ONCE, len(names)))
        means.append(totals[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return float(low), float(high)
