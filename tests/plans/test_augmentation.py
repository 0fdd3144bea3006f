from __future__ import annotations

import torch

from archipel.plans.augmentation import Augmentation, Drawn, apply

SHAPE = (1, 1, 6, 8, 10)


def still(**changes):
    parts = {
        "affine": torch.eye(3, 4)[None],
        "gain": torch.ones(1),
        "offset": torch.zeros(1),
        "noise": torch.zeros(SHAPE),
    }
    return Drawn(**(parts | changes))


def test_the_identity_changes_nothing():
    images, labels = torch.rand(SHAPE), torch.randint(0, 3, SHAPE)
    same, same_labels = apply(images, labels, still())
    assert torch.allclose(same, images, atol=1e-5) and torch.equal(same_labels, labels)


def test_a_shift_is_in_voxels_along_the_named_axis():
    labels = torch.randint(0, 3, SHAPE)
    for axis in range(3):
        affine = torch.eye(3, 4)[None].clone()
        affine[0, axis, 3] = 1
        _, moved = apply(labels.float(), labels, still(affine=affine))
        size = SHAPE[axis + 2]
        assert torch.equal(moved.narrow(axis + 2, 0, size - 1), labels.narrow(axis + 2, 1, size - 1))


def test_a_quarter_turn_is_a_turn_and_no_shear_on_a_grid_of_unequal_sides():
    affine = torch.tensor([[[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0]]])
    labels = torch.randint(0, 3, (1, 1, 3, 8, 8))
    drawn = still(affine=affine, noise=torch.zeros(labels.shape))
    _, turned = apply(labels.float(), labels, drawn)
    assert torch.equal(turned, labels.rot90(1, (3, 4))) or torch.equal(turned, labels.rot90(-1, (3, 4)))


def test_gain_and_offset_touch_images_only():
    images, labels = torch.rand(SHAPE), torch.randint(0, 3, SHAPE)
    changed, same = apply(images, labels, still(gain=torch.tensor([2.0]), offset=torch.tensor([0.5])))
    assert torch.allclose(changed, images * 2 + 0.5, atol=1e-5) and torch.equal(same, labels)


def test_the_same_generator_state_gives_the_same_batch_within_the_bounds():
    images, labels = torch.rand(4, 1, 6, 8, 10), torch.randint(0, 3, (4, 1, 6, 8, 10))
    augmentation = Augmentation()
    one, two = (augmentation(images, labels, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])
    drawn = augmentation.draw(images, torch.Generator().manual_seed(3))
    assert (drawn.affine[:, :, :3] - torch.eye(3)).abs().max() <= augmentation.affine
    assert (drawn.gain - 1).abs().max() <= augmentation.gain
    again = apply(images, labels, drawn)
    assert torch.equal(again[0], one[0])
