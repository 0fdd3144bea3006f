"""A network whose batch norm stays local to each site (FedBN, Li et al. 2021)."""

from __future__ import annotations

import numpy as np
import torch

from archipel.plans import Part, TorchPlan
from archipel.vocabulary import DataNeeds


class NormPlan(TorchPlan):
    needs = DataNeeds(kind="arrays", minimum_subjects=2)
    batch_size = 6
    epochs = 2

    def build_model(self):
        layers = torch.nn.Linear(8, 6), torch.nn.BatchNorm1d(6), torch.nn.ReLU(), torch.nn.Linear(6, 1)
        return torch.nn.Sequential(*layers).double()

    def examples(self, subjects):
        x, y, _ = subjects.table()
        return torch.from_numpy(x.astype(np.float64)), torch.from_numpy(y)

    def partition(self, name, array):
        return Part.LOCAL if name.startswith("1.") else Part.SENT

    def build_optimiser(self, network, context):
        return torch.optim.SGD(network.parameters(), lr=0.1)

    def loss(self, outputs, targets):
        return torch.nn.functional.mse_loss(outputs.squeeze(1), targets)
