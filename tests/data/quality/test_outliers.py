from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archipel.data.quality.outliers import FEWEST, outliers, ratio_outliers, robust_scores

NUMBERS = st.lists(st.integers(-1000, 1000).map(float), min_size=FEWEST, max_size=60)


@given(NUMBERS, st.integers(-50, 50), st.integers(1, 20))
def test_outliers_do_not_depend_on_unit_or_zero(values: list[float], shift: int, scale: int) -> None:
    moved = [scale * value + shift for value in values]
    assert outliers(moved, 0.5 * scale) == outliers(values, 0.5)


@given(NUMBERS)
def test_never_are_half_of_the_values_outliers(values: list[float]) -> None:
    assert len(outliers(values, 0.0)) < len(values) / 2


def test_scores_of_normal_data_are_standard_deviations() -> None:
    values = np.random.default_rng(0).normal(10, 3, 20_001)
    scores = robust_scores(list(values), 0.0)
    assert np.percentile(scores, 95) == pytest.approx(1.96, rel=0.05)


def test_normal_data_has_no_outlier() -> None:
    for seed in range(50):
        assert outliers(list(np.random.default_rng(seed).normal(0, 1, 200)), 0.0) == []


def test_where_all_others_are_the_same_only_a_real_difference_counts() -> None:
    assert ratio_outliers([1.0] * 20 + [1.05], 0.02) == []
    assert ratio_outliers([1.0] * 20 + [2.0], 0.02) == [20]


def test_of_few_values_nothing_is_said() -> None:
    assert outliers([1.0, 1.0, 1.0, 1.0, 900.0], 0.1) == []
