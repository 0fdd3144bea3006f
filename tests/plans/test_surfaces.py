from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from archipel.plans.surfaces import hausdorff_95
from worlds.examples import examples

SPACING = (1.0, 2.0, 0.5)


def masks(shape):
    """Masks of a shape with at least one voxel in them."""
    return arrays(bool, shape).filter(np.any)


def nearly_full(*empty):
    """Two masks of a shape of (1, 3, 7) that lack one voxel each."""
    pair = np.ones((2, 1, 3, 7), bool)
    for mask, voxel in zip(pair, empty, strict=True):
        mask[voxel] = False
    return pair[0], pair[1]


def by_monai(one, other, spacing):
    """The same distance by MONAI, in its float32."""
    # It takes 2 s to import: not in each of pytest's processes, where each collects every test.
    from monai.metrics import compute_hausdorff_distance

    planes = (torch.from_numpy(mask)[None, None] for mask in (one, other))
    return compute_hausdorff_distance(*planes, include_background=True, percentile=95, spacing=list(spacing)).item()


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
@example(nearly_full((0, 0, 0), (0, 0, 1)), (1.0, 2.0, 2.0))
@examples(60, deadline=None)
@given(
    array_shapes(min_dims=3, max_dims=3, max_side=7).flatmap(lambda shape: st.tuples(masks(shape), masks(shape))),
    st.tuples(*[st.floats(0.2, 5.0)] * 3),
)
def test_hd95_is_the_one_of_monai(pair, spacing):
    one, other = pair
    # MONAI takes the percentile at a float32 rank: with 7^3 distances it is wrong by up to 2^-16 of a step between two.
    step = np.linalg.norm(np.multiply(one.shape, spacing))
    expected = pytest.approx(by_monai(one, other, spacing), rel=1e-5, abs=step * 2**-16)
    assert hausdorff_95(one, other, spacing) == expected


def test_a_shifted_cube_is_as_far_as_it_was_shifted():
    one = np.zeros((20, 20, 20), bool)
    one[5:9, 5:9, 5:9] = True
    assert hausdorff_95(one, np.roll(one, 3, axis=1), SPACING) == pytest.approx(6.0)


def test_empty_masks_have_no_distance_unless_both_are():
    empty, full = np.zeros((3, 3, 3), bool), np.ones((3, 3, 3), bool)
    assert hausdorff_95(empty, empty, SPACING) == 0.0
    assert hausdorff_95(empty, full, SPACING) is None
    assert hausdorff_95(full, empty, SPACING) is None
