"""A small network with batch normalisation, trained by Adam, whose state stays at the site between rounds."""

import torch

from archipel.plans import TorchPlan
from archipel.vocabulary import DataNeeds, OptimiserState


class Net(TorchPlan):
    needs = DataNeeds(kind="arrays", minimum_subjects=2)
    batch_size = 64
    optimiser_state = OptimiserState.CONTINUE_LOCAL

    def build_model(self):
        return torch.nn.Sequential(
            torch.nn.Linear(8, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU(), torch.nn.Linear(16, 1)
        )

    def build_optimiser(self, network, context):
        return torch.optim.Adam(network.parameters(), lr=0.01)

    def loss(self, outputs, targets):
        return torch.nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], targets.float())
