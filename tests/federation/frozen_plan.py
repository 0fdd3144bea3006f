"""A plan with a frozen backbone of 1 MiB and a head of 65 numbers that is trained; numpy only."""

from __future__ import annotations

import numpy as np

from archipel.plans import Part, Plan, TrainingResult
from archipel.vocabulary import DataNeeds, HyperParameter, MetricSpec, MetricSum

WIDTH = 64


class HeadPlan(Plan):
    needs = DataNeeds(kind="arrays", minimum_subjects=2)
    metrics = (MetricSpec(name="loss", better="lower"),)
    validation = (MetricSpec(name="accuracy", better="higher"),)
    hyper_parameters = (HyperParameter(name="writes", kind="bool", default=False),)

    def initial_model(self, seed):
        backbone = np.random.default_rng(seed).normal(size=(8, 256 * WIDTH))
        return {"backbone": backbone, "head.weight": np.zeros(WIDTH), "head.bias": np.zeros(1)}

    def partition(self, name, array):
        return Part.SENT if name.startswith("head.") else Part.FROZEN

    def prepare(self, training, validation, context):
        self.training, self.held_out = training.table()[:2], validation.table()[:2]

    def outputs(self, model, x):
        features = np.tanh(x @ model["backbone"]).reshape(len(x), WIDTH, 256).mean(axis=2)
        return features, 1 / (1 + np.exp(-(features @ model["head.weight"] + model["head.bias"])))

    def train(self, model, context):
        if context.arguments["writes"]:
            model["backbone"] = model["backbone"] + 1
        x, y = self.training
        for _ in range(5):
            features, chance = self.outputs(model, x)
            model["head.weight"] -= 20 * features.T @ (chance - y) / len(y)
            model["head.bias"] -= 20 * (chance - y).mean()
        return TrainingResult({"loss": MetricSum(total=float(np.abs(chance - y).sum()), weight=len(y))})

    def evaluate(self, models, context):
        x, y = self.held_out
        chance = sum(self.outputs(model, x)[1] for model in models) / len(models)
        return {"accuracy": MetricSum(total=float(((chance > 0.5) == y).sum()), weight=len(y))}
