"""Transforms that give several examples of one, and those whose results cannot be a batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from archipel.plans.transforms import seed_transforms, transformed
from archipel.vocabulary import BadInput, ErrorCode

INPUTS = torch.arange(2 * 8 * 8 * 8, dtype=torch.float32).reshape(2, 1, 8, 8, 8)
TARGETS = (INPUTS % 7 == 0).long()


def crops(count):
    # Here and not above: it takes seconds, which every process that collects tests would spend.
    from monai.transforms import RandCropByPosNegLabeld

    return RandCropByPosNegLabeld(["image", "label"], "label", (4, 4, 4), pos=1, neg=1, num_samples=count)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("composed", [False, True])
def test_crops_around_lesions_join_the_batch_and_go_through_the_rest(count, composed):
    from monai.transforms import Compose, RandFlipd

    chain = [crops(count), RandFlipd(["image", "label"], prob=0.5, spatial_axis=0)]
    transforms = [Compose(chain)] if composed else chain

    def batch(seed):
        seed_transforms(transforms, seed)
        return transformed(transforms, INPUTS, TARGETS)

    inputs, targets = batch(1)
    assert inputs.shape == targets.shape == (2 * count, 1, 4, 4, 4)
    assert type(inputs) is type(targets) is torch.Tensor and targets.dtype is torch.int64
    assert targets.equal((inputs % 7 == 0).long()), "image and label moved together"
    assert inputs.equal(batch(1)[0]) and not inputs.equal(batch(2)[0])


def test_one_example_each_is_the_batch_as_it_was():
    inputs, targets = transformed([lambda example: example], INPUTS, TARGETS)
    assert inputs.equal(INPUTS) and targets.equal(TARGETS)
    assert transformed([], INPUTS, TARGETS)[0] is INPUTS


def uneven(example):
    size = 4 + int(example["image"].flatten()[0] > 0)
    return {**example, "image": example["image"][:, :size]}


@pytest.mark.parametrize(
    ("transform", "said"),
    [
        (uneven, r"transform uneven: gives a batch images of several shapes: \[1, 4, 8, 8\], \[1, 5, 8, 8\]; end"),
        (lambda example: [], "gives an empty list; let it give at least one example"),
        (lambda example: (example["image"], example["label"]), "gives Tensor, not a dictionary with image and label"),
        (lambda example: None, "gives NoneType, not a dictionary with image and label"),
        (lambda example: {"image": example["image"]}, "gives a dictionary of image, not a dictionary with image and"),
    ],
)
def test_what_cannot_be_a_batch_is_one_clear_error(transform, said):
    with pytest.raises(BadInput, match=said) as raised:
        transformed([transform], INPUTS, TARGETS)
    assert raised.value.code is ErrorCode.BAD_PLAN


def test_numpy_arrays_are_taken_as_tensors():
    inputs, _ = transformed([lambda example: {**example, "image": np.ones((1, 2), np.float32)}], INPUTS, TARGETS)
    assert inputs.shape == (2, 1, 2)
