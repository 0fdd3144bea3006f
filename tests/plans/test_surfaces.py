from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archipel.plans.surfaces import hausdorff_95

SPACING = (1.0, 2.0, 0.5)


def border(mask):
    """Voxels with a face neighbour outside the mask, by looking at each."""
    points = {tuple(point) for point in np.argwhere(mask)}
    steps = [step for step in itertools.product((-1, 0, 1), repeat=3) if sum(map(abs, step)) == 1]
    return [p for p in points if any(tuple(np.add(p, step)) not in points for step in steps)]


def brute_force(one, other):
    a, b = (np.array(border(mask), float) * SPACING for mask in (one, other))
    distances = np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))
    return max(np.percentile(distances.min(1), 95), np.percentile(distances.min(0), 95))


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.floats(0.05, 0.9))
def test_hd95_equals_every_pair_of_border_points(seed, density):
    numbers = np.random.default_rng(seed)
    one, other = numbers.random((2, 5, 4, 6)) < density
    one[2, 2, 2] = other[1, 1, 1] = True
    assert hausdorff_95(one, other, SPACING) == pytest.approx(brute_force(one, other))


def test_a_shifted_cube_is_as_far_as_it_was_shifted():
    one = np.zeros((20, 20, 20), bool)
    one[5:9, 5:9, 5:9] = True
    assert hausdorff_95(one, np.roll(one, 3, axis=1), SPACING) == pytest.approx(6.0)


def test_empty_masks_have_no_distance_unless_both_are():
    empty, full = np.zeros((3, 3, 3), bool), np.ones((3, 3, 3), bool)
    assert hausdorff_95(empty, empty, SPACING) == 0.0
    assert hausdorff_95(empty, full, SPACING) is None
    assert hausdorff_95(full, empty, SPACING) is None
