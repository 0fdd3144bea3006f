"""Plans for tests of whole federations: slow on demand, wide on demand, wrong on demand; numpy only."""

from __future__ import annotations

import time

import numpy as np

from archipel.plans import Plan, TrainingResult
from archipel.vocabulary import DataNeeds, HyperParameter, MetricSpec, MetricSum, OptimiserState

CANARY = "canary-of-the-plan-7f3a"


class Walk(Plan):
    """A walk that depends on every round before it, through weights, momentum and seeds."""

    needs = DataNeeds(kind="arrays", minimum_subjects=2)
    metrics = (MetricSpec(name="loss", better="lower"),)
    validation = (MetricSpec(name="accuracy", better="higher"),)
    optimiser_state = OptimiserState.CONTINUE_LOCAL
    elements = 16
    hyper_parameters = (
        HyperParameter(name="pause_s", kind="float", default=0.0, minimum=0.0, maximum=60.0),
        HyperParameter(name="last_pause_s", kind="float", default=0.0, minimum=0.0, maximum=60.0),
        HyperParameter(
            name="fault", kind="choice", default="none", choices=("none", "raise", "nan", "shape", "metric", "exit")
        ),
    )

    def initial_model(self, seed):
        return {"weight": np.random.default_rng(seed).normal(size=self.elements)}

    def prepare(self, training, validation, context):
        self.mean, self.count = training.table()[0].mean(), len(training.table()[0])
        self.held_out = len(validation.table()[0])
        self.momentum = np.zeros(4)

    def train(self, model, context):
        fault = context.arguments["fault"]
        if fault == "raise":
            raise ValueError(f"{CANARY} {self.mean}")
        time.sleep(context.number("pause_s") + (context.number("last_pause_s") if context.site == "site-b" else 0))
        if fault == "exit":
            raise SystemExit(CANARY)
        if fault == "shape":
            model["weight"] = np.zeros(3)
            return TrainingResult()
        if fault == "nan":
            model["weight"][:] = np.nan
        if fault == "metric":
            return TrainingResult(metrics={CANARY: MetricSum(total=1.0, weight=1.0)})
        self.momentum = 0.9 * self.momentum + context.generator("noise").normal(size=4)
        model["weight"][:4] += self.momentum * self.mean
        model["weight"][4:] *= 0.99
        return TrainingResult(metrics={"loss": MetricSum(total=1.0, weight=self.count)})

    def evaluate(self, models, context):
        return {"accuracy": MetricSum(total=float(models[0]["weight"][0]), weight=self.held_out)}

    def state(self):
        return {"momentum": self.momentum}

    def restore(self, state):
        self.momentum = np.array(state.get("momentum", np.zeros(4)))


class SlowPlan(Walk):
    """The walk itself."""


class WidePlan(Walk):
    """The same with a model of 24 MB, so that an upload has a middle."""

    elements = 3_000_000
