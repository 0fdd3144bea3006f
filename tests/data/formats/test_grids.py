"""Where volumes are in the patient: how far two grids are apart, and what a file says badly or not at all."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_volumes import AFFINE, intensities, nifti, segmentation
from nibabel.affines import apply_affine, from_matvec
from nibabel.eulerangles import euler2mat

from archipel.data import format_named, scan
from archipel.data.volumes import GridRule, Placed, check_one_grid
from archipel.data.volumes.geometry import _above, apart_mm, in_whole_grid, offset_within, voxel_spacing_mm
from archipel.data.volumes.nifti_headers import of_header, qform_of
from archipel.vocabulary import BadInput

lengths = st.floats(-500, 500, allow_nan=False)
spacings = st.floats(0.05, 20)
angles = st.floats(-3, 3)


@st.composite
def grids(draw):
    turn = euler2mat(draw(angles), draw(angles), draw(angles))
    return from_matvec(turn @ np.diag([draw(spacings) for _ in range(3)]), [draw(lengths) for _ in range(3)])


shapes = st.tuples(*[st.integers(1, 300)] * 3)


@given(grids())
def test_the_sides_of_a_voxel_are_to_the_last_bit_the_norms_of_the_affines_columns(affine):
    assert list(voxel_spacing_mm(affine)) == np.linalg.norm(affine[:3, :3], axis=0).tolist()
    assert apart_mm((3, 4, 5), affine, affine.copy()) == 0


@given(grids(), st.sampled_from([1, -1]))
def test_a_quaternion_is_the_affine_that_nibabel_makes_of_it(affine, handed):
    header = nibabel.Nifti1Header()
    header.set_qform(affine @ np.diag([1, 1, handed, 1]), 1)
    assert np.allclose(qform_of(of_header(header)), header.get_qform(), rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("quaternion", [(0.9, 0.9, 0.9), (1, 0, 0), (0.6, 0.8, 0), (0, 0, 0), (0.8, 0.6, 3e-4)])
def test_a_quaternion_that_is_not_a_rotation_is_what_nibabel_refuses(quaternion):
    header = nibabel.Nifti1Header()
    header["quatern_b"], header["quatern_c"], header["quatern_d"] = quaternion
    header["pixdim"][:4] = 1, 2, 3, 4
    try:
        expected = header.get_qform()
    except ValueError:
        assert qform_of(of_header(header)) is None
    else:
        assert np.allclose(qform_of(of_header(header)), expected, rtol=1e-12)


@given(grids(), st.tuples(lengths, lengths, lengths), shapes)
def test_a_shift_moves_every_corner_by_its_length(affine, shift, shape):
    moved = affine.copy()
    moved[:3, 3] += shift
    assert apart_mm(shape, affine, moved) == pytest.approx(float(np.linalg.norm(shift)), abs=1e-9)


@given(shapes, spacings, st.floats(0, 1))
def test_a_turn_about_the_middle_moves_a_corner_by_the_chord(shape, spacing, angle):
    """The corner is half the diagonal away from the axis of the turn: 2 r sin(angle / 2)."""
    middle = (np.array(shape) - 1) / 2 * spacing
    flat = from_matvec(np.eye(3) * spacing, -middle)
    turned = from_matvec(euler2mat(z=angle), [0, 0, 0]) @ flat
    radius = np.hypot(shape[0], shape[1]) * spacing / 2
    assert apart_mm(shape, flat, turned) == pytest.approx(2 * radius * np.sin(angle / 2), abs=1e-9)


@given(grids(), grids(), shapes, st.integers(0, 2**31))
def test_no_point_of_the_volume_moves_farther_than_a_corner(one, other, shape, seed):
    points = np.random.default_rng(seed).uniform(-0.5, np.array(shape) - 0.5, (50, 3))
    moved = np.linalg.norm(apply_affine(one, points) - apply_affine(other, points), axis=1)
    assert moved.max() <= apart_mm(shape, one, other) + 1e-6


@given(grids(), shapes, st.integers(0, 2**31))
def test_a_part_of_a_grid_is_found_where_it_was_cut(affine, shape, seed):
    numbers = np.random.default_rng(seed)
    start = [int(numbers.integers(0, size)) for size in shape]
    size = tuple(int(numbers.integers(1, whole - begin + 1)) for begin, whole in zip(start, shape, strict=True))
    # nibabel's own slicer is the oracle for the part's affine.
    whole = nibabel.Nifti1Image(np.broadcast_to(np.uint8(0), shape), affine)
    part = whole.slicer[tuple(slice(begin, begin + extent) for begin, extent in zip(start, size, strict=True))]
    outer, inner = Placed("image", shape, affine), Placed("label", size, part.affine)
    assert offset_within(outer, inner, GridRule()) == tuple(start)
    shifted = part.affine.copy()
    shifted[:3, 3] += affine[:3, 0] * 0.3
    assert offset_within(outer, inner._replace(affine=shifted), GridRule()) is None
    beyond = inner._replace(shape=(shape[0] - start[0] + 1, *size[1:]))
    assert offset_within(outer, beyond, GridRule()) is None


def test_a_part_is_put_where_it_was_cut():
    label = segmentation(0)
    whole = in_whole_grid(label[1:3, 2:5, 0:4].astype(np.int16), (1, 2, 0), label.shape)
    assert np.array_equal(whole[1:3, 2:5, 0:4], label[1:3, 2:5, 0:4])
    assert whole.sum() == label[1:3, 2:5, 0:4].sum() and whole.shape == label.shape


def moved_pair(root, share, **options):
    """A label that is moved by a share of the smallest voxel side, and the scan of the pair."""
    moved = AFFINE.copy()
    moved[0, 3] += share * np.linalg.norm(AFFINE[:3, :3], axis=0).min()
    nifti(root / "images/a.nii.gz", intensities(0))
    nifti(root / "labels/a.nii.gz", segmentation(0), moved)
    return scan("nifti-pairs", root, options)


@pytest.mark.parametrize(("share", "fits"), [(0.0, True), (0.09, True), (0.11, False), (0.4, False), (30.0, False)])
def test_a_label_may_be_a_tenth_of_a_voxel_away_from_its_image(tmp_path, share, fits):
    found = moved_pair(tmp_path, share)
    assert (found.problems == ()) == fits
    if fits:
        (reading,) = format_named("nifti-pairs").read(tmp_path, found.samples, {})
        assert np.allclose(reading.affine, AFFINE, atol=1e-5)


def test_a_rotation_that_moves_a_far_corner_by_half_a_millimetre_is_found(tmp_path):
    """No element of the two matrices differs by more than 0.004; at the corner it is half a millimetre."""
    shape = (4, 4, 129)
    turned = from_matvec(euler2mat(x=0.004), [0, 0, 0])
    assert np.abs(turned - np.eye(4)).max() < 0.005
    nifti(tmp_path / "images/a.nii.gz", intensities(0, shape), np.eye(4))
    nifti(tmp_path / "labels/a.nii.gz", segmentation(0, shape), turned)
    (problem,) = scan("nifti-pairs", tmp_path).problems
    assert "a: the grids of image and label are up to 0.5" in str(problem)


def test_the_tolerance_that_the_remedy_names_is_accepted_and_used_for_reading_too(tmp_path):
    (problem,) = moved_pair(tmp_path, 0.4).problems
    option = problem.remedy.rpartition("--option ")[2]
    name, _, value = option.partition("=")
    assert name == "grid_tolerance" and 0.5 <= float(value) <= 0.52
    found = scan("nifti-pairs", tmp_path, {name: value})
    assert found.problems == () and len(found.samples) == 1
    (reading,) = format_named("nifti-pairs").read(tmp_path, found.samples, {name: value})
    assert reading.label is not None
    with pytest.raises(BadInput, match="mm apart at their corners"):
        list(format_named("nifti-pairs").read(tmp_path, found.samples, {}))
    assert scan("nifti-pairs", tmp_path, {name: "0.01"}).errors


@given(st.floats(1e-6, 900))
def test_a_tolerance_that_a_remedy_names_is_a_little_more_than_what_it_is_for(length):
    assert length <= float(_above(length)) <= length * 1.11
    assert GridRule.of({"grid_tolerance": _above(length)}).tolerance_mm == float(_above(length))


@pytest.mark.parametrize("text", ["-1", "a tenth", "nan", "1e400", "9" * 5000, "0,1"])
def test_a_tolerance_that_is_not_a_length_is_refused(tmp_path, text):
    with pytest.raises(BadInput, match="is not a length in millimetres; give for example --option"):
        moved_pair(tmp_path, 0, grid_tolerance=text)


def headed(path, values, affine=AFFINE, **fields):
    """A NIfTI file with these fields of its header changed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(values, affine)
    for name, value in fields.items():
        image.header[name] = value
    image.to_filename(path)
    content = path.read_bytes() if path.suffix == ".nii" else None
    if content is not None:
        header = nibabel.Nifti1Header.from_fileobj(path.open("rb"), check=False)
        for name, value in fields.items():
            header[name] = value
        path.write_bytes(header.binaryblock + content[len(header.binaryblock) :])
    return path


