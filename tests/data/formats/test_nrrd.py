from __future__ import annotations

import nibabel
import numpy as np
import pytest
from conformance import SUBJECTS, Conformance, Expected
from made_volumes import AFFINE, SHAPE, intensities, nifti, segmentation

from archipel.data import format_named, scan
from archipel.data.volumes.decoding import decode
from archipel.data.volumes.volumes import read_image, read_label
from archipel.vocabulary import BadInput
from real_data import real_data

sitk = pytest.importorskip("SimpleITK")


def itk(path, values, affine=AFFINE, compressed=True):
    """The volume with this RAS affine, written by SimpleITK, whose axes are LPS."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lps = np.diag([-1, -1, 1, 1]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.transpose()))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    sitk.WriteImage(image, str(path), compressed)


ORTHOGONAL = np.array([[-1.5, 0, 0, 20], [0, 1.25, 0, -30], [0, 0, 2, 7.5], [0, 0, 0, 1]])
OBLIQUE = nibabel.affines.from_matvec(
    nibabel.eulerangles.euler2mat(0.2, -0.3, 0.5) @ np.diag([1.5, 1.25, 2]), [20, -30, 7.5]
)


class TestNrrd(Conformance):
    format = "nrrd"

    def write(self, root, subjects=SUBJECTS):
        expected = {}
        for number, subject in enumerate(subjects):
            ending = ".mha" if number == 1 else ".nrrd"
            image, label = intensities(number), segmentation(number)
            itk(root / f"{subject}_image{ending}", image, OBLIQUE)
            itk(root / f"{subject}_label.nrrd", label, OBLIQUE)
            expected[subject, ""] = Expected({"image": image}, label, OBLIQUE)
        return expected

    def change(self, root):
        itk(root / "sub-02_label.nrrd", segmentation(9), OBLIQUE)
        return "sub-02_label.nrrd"

    def remove(self, root):
        (root / "sub-03_image.nrrd").unlink()
        return "sub-03_image.nrrd"

    def repeat(self, root):
        itk(root / "sub-02_image.nrrd", intensities(8), OBLIQUE)
        return "sub-02: two files in"


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
@pytest.mark.parametrize("affine", [ORTHOGONAL, OBLIQUE, np.diag([2.0, 2, 2, 1])])
def test_one_volume_reads_the_same_from_nifti_and_itk_files(tmp_path, ending, affine):
    values = intensities(3)
    nifti(tmp_path / "a.nii.gz", values, affine)
    itk(tmp_path / f"a{ending}", values, affine)
    (left, left_affine), (right, right_affine) = (read_image(tmp_path / f"a{one}") for one in (".nii.gz", ending))
    assert np.array_equal(left, right) and np.allclose(left_affine, right_affine, atol=1e-5)
    # And SimpleITK's own conversion agrees.
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / f"a{ending}")), str(tmp_path / "b.nii.gz"))
    assert np.allclose(nibabel.load(tmp_path / "b.nii.gz").affine, right_affine, atol=1e-5)


def test_a_nrrd_that_is_written_in_ras_is_read_in_ras(tmp_path):
    header = (
        "NRRD0004\ntype: float\ndimension: 3\nspace: right-anterior-superior\nsizes: 5 6 7\n"
        "space directions: (1.5,0,0) (0,1.25,0) (0,0,2)\nendian: little\nencoding: raw\nspace origin: (20,-30,7.5)\n\n"
    )
    values = intensities(1)
    (tmp_path / "a.nrrd").write_bytes(header.encode() + values.tobytes(order="F"))
    read, affine = read_image(tmp_path / "a.nrrd")
    assert np.array_equal(read, values)
    assert np.allclose(affine, [[1.5, 0, 0, 20], [0, 1.25, 0, -30], [0, 0, 2, 7.5], [0, 0, 0, 1]])


def test_a_nrrd_without_a_space_is_used_with_a_warning(tmp_path):
    for role, values in (("image", intensities(0)), ("label", segmentation(0))):
        kind = "float" if role == "image" else "uchar"
        grid = "dimension: 3\nsizes: 5 6 7\nspacings: 1 1 2"
        header = f"NRRD0004\ntype: {kind}\n{grid}\nendian: little\nencoding: raw\n\n"
        (tmp_path / f"a_{role}.nrrd").write_bytes(header.encode() + values.tobytes(order="F"))
    found = scan("nrrd", tmp_path)
    assert [sample.subject for sample in found.samples] == ["a"] and found.errors == ()
    assert "a: does not state its orientation in the patient (a_image.nrrd, a_label.nrrd)" in str(found.problems[0])


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a_image.nhdr", "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 5 6 7\nencoding: raw\ndata file: ../secret\n\n"),
        (
            "a_image.nrrd",
            "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 5 6 7\nencoding: raw\nDATA FILE: /dev/zero\n\n",
        ),
        ("a_image.mhd", "NDims = 3\nDimSize = 5 6 7\nElementType = MET_UCHAR\nElementDataFile = ../secret\n"),
        ("a_image.mha", "NDims = 3\nDimSize = 5 6 7\nElementType = MET_UCHAR\nElementDataFile = LIST\nx.raw\n"),
    ],
)
def test_voxels_in_another_file_are_named_and_not_read(tmp_path, name, header):
    (tmp_path / "secret").write_bytes(bytes(range(210)))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).write_text(header)
    itk(tmp_path / "data/a_label.nrrd", segmentation(0))
    found = scan("nrrd", tmp_path / "data")
    assert found.samples == () and "keeps its voxels in another file" in str(found.problems[0])
    assert found.problems[0].remedy.endswith("or write header and voxels as one .mha or .nrrd file")


def test_the_remedy_for_voxels_in_another_file_helps(tmp_path):
    SimpleITK = pytest.importorskip("SimpleITK")  # noqa: N806 - a module
    (tmp_path / "data").mkdir()
    itk(tmp_path / "a_image.mhd", intensities(0))
    itk(tmp_path / "data/a_label.nrrd", segmentation(0))
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(tmp_path / "a_image.mhd")), str(tmp_path / "data/a_image.mha"))
    found = scan("nrrd", tmp_path / "data")
    assert found.problems == () and [sample.subject for sample in found.samples] == ["a"]


def test_a_header_of_more_voxels_than_the_file_can_hold_is_named(tmp_path):
    header = "NRRD0004\ntype: float\ndimension: 3\nsizes: 90000 90000 90000\nendian: little\nencoding: gzip\n\n"
    (tmp_path / "a_image.nrrd").write_bytes(header.encode() + bytes(100))
    itk(tmp_path / "a_label.nrrd", segmentation(0))
    assert "its header declares 729000000000000 voxels" in str(scan("nrrd", tmp_path).problems[0])


def test_colours_and_flat_images_are_named(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True), str(tmp_path / "a.nrrd"))
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5), np.uint8)), str(tmp_path / "b.mha"))
    for name, words in (("a.nrrd", r"has 4 dimensions \[6, 5, 4, 3\]"), ("b.mha", r"has 2 dimensions \[5, 4\]")):
        with pytest.raises(Exception, match=words):
            read_image(tmp_path / name)


def test_the_brain_tumour_is_a_pair():
    root = real_data("nrrd_tumour")
    found = scan("nrrd", root)
    assert found.problems == () and [sample.subject for sample in found.samples] == ["brain1"]
    image = sitk.ReadImage(str(root / "brain1_image.nrrd"))
    (reading,) = format_named("nrrd").read(root, found.samples, {})
    assert np.array_equal(reading.images["image"], sitk.GetArrayFromImage(image).T.astype(np.float32))
    corner = np.array(image.TransformIndexToPhysicalPoint([3, 5, 7])) * (-1, -1, 1)
    assert np.allclose((reading.affine @ [3, 5, 7, 1])[:3], corner, atol=1e-4)
    label, _ = read_label(root / "brain1_label.nrrd")
    assert np.array_equal(reading.label, label) and label.any()
    assert len(SHAPE) == label.ndim


_NRRD = (
    b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 3 3 3\nencoding: raw\nspace: left-posterior-superior\n"
    b"space directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\n"
)
_META = b"ObjectType = Image\nNDims = 3\nBinaryData = True\nDimSize = 3 3 3\nElementType = MET_UCHAR\n"
_LOCAL = b"ElementDataFile = LOCAL\n" + bytes(27)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("long.nrrd", _NRRD + b"# a remark of 40 letters and a little more\n" * 1600 + b"data file: other.raw\n\n"),
        ("return.nrrd", _NRRD + b"# remark\rdata file: other.raw\n\n"),
        ("returns.nrrd", _NRRD.replace(b"\n", b"\r") + b"data file: other.raw\r\r\n\n" + bytes(27)),
        ("space.mha", _META + b" ElementDataFile = other.raw\n" + _LOCAL),
        ("colon.mha", _META + b"ElementDataFile : other.raw\n" + _LOCAL),
        ("empty.mha", _META + b"Comment = \nElementDataFile = LOCAL\nElementDataFile = other.raw\n" + bytes(27)),
    ],
)
def test_no_spelling_of_a_header_leads_to_another_file(tmp_path, name, content):
    """The decoder itself reads these from other.raw, which no hash of the sample covers, or the header as voxels."""
    (tmp_path / "other.raw").write_bytes(bytes(range(27)))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput):
        read_image(tmp_path / name)


def as_itk_reads(path):
    """Voxels first axis first, and the affine in RAS."""
    image = sitk.ReadImage(str(path))
    size = image.GetDimension()
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (size, size))[:3, :3] * np.array(image.GetSpacing())[:3]
    affine[:3, 3] = image.GetOrigin()[:3]
    return sitk.GetArrayFromImage(image).transpose(), np.diag([-1, -1, 1, 1]) @ affine


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("stored", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_every_storage_reads_as_itk_reads_it(tmp_path, ending, compressed, stored):
    path = tmp_path / f"a{ending}"
    itk(path, np.random.default_rng(1).integers(0, 100, (4, 5, 6)).astype(stored), OBLIQUE, compressed)
    values, affine = as_itk_reads(path)
    found = decode(path, path.read_bytes())
    assert found.values.dtype == values.dtype and np.array_equal(found.values, values)
    assert np.allclose(found.affine, affine, atol=1e-6) and found.is_placed


_ACROSS = "space directions: (1.5,0,0) (0,0,2) (0,-1,0)\nspace origin: (1,2,3)\n"
_FOUR = "dimension: 4\nkinds: {}\nsizes: {}\n"


@pytest.mark.parametrize(
    ("lines", "is_placed"),
    [
        ("space: LPS\n" + _ACROSS, True),
        ("space: RAS\n" + _ACROSS, True),
        ("space: left-anterior-superior\n" + _ACROSS, True),
        ("space: Right-Anterior-Superior\n" + _ACROSS, True),
        ("space: scanner-xyz\n" + _ACROSS, False),
        ("space dimension: 3\n" + _ACROSS, False),
        ("space: LPS\nspace directions: (1,0,0) (0,1,0) (0,0,1)\n", True),
        ("space: LPS\n" + _ACROSS + 'measurement frame: (1,0,0) (0,1,0) (0,0,1)\nspace units: "mm" "mm" "mm"\n', True),
        ("spacings: 1.5 2 3\n", False),
        ("spacings: 1.5 nan 3\n", False),
        ("spacings: 1 2 3\naxis mins: 4 5 6\n", False),
        ("spacings: 1 2 3\naxis mins: 4 5 6\ncenters: node cell cell\n", False),
        ("# a remark\nkey:=value: with = all\ncontent: a b\n", False),
        (_FOUR.format("list" + " domain" * 3, "1 3 4 5") + "space: LPS\n" + _ACROSS.replace("(1.5", "none (1.5"), True),
        (_FOUR.format("domain " * 3 + "list", "3 4 5 1") + "space: LPS\n" + _ACROSS.replace("0)\n", "0) none\n"), True),
        (_FOUR.format("domain domain domain time", "3 2 5 2") + "spacings: 1 2 3 4\n", False),
    ],
)
def test_every_way_to_place_a_nrrd_is_read_as_itk_reads_it(tmp_path, lines, is_placed):
    grid = "" if "dimension: 4" in lines else "dimension: 3\nsizes: 3 4 5\n"
    header = f"NRRD0005\ntype: signed short\n{grid}{lines}endian: big\nencoding: raw\n\n"
    path = tmp_path / "a.nrrd"
    path.write_bytes(header.encode() + np.arange(60, dtype=">i2").tobytes())
    values, affine = as_itk_reads(path)
    found = decode(path, path.read_bytes())
    assert np.array_equal(found.values, values.reshape(found.values.shape)) and np.allclose(found.affine, affine)
    assert found.is_placed == is_placed


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"ElementSize": "1 2 3"},
        {"ElementSize": "9 9 9", "ElementSpacing": "1 2 3"},
        {"TransformMatrix": "0 1 0 0 0 1 1 0 0", "Offset": "1 2 3", "ElementSpacing": "1 2 3"},
        {"Orientation": "0 1 0 0 0 1 1 0 0", "Position": "1 2 3", "AnatomicalOrientation": "RAI"},
        {"Rotation": "0 1 0 0 0 1 1 0 0", "Origin": "1 2 3", "CenterOfRotation": "5 5 5"},
        {"ElementByteOrderMSB": "True", "Comment": "a = b: c"},
        {"BinaryDataByteOrderMSB": "True", "HeaderSize": "0"},
        {"CompressedData": "False", "ElementNumberOfChannels": "1"},
    ],
)
def test_every_way_to_place_a_metaimage_is_read_as_itk_reads_it(tmp_path, fields):
    said = {"ObjectType": "Image", "NDims": "3", "BinaryData": "True", **fields}
    said |= {"DimSize": "3 4 5", "ElementType": "MET_SHORT", "ElementDataFile": "LOCAL"}
    path = tmp_path / "a.mha"
    header = "".join(f"{name} = {value}\n" for name, value in said.items())
    path.write_bytes(header.encode() + np.arange(60, dtype="<i2").tobytes())
    values, affine = as_itk_reads(path)
    found = decode(path, path.read_bytes())
    assert np.array_equal(found.values, values) and np.allclose(found.affine, affine)


@pytest.mark.parametrize(("name", "start"), [("a.nrrd", _NRRD + b"\n"), ("a.mha", _META + _LOCAL[:-27])])
def test_headers_with_windows_line_ends_are_read(tmp_path, name, start):
    (tmp_path / name).write_bytes(start.replace(b"\n", b"\r\n") + bytes(range(27)))
    volume, _ = read_image(tmp_path / name)
    assert volume.ravel(order="F").tolist() == list(range(27))
