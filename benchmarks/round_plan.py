"""The plan of ``archipel bench round``: a model of a given size to which each site adds a constant of its own.

Training is one addition, so that a round's time is what Archipel itself costs; the sums are exact, so that the average
can be checked to the last bit.
"""

import os

import numpy as np

from archipel.data import SubjectSet
from archipel.plans import Context, Model, Plan, TrainingResult
from archipel.vocabulary import DataNeeds, MetricSpec, MetricSum

LEAVES = 20


class RoundPlan(Plan):
    """Adds the site's constant, the mean of its table, to every weight."""

    needs = DataNeeds(kind="arrays", minimum_subjects=1)
    metrics = (MetricSpec(name="norm", better="lower"),)

    def initial_model(self, seed: int) -> Model:
        """Random weights."""
        # Runs at the researcher's only; the size is his choice and fixed by the job's schema from then on.
        elements = int(float(os.environ["ARCHIPEL_BENCH_MB"]) * 1e6 / 4 / LEAVES)
        draw = np.random.default_rng(seed)
        return {f"layer{number:02d}": draw.standard_normal(elements, dtype=np.float32) for number in range(LEAVES)}

    def prepare(self, training: SubjectSet, validation: SubjectSet, context: Context) -> None:
        """The site's constant and its weight."""
        x, _, subjects = training.table()
        self.constant, self.samples = np.float32(np.mean(x)), len(subjects)

    def train(self, model: Model, context: Context) -> TrainingResult:
        """One addition a weight."""
        for name in model:
            np.add(model[name], self.constant, out=model[name])
        return TrainingResult({"norm": MetricSum(total=float(self.constant), weight=1.0)})