def test_a_label_without_geometry_is_named_and_nobody_is_told_to_resample_it(tmp_path):
    nifti(tmp_path / "images/a.nii", intensities(0))
    headed(tmp_path / "labels/a.nii", segmentation(0), sform_code=0, qform_code=0)
    (problem,) = scan("nifti-pairs", tmp_path).errors
    assert "the file of the label has no geometry: it does not say where its voxels are in the patient" in str(problem)
    assert "resample" not in str(problem)
    # The remedy, done as it says.
    image = nibabel.load(tmp_path / "images/a.nii")
    nibabel.Nifti1Image(segmentation(0), image.affine).to_filename(tmp_path / "labels/a.nii")
    assert scan("nifti-pairs", tmp_path).problems == ()


def test_a_label_of_another_shape_without_geometry_cannot_be_given_the_images(tmp_path):
    nifti(tmp_path / "images/a.nii", intensities(0))
    headed(tmp_path / "labels/a.nii", segmentation(0, (5, 6, 8)), sform_code=0, qform_code=0)
    (problem,) = scan("nifti-pairs", tmp_path).errors
    assert "export the label again with its geometry, or leave the subject out" in problem.remedy
    assert "resample" not in problem.remedy and "nibabel" not in problem.remedy


def test_a_metaimage_without_orientation_and_origin_is_not_placed(tmp_path):
    header = "NDims = 3\nDimSize = 5 6 7\nElementType = MET_UCHAR\nElementSpacing = 1 1 2\nElementDataFile = LOCAL\n"
    for role in ("image", "label"):
        voxels = segmentation(0 if role == "label" else 1).tobytes(order="F")
        (tmp_path / f"a_{role}.mha").write_bytes(header.encode() + voxels)
    (problem,) = scan("nrrd", tmp_path).problems
    assert "does not state its orientation in the patient (a_image.mha, a_label.mha)" in str(problem)


