"""Standard deviation and 95 % interval from sums: against numpy and scipy, and what floats may do to them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.special import stdtrit

from archipel.vocabulary import ArchipelError, ErrorCode, MetricSpec, MetricSum
from archipel.vocabulary.spread import Spread, student

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)
GROUPS = st.lists(st.lists(st.tuples(NUMBERS, st.integers(1, 9)), min_size=1, max_size=8), min_size=1, max_size=4)


def sums_of(groups: list[list[tuple[float, int]]]) -> Spread:
    found = [MetricSum.of([value for value, _ in one], weights=[times for _, times in one]) for one in groups]
    together = sum(found[1:], start=found[0])
    assert together.spread is not None and together.spread.weight == together.weight
    return together.spread


@settings(max_examples=60, deadline=None)
@given(GROUPS)
def test_sums_of_any_groups_give_what_numpy_and_scipy_give_of_all_values(groups: list[list[tuple[float, int]]]) -> None:
    values = np.concatenate([np.full(times, value) for one in groups for value, times in one])
    spread = sums_of(groups)
    assert spread.weight == len(values)
    size = max(1.0, float(np.abs(values).max()))
    if len(values) == 1:
        assert spread.deviation is None and spread.interval() is None
        return
    deviation, interval = spread.deviation, spread.interval()
    assert deviation is not None and interval is not None
    assert deviation == pytest.approx(np.std(values, ddof=1), rel=1e-9, abs=1e-9 * size)
    half = stdtrit(len(values) - 1, 0.975) * np.std(values, ddof=1) / np.sqrt(len(values))
    wanted = values.mean() - half, values.mean() + half
    assert interval == pytest.approx(wanted, rel=1e-6, abs=1e-6 * size)


@example([[0.0, 3.076952117027485e-27]])
@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(NUMBERS, min_size=2, max_size=9), min_size=1, max_size=5))
def test_what_leaves_as_float32_is_as_exact_as_float32_and_never_negative(groups: list[list[float]]) -> None:
    left = [MetricSum.of(one).rounded("m") for one in groups]
    assert all(one.is_rounded for one in left)
    spread = sum(left[1:], start=left[0]).spread
    assert spread is not None and spread.squares >= 0 and spread.sites == len(groups)
    values = np.concatenate([np.asarray(one) for one in groups])
    # Each mean is off by up to 2**-24 of itself, and so is the distance between sites.
    bound = 2.0**-22 * (np.std(values, ddof=1) + np.abs(values).max())
    # A sum of squares is off by up to half of float32's smallest number, 2**-149, however small it is.
    smallest = np.sqrt(len(groups) * 2.0**-150)
    assert spread.deviation == pytest.approx(np.std(values, ddof=1), abs=bound + smallest)


@pytest.mark.parametrize("deviation", [1e-3, 1e-6, 1e-8])
def test_values_that_are_close_together_lose_no_digits(deviation: float) -> None:
    """Squares about zero would be all error here: float32 has seven digits, and these differ in the ninth."""
    values = 1.0 + deviation * np.random.default_rng(3).standard_normal(200)
    sites = [MetricSum.of(part).rounded("dice") for part in np.split(values, 4)]
    within = [one.spread.deviation for one in sites if one.spread is not None]
    assert within == pytest.approx([np.std(part, ddof=1) for part in np.split(values, 4)], rel=1e-6)
    together = sum(sites[1:], start=sites[0]).spread
    assert together is not None
    assert together.deviation == pytest.approx(np.std(values, ddof=1), rel=1e-6, abs=2.0**-23)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1.0, -7.7, 0.0])
def test_equal_values_differ_by_nothing(value: float) -> None:
    spread = sum([MetricSum.of([value] * 7).rounded("m") for _ in range(3)], start=MetricSum.of([value])).spread
    assert spread is not None and spread.deviation == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("freedom", [*range(1, 40), 100, 1000, 10**6, 10**15])
def test_the_quantile_is_that_of_students_distribution(freedom: int) -> None:
    assert student(freedom) == pytest.approx(stdtrit(freedom, 0.975), rel=1e-6)


@pytest.mark.parametrize("values", [[0.5, np.nan], [np.inf], [-np.inf, 1.0]])
def test_a_value_that_is_not_finite_is_refused(values: list[float]) -> None:
    with pytest.raises(ArchipelError, match="NaN or infinite") as caught:
        MetricSum.of(values)
    assert caught.value.code is ErrorCode.NOT_FINITE


@pytest.mark.parametrize("weights", [[1], [1, -1], [1, 1, 1]])
def test_weights_that_do_not_fit_the_values_are_refused(weights: list[int]) -> None:
    with pytest.raises(ArchipelError, match="weights that do not fit"):
        MetricSum.of([0.5, 0.6], weights=weights)


def test_squares_beyond_float32_are_refused() -> None:
    with pytest.raises(ArchipelError, match="squared differences that add up to") as caught:
        MetricSum.of([1e20, -1e20]).rounded("loss")
    assert caught.value.code is ErrorCode.NOT_FINITE


def test_no_value_counts_nothing_and_a_sum_without_values_says_so() -> None:
    assert MetricSum.of([]) == MetricSum.of([0.5], weights=[0]) == MetricSum(total=0.0, weight=0)
    spec = MetricSpec(name="dice", better="higher", spread=True)
    assert spec.checked(MetricSum(total=0.0, weight=0)).spread is None
    for lacking in (MetricSum(total=1.0, weight=2), MetricSum.of([0.5]) + MetricSum(total=1.0, weight=1)):
        with pytest.raises(ArchipelError, match="its single values are not known"):
            spec.checked(lacking)
    batches = MetricSum.of([0.5, 0.7]) + MetricSum.of([0.9])
    kept = spec.checked(batches).spread
    assert kept is not None and (kept.sites, kept.weight) == (1, 3), "of however many batches, it is one site's"
    plain = MetricSpec(name="dice", better="higher")
    assert plain.checked(MetricSum.of([0.5])) == MetricSum(total=0.5, weight=1)
