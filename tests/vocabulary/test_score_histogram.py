"""AUC from histograms of scores that are added, against every pair of the pooled scores and against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from archipel.vocabulary import ArchipelError, ErrorCode, MetricSpec, MetricSum
from archipel.vocabulary.score_histogram import PARTS, ScoreHistogram

CASES = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40)


def exact_auc(cases: list[tuple[float, bool]]) -> float | None:
    """By its definition: what scikit-learn's roc_auc_score gives, half for a tie (Mann and Whitney 1947)."""
    ill = np.asarray([score for score, true in cases if true])
    well = np.asarray([score for score, true in cases if not true])
    if not (len(ill) and len(well)):
        return None
    return float((ill[:, None] > well).mean() + (ill[:, None] == well).mean() / 2)


def histogram(cases: list[tuple[float, bool]], bins: int) -> ScoreHistogram:
    return ScoreHistogram.of([score for score, _ in cases], [true for _, true in cases], bins)


def test_the_oracle_is_scipys_u_statistic() -> None:
    draw = np.random.default_rng(0)
    cases = [
        (float(round(score, 1)), bool(true)) for score, true in zip(draw.random(60), draw.random(60) < 0.4, strict=True)
    ]
    ill, well = ([score for score, true in cases if true is which] for which in (True, False))
    from scipy import stats  # takes a second, which every process that collects tests would spend

    u = stats.mannwhitneyu(ill, well).statistic
    assert exact_auc(cases) == pytest.approx(u / (len(ill) * len(well)), rel=1e-12)


@settings(max_examples=120, deadline=None)
@given(st.lists(CASES, min_size=1, max_size=4), st.integers(2, 64), st.integers(2, 7))
def test_the_exact_auc_of_the_pooled_scores_is_within_the_stated_bound(
    sites: list[list[tuple[float, bool]]], bins: int, smallest: int
) -> None:
    kept = [(one, coarse) for one in sites if (coarse := histogram(one, bins).coarsened(smallest)) is not None]
    if not kept:
        return
    together = sum((coarse for _, coarse in kept[1:]), start=kept[0][1])
    pooled = [case for one, _ in kept for case in one]
    assert sum(together.cases) == len(pooled) and together.sites == len(kept)
    exact = exact_auc(pooled)
    if exact is None:
        return
    low, high = together.bounds()
    assert low - 1e-12 <= exact <= high + 1e-12
    assert low - 1e-12 <= together.auc() <= high + 1e-12


@settings(max_examples=120, deadline=None)
@given(CASES, st.integers(2, 64), st.integers(2, 9))
def test_every_count_that_leaves_has_the_smallest_cell(
    cases: list[tuple[float, bool]], bins: int, smallest: int
) -> None:
    fine = histogram(cases, bins)
    coarse = fine.coarsened(smallest)
    few = any(0 < count < smallest for count in fine.cases)
    assert (coarse is None) == few
    if coarse is not None:
        counts = [count for part in PARTS for count in getattr(coarse, part) if count]
        assert min(counts) >= smallest and coarse.cases == fine.cases and coarse.is_of_one_site


@settings(max_examples=60, deadline=None)
@given(CASES, st.integers(2, 64))
def test_of_known_bins_it_is_the_exact_auc_of_the_middles_of_the_bins(
    cases: list[tuple[float, bool]], bins: int
) -> None:
    fine = histogram(cases, bins)
    binned = [(min(int(score * bins), bins - 1) / bins, true) for score, true in cases]
    exact = exact_auc(binned)
    if exact is not None:
        assert fine.auc() == pytest.approx(exact, abs=1e-12)


def test_many_cases_keep_narrow_bins_and_a_small_bound() -> None:
    draw = np.random.default_rng(2)
    true = draw.random(4000) < 0.3
    scores = 1 / (1 + np.exp(-draw.normal(true * 1.5, 1.0)))
    coarse = ScoreHistogram.of(scores, true, bins=64).coarsened(5)
    assert coarse is not None
    low, high = coarse.bounds()
    exact = exact_auc(list(zip(scores.tolist(), true.tolist(), strict=True)))
    assert exact is not None and abs(coarse.auc() - exact) < 1e-3 and (high - low) / 2 < 0.02


