"""A tiny plan that needs numpy only: logistic regression on arrays (x [N, F], y [N] of 0 and 1).

It starts in a fraction of a second, so everything about rounds, faults and restarts is tested with it.
"""

from __future__ import annotations

import numpy as np

from archipel.plans import Plan, TrainingResult
from archipel.vocabulary import DataNeeds, HyperParameter, MetricSpec, MetricSum, OptimiserState, Selection

FEATURES = 8


class TinyPlan(Plan):
    """Full-batch gradient descent with momentum; the momentum continues locally between rounds."""

    needs = DataNeeds(kind="arrays", minimum_subjects=2)
    metrics = (MetricSpec(name="loss", better="lower"),)
    validation = (MetricSpec(name="accuracy", better="higher"),)
    selection = Selection(metric="accuracy", better="higher")
    optimiser_state = OptimiserState.CONTINUE_LOCAL
    hyper_parameters = (
        HyperParameter(name="learning_rate", kind="float", default=0.5, minimum=0.0, maximum=10.0),
        HyperParameter(name="steps", kind="int", default=5, minimum=1, maximum=1000),
    )

    def initial_model(self, seed):
        start = np.random.default_rng(seed)
        return {"bias": np.zeros(1), "steps_taken": np.zeros((), np.int64), "weight": start.normal(0, 0.01, FEATURES)}

    def prepare(self, training, validation, context):
        self.training, self.held_out = training.table(), validation.table()
        self.momentum = np.zeros(FEATURES + 1)

    def train(self, model, context):
        x, y, _ = self.training
        inputs = np.concatenate([np.asarray(x, float), np.ones((len(x), 1))], axis=1)
        weights = np.append(model["weight"], model["bias"])
        for _ in range(int(context.arguments["steps"])):
            chance = _sigmoid(inputs @ weights)
            self.momentum = 0.9 * self.momentum + inputs.T @ (chance - y) / len(y)
            weights = weights - context.number("learning_rate") * self.momentum
        model["weight"][:], model["bias"][:] = weights[:-1], weights[-1]
        model["steps_taken"] += int(context.arguments["steps"])
        chance = np.clip(_sigmoid(inputs @ weights), 1e-9, 1 - 1e-9)
        loss = -(y * np.log(chance) + (1 - y) * np.log(1 - chance)).sum()
        return TrainingResult(metrics={"loss": MetricSum(total=loss, weight=len(y))})

    def evaluate(self, models, context):
        x, y, _ = self.held_out
        chance = _chance(models, x)
        return {"accuracy": MetricSum(total=float(((chance > 0.5) == (y > 0.5)).sum()), weight=len(y))}

    def predict(self, models, subjects, context):
        return {"chance": _chance(models, subjects.table().x)}

    def state(self):
        return {"momentum": self.momentum}

    def restore(self, state):
        self.momentum = state.get("momentum", np.zeros(FEATURES + 1))


def _chance(models, x):
    return np.mean([_sigmoid(x @ model["weight"] + model["bias"]) for model in models], axis=0)


def _sigmoid(values):
    return 1 / (1 + np.exp(-np.clip(values, -50, 50)))
