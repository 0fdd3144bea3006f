"""The example plans on tables: what they measure is what it is called, and sums of it add up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from archipel.plans import load
from archipel.vocabulary import MetricSum

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def heart():
    return load(EXAMPLES / "heart_disease.py")


@pytest.fixture(scope="module")
def thickness():
    return load(EXAMPLES / "cortical_thickness.py")


@pytest.mark.parametrize("seed", range(5))
def test_the_auc_is_that_of_mann_and_whitney_with_ties(heart, seed):
    from scipy.stats import mannwhitneyu  # takes a second, which every process that collects tests would spend

    draw = np.random.default_rng(seed)
    scores, ill = draw.integers(0, 8, 40).astype(np.float32), draw.random(40) < 0.4
    oracle = mannwhitneyu(scores[ill], scores[~ill]).statistic / (ill.sum() * (~ill).sum())
    found = heart.measure(torch.from_numpy(scores)[:, None], torch.from_numpy(ill).float())
    assert found["auc"].mean() == pytest.approx(oracle, abs=1e-6) and found["auc"].weight == 1


def test_a_hospital_with_ill_patients_only_reports_no_auc(heart):
    found = heart.measure(torch.tensor([[1.0], [-1.0]]), torch.tensor([1.0, 1.0]))
    assert "auc" not in found and found["accuracy"] == MetricSum(total=1, weight=2)


def test_errors_in_years_add_up_over_hospitals(thickness):
    outputs, ages = torch.randn(30, 1), torch.rand(30) * 60 + 20
    whole = thickness.measure(outputs, ages)["mae"]
    parts = thickness.measure(outputs[:7], ages[:7])["mae"] + thickness.measure(outputs[7:], ages[7:])["mae"]
    assert whole.mean() == pytest.approx(parts.mean(), rel=1e-5)
    assert whole.mean() == pytest.approx(float((outputs[:, 0] * 16 + 50 - ages).abs().mean()), rel=1e-5)


def test_scaling_takes_nothing_from_the_data(heart):
    class Rows:
        def __init__(self, x):
            self.x = x

        def table(self):
            return self.x, np.zeros(len(self.x)), ()

    rows = np.array([[54, 132, 240, 140, 0, 1, 0, 2], [63, 150, 290, 165, 2, 0, 1, 3]], np.float32)
    inputs, _ = heart.examples(Rows(rows))
    assert inputs[0].tolist() == [0, 0, 0, 0, -1, 1, 0, 0, 0, 1, 0]
    assert torch.equal(heart.examples(Rows(rows[1:]))[0][0], inputs[1])
