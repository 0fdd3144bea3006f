"""A volume's percentiles and counts are those of numpy to the last bit, which are slower to find."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from archipel.data.volumes import volumes
from archipel.data.volumes.volumes import percentiles

FLOATS = st.floats(-(2.0**99), 2.0**99, width=32)


@given(st.integers(1, 300).flatmap(lambda size: arrays(np.float32, size, elements=FLOATS)))
def test_percentiles_are_those_of_numpy(values: np.ndarray) -> None:
    before = values.copy()
    assert list(percentiles(values)) == [float(one) for one in np.percentile(values, [1, 50, 99])]
    assert np.array_equal(values, before)


@pytest.mark.parametrize("most", [1, 5, 6, 300])
def test_the_voxels_of_each_label_are_counted(most: int) -> None:
    drawn = np.random.default_rng(0).integers(0, most, 5000).astype(np.int16)
    drawn[0] = most - 1
    assert np.array_equal(volumes._counts(drawn), np.bincount(drawn))


def test_percentiles_of_a_volume_are_those_of_numpy() -> None:
    values = np.random.default_rng(0).normal(100, 30, 32_767).astype(np.float32)
    assert list(percentiles(values)) == [float(one) for one in np.percentile(values, [1, 50, 99])]
