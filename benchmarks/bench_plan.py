"""The plan that ``archipel bench training`` times: a small 3-D U-Net on phantoms, without augmentation."""

from __future__ import annotations

from typing import Any

import torch
from monai.losses import DiceCELoss
from monai.networks.nets import UNet

from archipel.plans import Context, SegmentationPlan
from archipel.vocabulary import DataNeeds


class BenchPlan(SegmentationPlan):
    """What the bare loop does by hand."""

    needs = DataNeeds(kind="volumes", labels={"1": "front", "2": "back"})
    shape = (40, 56, 40)
    divisor = 4
    batch_size = 4

    def build_model(self) -> Any:
        """The network."""
        return UNet(3, 1, 3, (16, 32, 64), (2, 2), num_res_units=0, norm="instance")

    def build_optimiser(self, network: Any, context: Context) -> Any:
        """Adam at a fixed rate."""
        return torch.optim.Adam(network.parameters(), lr=1e-3)

    def loss(self, outputs: Any, targets: Any) -> Any:
        """Dice and cross-entropy."""
        return DiceCELoss(to_onehot_y=True, softmax=True)(outputs, targets)
