"""A fixed linear rule whose validation says how much its Brier score differs, and an AUC with bins, in two batches."""

from __future__ import annotations

import numpy as np

from archipel.plans import Plan, TrainingResult
from archipel.vocabulary import DataNeeds, MetricSpec, MetricSum


class MeasuredPlan(Plan):
    """Trains nothing; measures the chance that the first column and some of the second say."""

    needs = DataNeeds(kind="arrays", minimum_subjects=2)
    validation = (
        MetricSpec(name="brier", better="lower", spread=True),
        MetricSpec(name="auc", better="higher", bins=32),
    )

    def initial_model(self, seed):
        return {"weight": np.array([1.5, 2.0, 0, 0, 0, 0, 0, 0])}

    def prepare(self, training, validation, context):
        self.count, self.held_out = len(training.ids), validation.table()

    def train(self, model, context):
        return TrainingResult(metrics={"loss": MetricSum(total=0.0, weight=self.count)})

    def evaluate(self, models, context):
        x, y, _ = self.held_out
        chance = np.mean([1 / (1 + np.exp(-(x @ model["weight"]))) for model in models], axis=0)
        half = len(y) // 2
        found = {}
        for part in (slice(half), slice(half, None)):
            measured = {
                "brier": MetricSum.of((chance[part] - y[part]) ** 2),
                "auc": MetricSum.of_scores(chance[part], y[part], bins=32),
            }
            found = {name: found[name] + one if name in found else one for name, one in measured.items()}
        return found
