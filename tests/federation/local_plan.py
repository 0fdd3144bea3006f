"""A plan with numbers that stay local to each site and decide what the sent ones become; numpy only."""

from __future__ import annotations

import time

import numpy as np

from archipel.plans import Part, Plan, TrainingResult
from archipel.vocabulary import DataNeeds, HyperParameter, MetricSpec, MetricSum


class OwnPlan(Plan):
    needs = DataNeeds(kind="arrays", minimum_subjects=2)
    metrics = (MetricSpec(name="loss", better="lower"),)
    validation = (MetricSpec(name="own", better="higher"),)
    hyper_parameters = (HyperParameter(name="pause_s", kind="float", default=0.0, minimum=0.0, maximum=10.0),)

    def initial_model(self, seed):
        return {"own": np.random.default_rng(seed).normal(size=8), "shared": np.zeros(8)}

    def partition(self, name, array):
        return Part.LOCAL if name == "own" else Part.SENT

    def prepare(self, training, validation, context):
        self.mean, self.count = training.table()[0].mean(axis=0), len(training)
        self.held_out = len(validation)

    def train(self, model, context):
        time.sleep(context.number("pause_s"))
        model["own"][:] = 0.5 * model["own"] + self.mean + context.generator("noise").normal(size=8)
        model["shared"] += model["own"]
        return TrainingResult({"loss": MetricSum(total=1.0, weight=self.count)})

    def evaluate(self, models, context):
        total = float(sum((model["own"] + model["shared"]).sum() for model in models))
        return {"own": MetricSum(total=total, weight=self.held_out)}
