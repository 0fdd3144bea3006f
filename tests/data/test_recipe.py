from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archipel.data import Cohort, DataMapping, Preprocessing, SampleData
from archipel.data.cohorts.preprocessing import apply

SIZES = st.tuples(*[st.sampled_from([0.5, 0.8, 1.0, 1.5, 2.0])] * 3)


def ramp(shape=(12, 14, 10), spacing=(1.0, 1.0, 1.0), origin=(3.0, -5.0, 7.0)):
    """An image whose value at a place in millimetres is a known plane, and the mask of one half of it."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    grid = np.stack(np.meshgrid(*[np.arange(size) for size in shape], indexing="ij"), -1) @ affine[:3, :3].T
    places = grid + affine[:3, 3]
    image = (2 * places[..., 0] - places[..., 1] + 0.5 * places[..., 2]).astype(np.float32)
    return SampleData(images={"T1w": image}, label=(places[..., 0] > 6).astype(np.int16), affine=affine)


def test_no_recipe_changes_nothing():
    reading = ramp()
    assert apply(Preprocessing(), reading) is reading
    assert apply(Preprocessing(spacing_mm=(1, 1, 1)), reading) is reading


@given(SIZES, SIZES)
def test_what_lies_at_a_place_in_the_patient_stays_there(stored, asked):
    """Inside the field of view a plane is interpolated exactly, so each voxel's value follows from its place."""
    before = ramp(spacing=stored)
    after = apply(Preprocessing(spacing_mm=asked), before)
    assert np.allclose(np.linalg.norm(after.affine[:3, :3], axis=0), asked)
    image = after.images["T1w"]
    assert after.label.shape == image.shape and after.label.dtype == np.int16
    grid = np.stack(np.meshgrid(*[np.arange(size) for size in image.shape], indexing="ij"), -1)
    inside = (grid >= 2).all(-1) & (grid < np.array(image.shape) - 2).all(-1)
    places = grid @ after.affine[:3, :3].T + after.affine[:3, 3]
    plane = 2 * places[..., 0] - places[..., 1] + 0.5 * places[..., 2]
    assert np.allclose(image[inside], plane[inside], atol=1e-3)


@given(SIZES)
def test_labels_stay_whole_numbers_that_were_there(asked):
    after = apply(Preprocessing(spacing_mm=asked), ramp())
    assert set(np.unique(after.label)) <= {0, 1}


def test_the_field_of_view_keeps_its_size():
    before = ramp()
    after = apply(Preprocessing(spacing_mm=(2, 0.5, 1)), before)
    assert after.images["T1w"].shape == (6, 28, 10)


@given(st.permutations([0, 1, 2]), st.tuples(*[st.sampled_from([-1, 1])] * 3), SIZES, st.none() | SIZES, st.booleans())
def test_the_shape_is_known_before_a_volume_is_read(axes, signs, stored, asked, is_turned):
    """However the patient lies in the file."""
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[axes] * signs * np.array(stored)
    mapping = DataMapping(orientation="RAS" if is_turned else "")
    cohort = Cohort(
        dataset="d", format="nifti-pairs", samples=(), mapping=mapping, recipe=Preprocessing(spacing_mm=asked)
    )
    shape = (12, 7, 10)
    reading = SampleData(images={"image": np.zeros(shape, np.float32)}, label=np.zeros(shape, np.int16), affine=affine)
    given_ = cohort.given(reading)
    assert given_.label.shape == given_.images["image"].shape == cohort.shape_given(shape, affine)


def test_a_spacing_that_is_none_is_refused():
    with pytest.raises(ValueError, match="spacing_mm"):
        Preprocessing(spacing_mm=(0, 1, 1))
