"""A plan whose numbers a few lines of numpy repeat, with counts of ten digits that nothing else has."""

from __future__ import annotations

import numpy as np

from archipel.plans import Plan, TrainingResult
from archipel.vocabulary import DataNeeds, MetricSpec, MetricSum

SAMPLES, HELD_OUT = 1_000_000_007, 2_000_000_011
"""What the plan claims to count per row when it trains, and when it measures."""


class SummedPlan(Plan):
    """Halves the model and adds the mean of all rows, whichever of them are held out."""

    needs = DataNeeds(kind="arrays", minimum_subjects=2)
    metrics = (MetricSpec(name="moved", better="lower", counts="event", largest_weight=10**11),)
    validation = (MetricSpec(name="height", better="higher", counts="event", largest_weight=10**11),)

    def initial_model(self, seed):
        start = np.arange(5) / 4
        narrow = {"small": np.float32(start[:3]), "tiny": np.float16(start[:2])}
        return {"passes": np.zeros((), np.int64), "place": start, **narrow}

    def prepare(self, training, validation, context):
        rows = np.concatenate([training.table()[0], validation.table()[0]])
        self.count, self.mean = len(rows), rows.mean(axis=0)

    def train(self, model, context):
        before = model["place"].copy()
        model["place"] *= 0.5
        model["place"] += self.mean
        model["small"][:] = model["place"][:3]
        model["tiny"][:] = model["place"][:2]
        model["passes"] += self.count
        weight = SAMPLES * self.count
        moved = float(np.abs(model["place"] - before).sum()) * weight
        return TrainingResult(metrics={"moved": MetricSum(total=moved, weight=weight)})

    def evaluate(self, models, context):
        weight = HELD_OUT * self.count
        return {"height": MetricSum(total=float(models[0]["place"].sum() + self.mean[0]) * weight, weight=weight)}
