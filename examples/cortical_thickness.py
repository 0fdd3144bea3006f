"""Predict age from the cortical thickness of 68 regions (FreeSurfer, Desikan-Killiany): a small MLP on a table.

Thickness and age are scaled by constants written here, so that nothing is computed from anybody's patients for it.
"""

from __future__ import annotations

import torch

from archipel.plans import TorchPlan
from archipel.vocabulary import ColumnNeed, DataNeeds, HyperParameter, MetricSpec, MetricSum, Selection

REGIONS = [
    "bankssts",
    "caudalanteriorcingulate",
    "caudalmiddlefrontal",
    "cuneus",
    "entorhinal",
    "fusiform",
    "inferiorparietal",
    "inferiortemporal",
    "isthmuscingulate",
    "lateraloccipital",
    "lateralorbitofrontal",
    "lingual",
    "medialorbitofrontal",
    "middletemporal",
    "parahippocampal",
    "paracentral",
    "parsopercularis",
    "parsorbitalis",
    "parstriangularis",
    "pericalcarine",
    "postcentral",
    "posteriorcingulate",
    "precentral",
    "precuneus",
    "rostralanteriorcingulate",
    "rostralmiddlefrontal",
    "superiorfrontal",
    "superiorparietal",
    "superiortemporal",
    "supramarginal",
    "frontalpole",
    "temporalpole",
    "transversetemporal",
    "insula",
]
SIDES = ("lh", "rh")
MILLIMETRES, STEP = 2.6, 0.5
YEARS, SPREAD = 50.0, 16.0


class CorticalThicknessPlan(TorchPlan):
    """Two hidden layers; the mean absolute error in years adds up over patients and hospitals."""

    needs = DataNeeds(
        kind="table",
        columns=tuple(
            ColumnNeed(name=f"{side}_{name}_thickness", unit="mm") for side in ("lh", "rh") for name in REGIONS
        ),
        target=ColumnNeed(name="age", unit="years"),
        minimum_subjects=20,
    )
    validation = (MetricSpec(name="mae", better="lower"),)
    selection = Selection(metric="mae", better="lower")
    batch_size = 16
    hyper_parameters = (
        HyperParameter(name="learning_rate", kind="float", default=2e-3, minimum=1e-5, maximum=0.1),
        HyperParameter(name="epochs", kind="int", default=2, minimum=1, maximum=20),
    )

    def build_model(self):
        return torch.nn.Sequential(
            torch.nn.Linear(len(self.needs.columns), 32),
            torch.nn.GELU(),
            torch.nn.Dropout(0.2),
            torch.nn.Linear(32, 16),
            torch.nn.GELU(),
            torch.nn.Linear(16, 1),
        )

    def build_optimiser(self, network, context):
        return torch.optim.AdamW(network.parameters(), lr=context.number("learning_rate"), weight_decay=1e-2)

    def examples(self, subjects):
        x, y = super().examples(subjects)
        return (x - MILLIMETRES) / STEP, y

    def loss(self, outputs, targets):
        return torch.nn.functional.smooth_l1_loss(outputs[:, 0], (targets - YEARS) / SPREAD)

    def measure(self, outputs, targets):
        years = self.predictions(outputs)["age"]
        return {"mae": MetricSum(total=float((years - targets).abs().sum()), weight=len(targets))}

    def predictions(self, outputs):
        return {"age": outputs[:, 0] * SPREAD + YEARS}
