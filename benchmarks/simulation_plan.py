"""The plan of ``benchmarks/simulation.py``: gradient descent in numpy, the same number of steps everywhere."""

from __future__ import annotations

import time

import numpy as np

from archipel.data import SubjectSet
from archipel.plans import Context, Model, Plan, TrainingResult
from archipel.vocabulary import DataNeeds, MetricSpec, MetricSum

STEPS = 1500


class FixedWork(Plan):
    """Logistic regression; ``cpu_seconds`` is what a site's training took of the processor."""

    needs = DataNeeds(kind="arrays", minimum_subjects=2)
    metrics = (MetricSpec(name="cpu_seconds", better="lower"),)

    def initial_model(self, seed: int) -> Model:
        """64 small weights."""
        return {"weight": np.random.default_rng(seed).normal(0, 0.01, 64)}

    def prepare(self, training: SubjectSet, validation: SubjectSet, context: Context) -> None:
        """All of the table."""
        self.x, self.y, _ = training.table()

    def train(self, model: Model, context: Context) -> TrainingResult:
        """``STEPS`` steps on all subjects."""
        began = time.thread_time()
        weight = model["weight"]
        for _ in range(STEPS):
            chance = 1 / (1 + np.exp(-(self.x @ weight)))
            weight -= 0.1 * (self.x.T @ (chance - self.y)) / len(self.x)
        spent = time.thread_time() - began
        return TrainingResult(metrics={"cpu_seconds": MetricSum(total=spent, weight=1)})
