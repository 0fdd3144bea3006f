"""The usual header, which is read without nibabel, has the fields that nibabel finds, to the last bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.nifti1 import Nifti1Header

from archipel.data.volumes import nifti_headers
from archipel.data.volumes.nifti_headers import fields_of

HERE = Path("images/a.nii")


def both(start: bytes):
    """What is found without nibabel, and with it."""
    usual = nifti_headers._usual_fields(start)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nifti_headers, "_usual_fields", lambda _: None)
        return usual, fields_of(HERE, start, is_second=False)


def as_text(fields):
    return [repr(one.tolist() if isinstance(one, np.ndarray) else one) for one in fields]


@st.composite
def headers(draw):
    header = Nifti1Header()
    header.set_data_shape(draw(st.lists(st.integers(1, 32767), min_size=3, max_size=7)))
    header["datatype"] = draw(st.sampled_from(sorted(nifti_headers._TYPES)))
    start = bytearray(header.binaryblock)
    for first, last in ((76, 108), (112, 124), (256, 328)):
        start[first:last] = draw(st.binary(min_size=last - first, max_size=last - first))
    start[108:112] = np.float32(draw(st.integers(-(2**20), 2**20))).tobytes()
    start[252:256] = np.array([draw(st.integers(-2, 5)), draw(st.integers(1, 5))], "<i2").tobytes()
    return bytes(start)


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
@given(headers())
def test_a_usual_header_has_the_fields_that_nibabel_finds(start):
    usual = nifti_headers._usual_fields(start)
    if usual is not None:
        assert as_text(usual) == as_text(both(start)[1])


def test_the_header_of_a_normal_file_is_a_usual_one():
    header = Nifti1Header()
    header.set_data_shape((3, 4, 5))
    header.set_sform(np.diag([1.0, 2.0, 3.0, 1.0]), 1)
    usual, other = both(header.binaryblock)
    assert usual is not None
    assert as_text(usual) == as_text(other)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dim", [2, 3, 3, 1, 1, 1, 1, 1]),
        ("dim", [3, -1, 1, 1, 1, 1, 1, 1]),
        ("dim", [3, 27307, 1, 6, 1, 1, 1, 1]),
        ("dim", [0, 3, 3, 3, 1, 1, 1, 1]),
        ("datatype", 128),
        ("sform_code", 0),
        ("scl_slope", np.nan),
        ("scl_inter", np.inf),
        ("vox_offset", np.nan),
        ("sizeof_hdr", 540),
        ("magic", b"ni1"),
    ],
)
def test_a_header_that_needs_a_decision_is_left_to_nibabel(field, value):
    header = Nifti1Header()
    header.set_data_shape((3, 4, 5))
    header.set_sform(np.eye(4), 1)
    header[field] = value
    assert nifti_headers._usual_fields(header.binaryblock) is None
    assert nifti_headers._usual_fields(header.as_byteswapped(">").binaryblock) is None
    assert nifti_headers._usual_fields(header.binaryblock[:347]) is None
