"""A plan that does whatever a test wants: it runs the code that comes with the task, inside the sandbox."""

import textwrap

import numpy as np

from archipel.plans import Plan, TrainingResult
from archipel.vocabulary import DataNeeds, HyperParameter, MetricSpec, MetricSum, OptimiserState

PREPARE = ""


class HostilePlan(Plan):
    """``said`` in the code's namespace comes back as the text of an error, which stays at the site."""

    needs = DataNeeds(kind="arrays", minimum_subjects=1)
    metrics = (MetricSpec(name="loss", better="lower"),)
    validation = (MetricSpec(name="accuracy", better="higher"),)
    optimiser_state = OptimiserState.CONTINUE_LOCAL
    hyper_parameters = (HyperParameter(name="unused", kind="float", default=0.5, minimum=0.0, maximum=1.0),)

    def initial_model(self, seed):
        return {"weight": np.zeros(4, np.float32)}

    def prepare(self, training, validation, context):
        self.kept = {}
        exec(textwrap.dedent(PREPARE), {"plan": self})

    def train(self, model, context):
        scope = {"plan": self, "model": model, "context": context, "samples": 1, "metrics": {}}
        exec(textwrap.dedent(context.arguments.get("code", "")), scope)
        if "said" in scope:
            raise RuntimeError("SAID " + repr(scope["said"]) + " DIAS")
        return TrainingResult(metrics=scope["metrics"])

    def evaluate(self, models, context):
        scope = {"plan": self, "models": models, "accuracy": 1.0}
        exec(textwrap.dedent(getattr(self, "evaluating", "")), scope)
        return {"accuracy": MetricSum(total=scope["accuracy"], weight=1.0)}

    def state(self):
        return self.kept or {"momentum": np.ones(2)}

    def restore(self, state):
        pass
