"""The interval from drawing patients again, against scipy's bootstrap, and what several values of one patient do."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from archipel.plans.bootstrap import bootstrap_interval


def test_of_one_value_each_it_is_scipys_percentile_bootstrap() -> None:
    values = np.random.default_rng(1).normal(0.8, 0.1, 40)
    low, high = bootstrap_interval(values.tolist(), [f"p{n}" for n in range(40)]) or (0.0, 0.0)
    wanted = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    # 2,000 draws place each end within some hundredths of the standard error.
    error = values.std(ddof=1) / np.sqrt(40)
    assert low == pytest.approx(wanted.low, abs=0.15 * error) and high == pytest.approx(wanted.high, abs=0.15 * error)


def test_values_of_one_patient_are_drawn_together_so_that_copies_make_it_no_narrower() -> None:
    values = np.random.default_rng(1).normal(0.8, 0.1, 12).tolist()
    patients = [f"p{n}" for n in range(12)]
    assert bootstrap_interval(values * 10, patients * 10) == pytest.approx(bootstrap_interval(values, patients))
    apart = bootstrap_interval(values * 10, [f"p{n}" for n in range(120)])
    together = bootstrap_interval(values, patients)
    assert apart is not None and together is not None
    assert (apart[1] - apart[0]) < 0.5 * (together[1] - together[0])


def test_the_same_values_give_the_same_interval_and_one_patient_none() -> None:
    assert bootstrap_interval([0.5, 0.7, 0.9], ["a", "b", "b"]) == bootstrap_interval([0.5, 0.7, 0.9], ["a", "b", "b"])
    assert bootstrap_interval([0.5, 0.7], ["a", "a"]) is None
    assert bootstrap_interval([], []) is None