def test_no_group_says_what_the_lowest_or_the_highest_score_of_a_case_is() -> None:
    """The ends of all groups stay when the lowest and the highest score move as far as they can."""
    middle, negatives = np.linspace(0.41, 0.6, 18).tolist(), np.linspace(0.1, 0.9, 40).tolist()
    found = {
        ScoreHistogram.of([low, high, *middle, *negatives], [1] * 20 + [0] * 40, bins=64).coarsened(5)
        for low in (0.0, 0.2, 0.4) for high in (0.61, 0.8, 1.0)
    }  # fmt: skip
    assert len(found) == 1 and None not in found


def test_one_far_score_widens_only_the_group_that_it_is_in() -> None:
    scores, negatives = [0.01, *np.linspace(0.5, 0.99, 39)], np.linspace(0.0, 0.6, 40)
    coarse = ScoreHistogram.of([*scores, *negatives], [1] * 40 + [0] * 40, bins=64).coarsened(5)
    assert coarse is not None and len([count for count in coarse.positives_from if count]) >= 7
    assert coarse.positives_from[0] == 5


@pytest.mark.parametrize(
    ("scores", "truth", "words", "code"),
    [
        ([1.2], [1], "is 1.2, not between 0 and 1", ErrorCode.PLAN_ERROR),
        ([-0.1], [0], "not between 0 and 1", ErrorCode.PLAN_ERROR),
        ([np.nan], [0], "not between 0 and 1", ErrorCode.NOT_FINITE),
        ([0.5], [2], "the truth of a case", ErrorCode.PLAN_ERROR),
        ([0.5, 0.6], [1], "2 scores and 1 truths", ErrorCode.PLAN_ERROR),
    ],
)
def test_other_scores_and_truths_are_refused(
    scores: list[float], truth: list[float], words: str, code: ErrorCode
) -> None:
    with pytest.raises(ArchipelError, match=words) as caught:
        MetricSum.of_scores(scores, truth, bins=8)
    assert caught.value.code is code


@pytest.mark.parametrize("edge", [0.0, 0.25, 0.5, 1.0])
def test_a_score_at_an_edge_is_in_the_bin_that_begins_there_and_1_in_the_last(edge: float) -> None:
    one = ScoreHistogram.of([edge], [1], bins=4)
    assert one.positives_from.index(1) == min(int(edge * 4), 3)


@pytest.mark.parametrize(
    ("begin", "end"),
    [((0, 5), (5, 0)), ((5, 0), (0, 4)), ((5, 0, 0), (0, 5))],
    ids=["ends before it begins", "other cases end", "other bins"],
)
def test_counts_that_no_cases_have_are_refused(begin: tuple[int, ...], end: tuple[int, ...]) -> None:
    none = (0,) * len(begin)
    with pytest.raises(ValidationError):
        ScoreHistogram(positives_from=begin, positives_to=end, negatives_from=none, negatives_to=none)


def test_the_auc_of_batches_is_that_of_all_cases_and_not_a_mean_of_batches() -> None:
    batches = [([0.9, 0.8], [1, 1]), ([0.85, 0.1], [0, 0]), ([0.7], [1])]
    together = sum(
        (MetricSum.of_scores(*one, bins=64) for one in batches[1:]), MetricSum.of_scores(*batches[0], bins=64)
    )
    finished = together.finished()
    assert (finished.mean(), finished.weight) == (pytest.approx(4 / 6), 5)
    alone = MetricSum.of_scores([0.9], [1], bins=64)
    assert (alone.total, alone.weight) == (0.0, 0), "of one class there is no AUC"


@pytest.mark.parametrize("changes", [{"better": "lower"}, {"spread": True}, {"bins": 1}, {"bins": 257}])
def test_bins_that_do_not_fit_an_auc_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        MetricSpec.model_validate({"name": "auc", "better": "higher", "bins": 8} | changes)
