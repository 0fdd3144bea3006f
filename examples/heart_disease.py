"""Predict coronary heart disease from eight columns of a table: logistic regression on the UCI heart data.

Numbers are scaled by constants written here, not by anybody's patients, so that all hospitals scale alike and nothing
is computed from a hospital's data to do it.
"""

from __future__ import annotations

import torch

from archipel.plans import TorchPlan
from archipel.vocabulary import ColumnNeed, DataNeeds, HyperParameter, MetricSpec, MetricSum, Selection

PAIN = ("typical angina", "atypical angina", "non-anginal pain", "asymptomatic")
SCALES = {"age": (54, 9), "trestbps": (132, 18), "chol": (240, 50), "thalach": (140, 25), "oldpeak": (1, 1)}
"""What is taken for the middle and for one step of each number, in its own unit."""


class HeartDiseasePlan(TorchPlan):
    """One linear layer on the scaled numbers and the categories, sex and kind of chest pain among them."""

    needs = DataNeeds(
        kind="table",
        columns=(
            ColumnNeed(name="age", unit="years"),
            ColumnNeed(name="trestbps", unit="mmHg"),
            ColumnNeed(name="chol", unit="mg/dl"),
            ColumnNeed(name="thalach", unit="1/min"),
            ColumnNeed(name="oldpeak", unit="mm"),
            ColumnNeed(name="sex", categories=("female", "male")),
            ColumnNeed(name="exang", categories=("no", "yes")),
            ColumnNeed(name="cp", categories=PAIN),
        ),
        target=ColumnNeed(name="disease", categories=("no", "yes")),
        minimum_subjects=20,
    )
    validation = (
        MetricSpec(name="auc", better="higher", counts="site", largest_weight=1),
        MetricSpec(name="accuracy", better="higher"),
        MetricSpec(name="validation_loss", better="lower"),
    )
    selection = Selection(metric="validation_loss", better="lower")
    batch_size = 16
    hyper_parameters = (
        HyperParameter(name="learning_rate", kind="float", default=0.02, minimum=1e-4, maximum=1.0),
        HyperParameter(name="epochs", kind="int", default=2, minimum=1, maximum=20),
    )

    def build_model(self):
        return torch.nn.Linear(len(SCALES) + 2 + len(PAIN), 1)

    def build_optimiser(self, network, context):
        return torch.optim.Adam(network.parameters(), lr=context.number("learning_rate"), weight_decay=1e-3)

    def examples(self, subjects):
        x, y = super().examples(subjects)
        centre, step = torch.tensor(list(SCALES.values()), dtype=torch.float32).T
        numbers, others, pain = x[:, : len(SCALES)], x[:, len(SCALES) : -1], x[:, -1].long()
        one_hot = torch.nn.functional.one_hot(pain, len(PAIN))
        return torch.cat([(numbers - centre) / step, others, one_hot], 1), y.float()

    def loss(self, outputs, targets):
        return torch.nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], targets)

    def evaluate(self, models, context):
        # All held-out patients at once: an AUC compares every ill one with every well one.
        if self.held_out is None:
            return {}
        everybody = self.held_out.batches([torch.arange(len(self.held_out))])
        with torch.inference_mode():
            [(outputs, targets)] = self.averaged(models, everybody)
            return self.measure(outputs, targets)

    def measure(self, outputs, targets):
        right = ((outputs[:, 0] > 0) == (targets > 0.5)).sum()
        found = super().measure(outputs, targets)
        found["accuracy"] = MetricSum(total=float(right), weight=len(targets))
        if 0 < targets.sum() < len(targets):
            # AUCs of patients do not add up. What leaves is the hospital's own, counted as one site.
            found["auc"] = MetricSum(total=auc(outputs[:, 0], targets), weight=1)
        return found

    def predictions(self, outputs):
        return {"chance of disease": outputs[:, 0].sigmoid()}


def auc(scores, targets):
    """The chance that an ill patient scores higher than a well one; half for a tie (Mann and Whitney 1947)."""
    ill, well = scores[targets > 0.5, None], scores[targets < 0.5]
    return float((ill > well).float().mean() + (ill == well).float().mean() / 2)
