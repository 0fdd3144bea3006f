from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archipel.plans.volumes import Orientation, Window, check_spacing, normalised
from archipel.vocabulary import BadInput

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))


@given(SIZES, SIZES)
def test_what_a_window_keeps_comes_back_where_it_was(own, common):
    volume = np.arange(1, np.prod(own) + 1).reshape(own)
    window = Window.centred(own, common)
    back = window.undo(window.fit(volume))
    assert window.fit(volume).shape == common
    assert back.shape == own
    kept = back != 0
    assert np.array_equal(back[kept], volume[kept])
    assert kept.sum() == np.prod(np.minimum(own, common))


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", list(itertools.product([1, -1], repeat=3)))
def test_every_orientation_turns_to_ras_and_back(axes, signs):
    affine = np.zeros((4, 4))
    for world, axis in enumerate(axes):
        affine[world, axis] = signs[world] * 2.0
    affine[3, 3] = 1
    volume = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    turn = Orientation.of(affine)
    turned = turn.apply(volume)
    assert np.array_equal(turn.undo(turned), volume)
    # An oracle by the affine itself: the value at a RAS index is the one at the voxel that maps there.
    world = np.array([affine @ np.append(index, 1) for index in np.ndindex(2, 3, 4)])[:, :3]
    ras = np.rint((world - world.min(axis=0)) / 2).astype(int)
    for index, place in zip(np.ndindex(2, 3, 4), ras, strict=True):
        assert turned[tuple(place)] == volume[index]


def test_normalised_volumes_have_mean_0_and_deviation_1_whatever_the_gain():
    values = np.random.default_rng(0).normal(size=(9, 9, 9)).astype(np.float32)
    one, other = normalised(values), normalised(values * 300 + 1000)
    assert abs(one.mean()) < 1e-5 and abs(one.std() - 1) < 1e-5
    assert np.allclose(one, other, atol=1e-4)
    assert not normalised(np.full((3, 3, 3), 7, np.float32)).any()


def test_other_voxel_sizes_are_named():
    check_spacing("sub-07", np.diag([1.0, 1.1, 1, 1]), (1, 1, 1), 0.2)
    with pytest.raises(BadInput, match="sub-07: has voxels of 1 x 1 x 3 mm where the plan works on 1 x 1 x 1 mm"):
        check_spacing("sub-07", np.diag([1.0, 1, 3, 1]), (1, 1, 1), 0.2)
