"""The bootstrap over subjects gives the interval that scipy gives for the same draws."""

from __future__ import annotations

import numpy as np
import pytest

from archipel.inference import intervals
from archipel.inference.intervals import of_sums, of_values


@pytest.mark.parametrize("seed", range(4))
def test_the_interval_is_that_of_scipy(seed: int) -> None:
    # Not at the top: it takes 1 s to import, and each of pytest's processes collects every test.
    from scipy.stats import bootstrap

    draw = np.random.default_rng(100 + seed)
    weights = draw.integers(1, 6, 23).astype(float)
    totals = weights * draw.normal(0.7, 0.2, 23)
    oracle = bootstrap(
        (totals, weights),
        lambda total, weight, axis=-1: total.sum(axis) / weight.sum(axis),
        paired=True,
        n_resamples=500,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    assert of_sums(totals, weights, 500, seed) == pytest.approx((oracle.low, oracle.high), abs=1e-12)


def test_many_subjects_are_drawn_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    totals, weights = np.random.default_rng(0).normal(size=37), np.ones(37)
    whole = of_sums(totals, weights, 300, 5)
    monkeypatch.setattr(intervals, "_CELLS_AT_ONCE", 37 * 7)
    assert of_sums(totals, weights, 300, 5) == whole != of_sums(totals, weights, 300, 6)


def test_one_subject_or_no_draw_has_no_interval() -> None:
    assert of_sums(np.ones(1), np.ones(1), 100, 0) is None
    assert of_sums(np.ones(5), np.ones(5), 0, 0) is None
    assert of_sums(np.zeros(5), np.zeros(5), 100, 0) is None
    assert of_values(np.array([0.5]), 3) == (0.5, 0.5)


def test_a_draw_in_which_nothing_is_counted_is_left_out() -> None:
    found = of_sums(np.array([1.0, 0.0]), np.array([1.0, 0.0]), 200, 0)
    assert found == (1.0, 1.0)
