"""A plan that does to its process what its site says.

A site's table says what it does in every cell: one of the numbers below.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np

from archipel.plans import Plan, TrainingResult
from archipel.vocabulary import DataNeeds, HyperParameter, MetricSpec, MetricSum

TRAINS, DIES, RAISES, SLEEPS, FORKS_AND_DIES, RAISES_WHAT_CANNOT_TRAVEL = range(6)


class OwnError(Exception):
    """A class of the plan's own."""


class DeedPlan(Plan):
    """Counts rounds, and does what its site's table says."""

    needs = DataNeeds(kind="arrays", minimum_subjects=1)
    validation = (MetricSpec(name="process", better="lower"),)
    hyper_parameters = (HyperParameter(name="from_round", kind="int", default=1, minimum=1, maximum=9),)

    def initial_model(self, seed):
        return {"rounds": np.zeros(4)}

    def prepare(self, training, validation, context):
        self.deed = int(training.table().x[0, 0])

    def train(self, model, context):
        if context.round >= context.arguments["from_round"]:
            if self.deed == DIES:
                os.kill(os.getpid(), signal.SIGKILL)
            if self.deed == FORKS_AND_DIES:
                fork_and_die()
            if self.deed == SLEEPS:
                time.sleep(60)
            if self.deed == RAISES:
                raise OwnError("on purpose")
            if self.deed == RAISES_WHAT_CANNOT_TRAVEL:
                raise type("Unpicklable", (Exception,), {})("on purpose")
        model["rounds"] += 1
        return TrainingResult(metrics={"loss": MetricSum(total=os.getpid(), weight=1)})

    def evaluate(self, models, context):
        return {"process": MetricSum(total=os.getpid(), weight=1)}


def fork_and_die():
    """A process of the plan's own lives on with everything that it inherited; it writes its number to a file."""
    if os.fork():
        os.kill(os.getpid(), signal.SIGKILL)
    Path(os.environ["DEED_PLAN_FORKED"]).write_text(str(os.getpid()))
    time.sleep(60)
    os._exit(0)
