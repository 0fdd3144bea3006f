"""Volumes that are not what they seem: each is named, and the site goes on."""

from __future__ import annotations

import gzip
import struct

import nibabel
import numpy as np
import pytest
from conformance import HTML
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from made_volumes import AFFINE, intensities, nifti, segmentation

from archipel.data import scan
from archipel.data.files import Folder
from archipel.data.volumes.decoding import decode
from archipel.data.volumes.volumes import look, read_image, read_label
from archipel.vocabulary import BadInput
from worlds.examples import examples


def the_fault(path):
    with pytest.raises(BadInput) as caught:
        read_image(path)
    return str(caught.value)


def raw(path, values=None, **fields):
    """A NIfTI file whose header says what no library would write."""
    values = intensities(0) if values is None else values
    header = nibabel.Nifti1Header()
    header.set_data_shape(values.shape)
    header.set_data_dtype(values.dtype)
    header.set_sform(AFFINE, 1)
    header["magic"], header["vox_offset"] = b"n+1", 352
    for name, value in fields.items():
        header[name] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = header.binaryblock + b"\0\0\0\0" + values.tobytes(order="F")
    path.write_bytes(gzip.compress(whole) if path.name.endswith(".gz") else whole)
    return path


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (HTML, "it holds a web page or XML"),
        (bytes(5000), "it holds zeros"),
        (b"", "it is empty"),
        (gzip.compress(HTML, mtime=0), "it holds a web page or XML"),
        (gzip.compress(bytes(5000), mtime=0), "it holds zeros"),
        (b"PK\x03\x04" + bytes(500), "it has no header of NIfTI"),
    ],
)
def test_what_a_file_holds_instead_of_a_volume_is_said(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    said = the_fault(tmp_path / name)
    assert words in said
    assert ("may be truncated" in said) == ("web page" not in words), "a web page is whole"


def test_a_file_cut_anywhere_is_named(tmp_path):
    path = nifti(tmp_path / "a.nii.gz", intensities(0))
    whole = path.read_bytes()
    for kept in (*range(0, 30), len(whole) // 2, len(whole) - 9, len(whole) - 8, len(whole) - 4, len(whole) - 1):
        path.write_bytes(whole[:kept])
        assert "cannot be read to its end" in the_fault(path), kept
    path.write_bytes(whole + b"padding")
    assert read_image(path)[0].shape == (5, 6, 7)


def test_a_wrong_checksum_is_named(tmp_path):
    path = nifti(tmp_path / "a.nii.gz", intensities(0))
    whole = bytearray(path.read_bytes())
    whole[-6] ^= 1
    path.write_bytes(bytes(whole))
    assert "cannot be read to its end" in the_fault(path)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_an_affine_that_is_no_grid_is_named(tmp_path, value):
    path = raw(tmp_path / "a.nii", srow_x=[value] * 4, srow_y=[value] * 4, srow_z=[value] * 4)
    assert "an affine that is not a grid" in the_fault(path)


def test_a_quaternion_that_is_none_is_named(tmp_path):
    path = raw(tmp_path / "a.nii", sform_code=0, qform_code=1, quatern_b=5.0, pixdim=[1, 1, 1, 1, 0, 0, 0, 0])
    assert "cannot be read to its end (ValueError)" in the_fault(path)


def test_a_volume_that_does_not_say_how_it_lies_is_a_warning(tmp_path):
    for folder, values in (("images", intensities(0)), ("labels", segmentation(0))):
        raw(tmp_path / folder / "a.nii.gz", values, sform_code=0, qform_code=0, pixdim=[1, 2, 3, 4, 0, 0, 0, 0])
    found = scan("nifti-pairs", tmp_path)
    assert len(found.samples) == 1 and found.schema.spacing_mm_median == (2, 3, 4)
    assert [one.severity for one in found.problems] == ["warning"]
    assert "a: does not state its orientation in the patient (images/a.nii.gz, labels/a.nii.gz)" in str(
        found.problems[0]
    )


@pytest.mark.parametrize("fields", [{"pixdim": [0, 2, 3, 4, 0, 0, 0, 0]}, {"pixdim": [-1, 2, -3, 4, 0, 0, 0, 0]}])
def test_slips_that_readers_mend_are_mended_as_nibabel_does(tmp_path, fields):
    path = raw(tmp_path / "a.nii", sform_code=0, qform_code=1, quatern_b=0.1, quatern_d=0.3, **fields)
    assert np.array_equal(read_image(path)[1], nibabel.load(path).affine)


def test_no_spacing_and_no_affine_is_an_error(tmp_path):
    path = raw(tmp_path / "a.nii", sform_code=0, qform_code=0, pixdim=[1, 0, 0, 0, 0, 0, 0, 0])
    assert "has no voxels or an affine that is not a grid" in the_fault(path)


def test_a_fourth_dimension_of_one_is_none(tmp_path):
    path = nifti(tmp_path / "a.nii.gz", intensities(0)[..., None])
    assert read_image(path)[0].shape == (5, 6, 7)
    nifti(path, intensities(0, (5, 6, 7, 2)))
    assert "has 4 dimensions [5, 6, 7, 2]; give one 3-D volume per subject" in the_fault(path)


def test_colours_and_complex_numbers_are_named(tmp_path):
    for values in (
        np.zeros((4, 5, 6), np.complex64),
        np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")]),
    ):
        assert "not numbers on a scale" in the_fault(nifti(tmp_path / "a.nii.gz", values))


def test_a_header_of_more_voxels_than_the_file_can_hold_is_named_and_takes_no_memory(tmp_path):
    path = raw(tmp_path / "a.nii.gz", dim=[3, 32000, 32000, 32000, 1, 1, 1, 1])
    assert "its header declares 32768000000000 voxels" in the_fault(path)


def test_a_huge_label_for_a_small_image_is_named(tmp_path):
    nifti(tmp_path / "images/a.nii.gz", intensities(0, (35, 50, 36)))
    nifti(tmp_path / "labels/a.nii.gz", np.zeros((256, 256, 47), np.uint8))
    (problem,) = scan("nifti-pairs", tmp_path).problems
    assert "a: the image has shape [35, 50, 36] and the label [256, 256, 47];" in str(problem)


@pytest.mark.parametrize(("apart", "is_named"), [(1e-4, False), (1.5, True)])
def test_grids_differ_by_rounding_or_by_a_voxel(tmp_path, apart, is_named):
    shifted = AFFINE.copy()
    shifted[:3, 3] += apart
    nifti(tmp_path / "images/a.nii.gz", intensities(0))
    nifti(tmp_path / "labels/a.nii.gz", segmentation(0), shifted)
    found = scan("nifti-pairs", tmp_path)
    assert bool(found.errors) == is_named and len(found.samples) == (not is_named)
    assert not is_named or "up to 2.598 mm apart at their corners" in str(found.errors[0])


@pytest.mark.parametrize("values", [np.full((3, 3, 3), -1, np.int16), np.full((3, 3, 3), 40_000, np.int32)])
def test_labels_out_of_range_are_named(tmp_path, values):
    with pytest.raises(BadInput, match=r"holds (negative values|values above 32767) \(27 voxels, "):
        read_label(nifti(tmp_path / "a.nii.gz", values))


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("stored", [np.uint8, np.int16, np.uint16, np.float32, np.float64, ">i2", ">f4"])
def test_every_storage_reads_as_nibabel_reads_it(tmp_path, kind, stored):
    values = np.random.default_rng(1).integers(0, 200, (4, 5, 6)).astype(stored)
    image = kind(values, AFFINE, dtype=values.dtype)
    image.header.set_slope_inter(*((0.37, -12.5) if np.dtype(stored).kind != "f" else (1, 0)))
    image.to_filename(tmp_path / "a.nii")
    oracle = nibabel.load(tmp_path / "a.nii")
    volume, affine = read_image(tmp_path / "a.nii")
    assert np.array_equal(volume, np.asarray(oracle.dataobj, np.float32)) and np.array_equal(affine, oracle.affine)


def facts_of(path):
    return look(Folder(path.parent), path.name, "image").require_facts()


def test_facts_of_an_image_are_numpys(tmp_path):
    values = intensities(5, (40, 30, 20))
    facts = facts_of(nifti(tmp_path / "a.nii", values))
    assert facts.minimum == values.min() and facts.maximum == values.max()
    assert facts.mean == pytest.approx(values.mean(dtype=np.float64))
    assert facts.spread == pytest.approx(values.std(dtype=np.float64))
    assert facts.percentiles == pytest.approx(np.percentile(values, [1, 50, 99]))


def test_percentiles_of_a_large_volume_come_from_a_fixed_part_of_it(tmp_path):
    values = intensities(5, (160, 120, 80))
    path = nifti(tmp_path / "a.nii", values)
    facts = facts_of(path)
    assert facts == facts_of(path)
    assert facts.percentiles == pytest.approx(np.percentile(values, [1, 50, 99]), abs=1.0)
    assert facts.spread == pytest.approx(values.std(dtype=np.float64))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_looked_at_part_of_a_large_volume_is_not_some_planes_of_it(tmp_path, axis):
    values = np.zeros((128, 128, 64), np.float32)
    np.moveaxis(values, axis, 0)[::4] = 1000
    assert facts_of(nifti(tmp_path / "a.nii", values)).percentiles == (0, 0, 1000)


@examples(150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=600) | st.integers(0, 347).flatmap(lambda at: st.tuples(st.just(at), st.binary(max_size=8))))
def test_no_header_raises_anything_but_bad_input(tmp_path, content):
    if isinstance(content, tuple):
        at, put = content
        whole = bytearray(raw(tmp_path / "b.nii").read_bytes())
        whole[at : at + len(put)] = put
        content = bytes(whole)
    try:
        decode(tmp_path / "a.nii", content)
    except BadInput as error:
        assert str(error)


def test_a_lying_length_in_a_gzip_trailer_is_named(tmp_path):
    path = nifti(tmp_path / "a.nii.gz", intensities(0))
    whole = path.read_bytes()
    path.write_bytes(whole[:-4] + struct.pack("<I", 7))
    assert "cannot be read to its end" in the_fault(path)
