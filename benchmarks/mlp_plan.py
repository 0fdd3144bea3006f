"""The plan of ``archipel bench simulation``: a perceptron of 50,000 parameters, one epoch of plain SGD in a round."""

from __future__ import annotations

import torch

from archipel.plans import Context, TorchPlan
from archipel.vocabulary import DataNeeds


class Perceptron(TorchPlan):
    """Two hidden layers: 49,794 parameters."""

    needs = DataNeeds(kind="arrays", minimum_subjects=2)
    batch_size = 10

    def build_model(self) -> torch.nn.Module:
        """64 numbers to two classes."""
        return torch.nn.Sequential(
            torch.nn.Linear(64, 256), torch.nn.ReLU(),
            torch.nn.Linear(256, 128), torch.nn.ReLU(),
            torch.nn.Linear(128, 2),
        )  # fmt: skip

    def build_optimiser(self, network: torch.nn.Module, context: Context) -> torch.optim.Optimizer:
        """Plain SGD."""
        return torch.optim.SGD(network.parameters(), lr=0.05)

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy."""
        return torch.nn.functional.cross_entropy(outputs, targets)
