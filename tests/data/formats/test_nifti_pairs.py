from __future__ import annotations

import gzip

import nibabel
import numpy as np
import pytest
from conformance import SUBJECTS, Conformance, Expected
from made_volumes import AFFINE, intensities, nifti, segmentation

from archipel.data import format_named, scan
from real_data import real_data


class TestNiftiPairs(Conformance):
    format = "nifti-pairs"

    def write(self, root, subjects=SUBJECTS):
        expected = {}
        for number, subject in enumerate(subjects):
            # Plain and compressed files live side by side.
            ending = ".nii" if number == 1 else ".nii.gz"
            image, label = intensities(number), segmentation(number)
            nifti(root / f"images/{subject}{ending}", image)
            nifti(root / f"labels/{subject}.nii.gz", label)
            expected[subject, ""] = Expected({"image": image}, label, AFFINE)
        return expected

    def change(self, root):
        nifti(root / "labels/sub-02.nii.gz", segmentation(9))
        return "labels/sub-02.nii.gz"

    def remove(self, root):
        (root / "images/sub-03.nii.gz").unlink()
        return "images/sub-03.nii.gz"

    def repeat(self, root):
        nifti(root / "images/sub-02.nii.gz", intensities(8))
        return "sub-02: two files in images/"


def test_whole_brain_label_maps_keep_their_own_names():
    root = real_data("ixi_t1_2mm")
    found = scan("nifti-pairs", root, {"image_suffix": "-T1_ds", "label_suffix": "-T1_ds_DLMUSE"})
    assert found.errors == () and "demographics.csv beside the volumes is not read" in str(found.problems)
    assert [sample.subject for sample in found.samples][:2] == ["IXI012-HH-1211", "IXI014-HH-1236"]
    labels = nibabel.load(root / "labels/IXI012-HH-1211-T1_ds_DLMUSE.nii.gz")
    values = np.unique(np.asarray(labels.dataobj))
    assert len(values) > 100 and {str(int(one)) for one in values} <= set(found.schema.label_values)
    reading = next(iter(format_named("nifti-pairs").read(root, found.samples, {})))
    assert np.array_equal(reading.label, np.asarray(labels.dataobj)) and np.allclose(reading.affine, labels.affine)


def test_names_that_differ_in_their_endings_are_one_fault_that_names_the_options():
    root = real_data("ixi_t1_2mm")
    (line,) = map(str, scan("nifti-pairs", root).problems)
    assert line.startswith(
        "ixi_t1_2mm: no label has the name of an image; give the part of their names after the subject's id: "
    )
    assert line.endswith("--option image_suffix=_ds --option label_suffix=_ds_DLMUSE")
    said = {"image_suffix": "_ds", "label_suffix": "_ds_DLMUSE"}
    assert not scan("nifti-pairs", root, said).problems


def test_names_that_are_of_others_get_no_advice_about_endings(tmp_path):
    for number, (image, label) in enumerate([("a_ds", "c_seg"), ("b_ds", "d_seg")]):
        nifti(tmp_path / f"images/{image}.nii.gz", intensities(number))
        nifti(tmp_path / f"labels/{label}.nii.gz", segmentation(number))
    assert len(scan("nifti-pairs", tmp_path).problems) == 4


def test_a_name_without_the_ending_that_was_said_is_reported(tmp_path):
    nifti(tmp_path / "images/a_ds.nii.gz", intensities(0))
    nifti(tmp_path / "images/b.nii.gz", intensities(1))
    nifti(tmp_path / "labels/a_ds_seg.nii.gz", segmentation(0))
    found = scan("nifti-pairs", tmp_path, {"image_suffix": "_ds", "label_suffix": "_ds_seg"})
    assert [sample.subject for sample in found.samples] == ["a"]
    assert [str(one).split(";")[0] for one in found.problems] == [
        "images/b.nii.gz: has a name that does not end with _ds"
    ]


def test_hippocampi_read_as_nibabel_reads_them():
    root = real_data("msd_hippocampus", "site-a")
    found = scan("nifti-pairs", root)
    assert found.problems == () and found.schema.label_values.keys() == {"0", "1", "2"}
    for sample, reading in zip(found.samples, format_named("nifti-pairs").read(root, found.samples, {}), strict=True):
        image, label = (nibabel.load(root / sample.files[role]) for role in ("image", "label"))
        assert np.array_equal(reading.images["image"], np.asarray(image.dataobj, np.float32))
        assert np.array_equal(reading.label, np.asarray(label.dataobj))
        assert np.array_equal(reading.affine, image.affine)


@pytest.mark.parametrize("spacing_in_nfd", [False, True])
def test_accents_pair_however_a_file_system_writes_them(tmp_path, spacing_in_nfd):
    composed, decomposed = "Zo\u00eb", "Zoe\u0308"
    nifti(tmp_path / f"images/{decomposed if spacing_in_nfd else composed}.nii.gz", intensities(0))
    nifti(tmp_path / f"labels/{composed}.nii.gz", segmentation(0))
    found = scan("nifti-pairs", tmp_path)
    assert found.problems == () and [sample.subject for sample in found.samples] == [composed]


def test_a_file_name_that_is_no_subjects_name_is_a_problem(tmp_path):
    for name in ("a\nb", "x" * 220, "back\\slash"):
        nifti(tmp_path / f"images/{name}.nii.gz", intensities(0))
        nifti(tmp_path / f"labels/{name}.nii.gz", segmentation(0))
    (tmp_path / "images" / "caf\udce9.nii.gz").write_bytes(b"latin-1 name")
    found = scan("nifti-pairs", tmp_path)
    assert found.samples == () and len(found.errors) == 4
    assert "has a name that is not UTF-8" in str(found.errors)


def test_members_of_a_gzip_file_are_one_volume(tmp_path):
    image = nifti(tmp_path / "plain.nii", intensities(0)).read_bytes()
    (tmp_path / "images").mkdir()
    packed = b"".join(gzip.compress(image[at : at + 300]) for at in range(0, len(image), 300))
    (tmp_path / "images/a.nii.gz").write_bytes(packed)
    nifti(tmp_path / "labels/a.nii.gz", segmentation(0))
    (tmp_path / "plain.nii").unlink()
    found = scan("nifti-pairs", tmp_path)
    assert found.problems == ()
    reading = next(iter(format_named("nifti-pairs").read(tmp_path, found.samples, {})))
    assert np.array_equal(reading.images["image"], intensities(0))
