"""A numpy plan whose numbers no processor can change: sums of small integers, halves and draws of integers.

Every operation in it is exact in float64 or rounds once as IEEE 754 says; nothing calls BLAS or a library's ``exp``.
"""

from __future__ import annotations

import numpy as np

from archipel.plans import Plan, TrainingResult
from archipel.vocabulary import DataNeeds, HyperParameter, MetricSpec, MetricSum, OptimiserState


class ExactPlan(Plan):
    """Moves a vector by a part of the data's sums and by integers drawn for this round; what it moved is kept."""

    needs = DataNeeds(kind="arrays", minimum_subjects=2)
    metrics = (MetricSpec(name="moved", better="lower"),)
    validation = (MetricSpec(name="reached", better="higher", counts="comparison", largest_weight=1000),)
    optimiser_state = OptimiserState.CONTINUE_LOCAL
    hyper_parameters = (HyperParameter(name="halvings", kind="int", default=6, minimum=1, maximum=20),)

    def initial_model(self, seed):
        start = np.random.default_rng(seed).integers(-8, 9, 5)
        return {"passes": np.zeros((), np.int64), "place": start / 8.0, "small": np.float32(start[:3]) / 4}

    def prepare(self, training, validation, context):
        self.training, self.held_out = training.table()[0], validation.table()[0]
        self.kept = np.zeros(5)

    def train(self, model, context):
        drawn = context.generator("drawn").integers(-4, 5, 5)
        move = (self.training.sum(axis=0) + drawn) * 0.5 ** int(context.arguments["halvings"])
        self.kept = self.kept / 2 + move
        model["place"] -= self.kept
        model["small"] += np.float32(self.kept[:3])
        model["passes"] += 1
        total = float(np.abs(self.kept).max())
        return TrainingResult(metrics={"moved": MetricSum(total=total, weight=1)})

    def evaluate(self, models, context):
        reached = sum(float(model["place"][0] > row[0]) for model in models for row in self.held_out)
        return {"reached": MetricSum(total=reached, weight=len(self.held_out) * len(models))}

    def state(self):
        return {"kept": self.kept}

    def restore(self, state):
        self.kept = state.get("kept", np.zeros(5))
