"""A plan of two files: linear regression in numpy, with its loss in the other file."""

from __future__ import annotations

import json

import numpy as np

from archipel.plans import Plan, TrainingResult
from archipel.vocabulary import DataNeeds, HyperParameter, MetricSpec, MetricSum

from .losses import squared

RATE = json.loads("0.25")


class TwoFilePlan(Plan):
    """One step of gradient descent in each round."""

    needs = DataNeeds(kind="arrays", minimum_subjects=2)
    metrics = (MetricSpec(name="loss", better="lower"),)
    validation = (MetricSpec(name="error", better="lower"),)
    hyper_parameters = (HyperParameter(name="broken", kind="int", default=0, minimum=0, maximum=1),)

    def initial_model(self, seed):
        return {"weight": np.random.default_rng(seed).normal(0, 0.01, 8)}

    def prepare(self, training, validation, context):
        self.training, self.held_out = training.table(), validation.table()

    def train(self, model, context):
        x, y, _ = self.training
        loss, gradient = squared(x, y, None if context.arguments["broken"] else model["weight"])
        model["weight"] -= RATE * gradient
        return TrainingResult(metrics={"loss": MetricSum(total=loss, weight=len(y))})

    def evaluate(self, models, context):
        x, y, _ = self.held_out
        loss, _ = squared(x, y, models[0]["weight"])
        return {"error": MetricSum(total=loss, weight=len(y))}
