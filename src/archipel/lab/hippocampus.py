"""Segment the hippocampus and its anterior and posterior part on T1-weighted MRI crops at 1 mm.

Works on the Medical Segmentation Decathlon's Task04 and on the phantom of ``archipel.data.synthetic.phantom``.
"""

from __future__ import annotations

import math

import torch
from monai.losses import DiceCELoss
from monai.networks.nets import UNet

from archipel.plans import SegmentationPlan
from archipel.plans.augmentation import Augmentation
from archipel.vocabulary import DataNeeds, HyperParameter


class HippocampusPlan(SegmentationPlan):
    """A small 3-D U-Net with instance normalisation, Dice and cross-entropy, Adam with warm-up and cosine decay."""

    needs = DataNeeds(kind="volumes", labels={"1": "anterior", "2": "posterior"})
    shape = (40, 56, 40)
    divisor = 4
    batch_size = 2
    augmentation = Augmentation(affine=0.07, shift=0.02, gain=0.1, offset=0.1, noise=0.08)
    warm_up = 3
    hyper_parameters = (
        HyperParameter(name="learning_rate", kind="float", default=6e-3, minimum=1e-5, maximum=3e-2),
        HyperParameter(name="epochs", kind="int", default=1, minimum=1, maximum=10),
    )

    def build_model(self):
        channels, strides = (16, 32, 64), (2, 2)
        return UNet(3, 1, 3, channels, strides, num_res_units=0, norm="instance")

    def build_optimiser(self, network, context):
        rate = context.number("learning_rate") * self.schedule(context.round, context.rounds)
        return torch.optim.Adam(network.parameters(), lr=rate)

    def schedule(self, round_, rounds):
        """Share of the learning rate: a linear warm-up, then a cosine down to 2 %."""
        if round_ < self.warm_up:
            return (round_ + 1) / self.warm_up
        done = (round_ - self.warm_up) / max(1, rounds - self.warm_up)
        return 0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2

    def loss(self, outputs, targets):
        return DiceCELoss(to_onehot_y=True, softmax=True)(outputs, targets)

    def augment(self, inputs, targets, generator):
        return self.augmentation(inputs, targets, generator)
