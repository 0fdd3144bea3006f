"""Tell normal chest X-rays from pneumonia: a small convolutional network on pictures of 28 x 28 pixels.

The plan names its classes; whatever the hospitals' folders are called, `y` is the place in this list. Grey values are
scaled by a constant written here, for pictures of 8 bits; a hospital with other depths chooses a window.
"""

from __future__ import annotations

import numpy as np
import torch

from archipel.plans import TorchPlan
from archipel.vocabulary import ColumnNeed, DataNeeds, HyperParameter, MetricSpec, MetricSum, Selection

CLASSES = ("normal", "pneumonia")


class ChestPicturesPlan(TorchPlan):
    """Two convolutions and a linear layer; accuracy adds up over patients and hospitals."""

    needs = DataNeeds(kind="arrays", target=ColumnNeed(name="class", categories=CLASSES), minimum_subjects=10)
    validation = (MetricSpec(name="accuracy", better="higher"), MetricSpec(name="validation_loss", better="lower"))
    selection = Selection(metric="validation_loss", better="lower")
    batch_size = 16
    hyper_parameters = (
        HyperParameter(name="learning_rate", kind="float", default=3e-3, minimum=1e-5, maximum=0.1),
        HyperParameter(name="epochs", kind="int", default=1, minimum=1, maximum=20),
    )

    def build_model(self):
        return torch.nn.Sequential(
            torch.nn.Conv2d(1, 8, 3, stride=2, padding=1),
            torch.nn.GELU(),
            torch.nn.Conv2d(8, 16, 3, stride=2, padding=1),
            torch.nn.GELU(),
            torch.nn.AdaptiveAvgPool2d(4),
            torch.nn.Flatten(),
            torch.nn.Linear(16 * 4 * 4, len(CLASSES)),
        )

    def build_optimiser(self, network, context):
        return torch.optim.Adam(network.parameters(), lr=context.arguments["learning_rate"])

    def examples(self, subjects):
        x, y, _ = subjects.table()
        if x.dtype != np.uint8:
            raise ValueError(f"the pictures are {x.dtype}, the plan needs 8 bits: choose a window (option window)")
        return torch.from_numpy(x.astype(np.float32) / 255).unsqueeze(1), torch.from_numpy(y)

    def loss(self, outputs, targets):
        return torch.nn.functional.cross_entropy(outputs, targets)

    def activate(self, outputs):
        return outputs.softmax(dim=1)

    def undo_activation(self, averaged):
        return averaged.clamp_min(1e-30).log()

    def measure(self, outputs, targets):
        right = int((outputs.argmax(dim=1) == targets).sum())
        found = super().measure(outputs, targets)
        return found | {"accuracy": MetricSum(total=right, weight=len(targets))}
