"""The plan of ``archipel bench kills``: each round depends on all before it, through weights, momentum and seeds.

A task that is done twice, left out or done with another round's state ends with other bits.
"""

import time
from collections.abc import Mapping, Sequence

import numpy as np

from archipel.data import SubjectSet
from archipel.plans import Context, Model, Plan, TrainingResult
from archipel.vocabulary import DataNeeds, HyperParameter, MetricSpec, MetricSum, OptimiserState

ELEMENTS = 250_000
"""2 MB as float64, so that an upload takes a while."""


class KillsPlan(Plan):
    """A walk whose every step is drawn for its site and round; it takes ``pause_s`` seconds."""

    needs = DataNeeds(kind="arrays", minimum_subjects=2)
    metrics = (MetricSpec(name="loss", better="lower"),)
    validation = (MetricSpec(name="accuracy", better="higher"),)
    optimiser_state = OptimiserState.CONTINUE_LOCAL
    hyper_parameters = (HyperParameter(name="pause_s", kind="float", default=0.2, minimum=0.0, maximum=60.0),)

    def initial_model(self, seed: int) -> Model:
        """Random weights."""
        return {"weight": np.random.default_rng(seed).normal(size=ELEMENTS)}

    def prepare(self, training: SubjectSet, validation: SubjectSet, context: Context) -> None:
        """The site's mean and a momentum of zero."""
        self.mean, self.count = training.table()[0].mean(), len(training.table()[0])
        self.held_out = len(validation.table()[0])
        self.momentum = np.zeros(ELEMENTS)

    def train(self, model: Model, context: Context) -> TrainingResult:
        """One step."""
        time.sleep(context.number("pause_s"))
        self.momentum = 0.9 * self.momentum + context.generator("noise").normal(size=ELEMENTS)
        model["weight"] += self.momentum * self.mean
        return TrainingResult({"loss": MetricSum(total=1.0, weight=self.count)})

    def evaluate(self, models: Sequence[Mapping[str, np.ndarray]], context: Context) -> dict[str, MetricSum]:
        """A number of the model."""
        share = float(np.mean(models[0]["weight"] > 0))
        return {"accuracy": MetricSum(total=share * self.held_out, weight=self.held_out)}

    def state(self) -> Model:
        """The momentum, which stays at the site."""
        return {"momentum": self.momentum}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """The momentum of the round before."""
        self.momentum = np.array(state.get("momentum", np.zeros(ELEMENTS)))