def warnings_of(root):
    found = scan("nifti-pairs", root)
    assert found.errors == () and len(found.samples) == 1
    return [str(one) for one in found.problems]


def test_sform_and_qform_in_conflict_are_pointed_out_with_their_distance(tmp_path):
    for role, values in (("images", intensities(0)), ("labels", segmentation(0))):
        image = nibabel.Nifti1Image(values, np.diag([2.0, 2, 2, 1]))
        image.set_sform(np.diag([2.0, 2, 2, 1]), 1)
        moved = np.diag([2.0, 2, 2, 1])
        moved[:3, 3] = 3, 4, 0
        image.set_qform(moved, 1)
        (tmp_path / role).mkdir()
        image.to_filename(tmp_path / role / "a.nii.gz")
    first, second = warnings_of(tmp_path)
    assert first.startswith("a: images/a.nii.gz: is placed in two ways: sform and qform are 5 mm apart; the sform is")
    assert second.startswith("a: labels/a.nii.gz: is placed in two ways")
    for role in ("images", "labels"):
        image = nibabel.load(tmp_path / role / "a.nii.gz")
        image = nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header)
        image.set_qform(image.affine)
        image.to_filename(tmp_path / role / "a.nii.gz")
    assert warnings_of(tmp_path) == []


def test_a_qform_that_is_not_a_rotation_is_pointed_out(tmp_path):
    headed(tmp_path / "images/a.nii", intensities(0), sform_code=1, qform_code=1, quatern_b=3.0)
    nifti(tmp_path / "labels/a.nii", segmentation(0))
    (warning,) = warnings_of(tmp_path)
    assert "images/a.nii: has a qform that is not a rotation beside its sform; the sform is used" in warning


@pytest.mark.parametrize("spacing", [0.001, 1000.0])
def test_voxels_of_no_patient_are_pointed_out(tmp_path, spacing):
    affine = np.diag([spacing, spacing, spacing, 1])
    nifti(tmp_path / "images/a.nii.gz", intensities(0), affine)
    nifti(tmp_path / "labels/a.nii.gz", segmentation(0), affine)
    first, second = warnings_of(tmp_path)
    sides = " x ".join([f"{spacing:g}"] * 3)
    assert first.startswith(f"a: images/a.nii.gz: has voxels of {sides} mm; check the unit of the spacing")
    assert second.startswith("a: labels/a.nii.gz: has voxels of")


@pytest.mark.parametrize("spacing", [0.01, 0.2, 1.0, 100.0])
def test_voxels_of_patients_are_not_pointed_out(tmp_path, spacing):
    affine = np.diag([spacing, 1, 5, 1])
    nifti(tmp_path / "images/a.nii.gz", intensities(0), affine)
    nifti(tmp_path / "labels/a.nii.gz", segmentation(0), affine)
    assert warnings_of(tmp_path) == []


@pytest.mark.parametrize(
    ("unit", "words"), [("unknown", None), ("mm", None), ("meter", "metres"), ("micron", "micrometres")]
)
def test_a_unit_of_length_other_than_millimetres_is_pointed_out(tmp_path, unit, words):
    image = nibabel.Nifti1Image(intensities(0), np.diag([2.0, 2, 3, 1]))
    image.header.set_xyzt_units(unit, "sec")
    (tmp_path / "images").mkdir()
    image.to_filename(tmp_path / "images/a.nii.gz")
    nifti(tmp_path / "labels/a.nii.gz", segmentation(0), np.diag([2.0, 2, 3, 1]))
    found = warnings_of(tmp_path)
    assert len(found) == (words is not None)
    if words:
        assert f"says that its unit of length is {words}; its spacing 2 x 2 x 3 is read as millimetres" in found[0]


@pytest.mark.parametrize(("units", "words"), [('"mm" "mm" "mm"', ""), ('"um" "um" "um"', "um"), ("um", "")])
def test_the_unit_of_a_nrrd_is_pointed_out_too(tmp_path, units, words):
    for role in ("image", "label"):
        header = (
            "NRRD0004\ntype: uchar\ndimension: 3\nspace: LPS\nsizes: 5 6 7\nspace directions: (1,0,0) (0,1,0) (0,0,1)\n"
            f"space units: {units}\nencoding: raw\nspace origin: (0,0,0)\n\n"
        )
        voxels = segmentation(0 if role == "label" else 1).tobytes(order="F")
        (tmp_path / f"a_{role}.nrrd").write_bytes(header.encode() + voxels)
    found = [str(one) for one in scan("nrrd", tmp_path).problems]
    assert len(found) == (2 if words else 0)
    assert all(f"says that its unit of length is {words};" in one for one in found)


def test_of_three_volumes_the_one_that_is_elsewhere_is_named():
    first, label = Placed("T1", (5, 5, 5), np.eye(4)), Placed("label", (5, 5, 6), np.eye(4))
    with pytest.raises(BadInput, match=r"a: the T1 has shape \[5, 5, 5\] and the label \[5, 5, 6\]; draw or resample"):
        check_one_grid("a", first, label, GridRule())
