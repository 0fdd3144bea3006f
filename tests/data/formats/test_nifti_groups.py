from __future__ import annotations

import shutil

from conformance import SUBJECTS, Conformance, Expected
from made_volumes import AFFINE, intensities, nifti

from archipel.data import scan
from real_data import real_data


class TestNiftiGroups(Conformance):
    format = "nifti-groups"

    def write(self, root, subjects=SUBJECTS):
        expected = {}
        for number, subject in enumerate(subjects):
            group = "control_group" if number < 1 else "disease_group"
            inside = f"{subject}/" if number == 2 else ""
            image = intensities(number)
            nifti(root / f"{group}/{inside}{subject}{'.nii' if number == 1 else '.nii.gz'}", image)
            expected[subject, ""] = Expected({"image": image}, None, AFFINE, values={"group": group})
        return expected

    def change(self, root):
        nifti(root / "disease_group/sub-02.nii", intensities(9))
        return "disease_group/sub-02.nii"

    def remove(self, root):
        (root / "control_group/sub-01.nii.gz").unlink()
        return "control_group/sub-01.nii.gz"

    def repeat(self, root):
        nifti(root / "disease_group/sub-02.nii.gz", intensities(7))
        return "sub-02: two files for image"


def test_the_name_of_a_group_is_no_pattern(tmp_path):
    nifti(tmp_path / "[ab]/one.nii.gz", intensities(1))
    nifti(tmp_path / "a/two.nii.gz", intensities(2))
    found = scan("nifti-groups", tmp_path)
    assert found.problems == ()
    assert {sample.subject: sample.values["group"] for sample in found.samples} == {"one": "[ab]", "two": "a"}
    wrong = scan("nifti-groups", tmp_path, {"groups": "*"})
    assert str(wrong.errors[0]).startswith("*: is named as a group and holds no volume;")


def test_a_subject_in_two_groups_is_in_none(tmp_path):
    TestNiftiGroups().write(tmp_path)
    nifti(tmp_path / "control_group/sub-02.nii.gz", intensities(2))
    found = scan("nifti-groups", tmp_path)
    assert [sample.subject for sample in found.samples] == ["sub-01", "sub-03"]
    assert [str(one) for one in found.errors] == [
        "sub-02: is in 2 groups (control_group, disease_group); if they are of one patient, keep the files in one of "
        "them; if each folder counts its own patients, add the dataset with --format nifti-groups --option "
        "names=per-folder"
    ]
    each = scan("nifti-groups", tmp_path, {"names": "per-folder"})
    assert each.errors == () and {"control_group_sub-02", "disease_group_sub-02"} <= set(each.samples.subjects)
    assert found.errors[0].subject == "sub-02"


def test_groups_are_counted_and_may_be_chosen(tmp_path):
    TestNiftiGroups().write(tmp_path)
    nifti(tmp_path / "scratch/try.nii.gz", intensities(5))
    assert scan("nifti-groups", tmp_path).schema.columns["group"].categories == {
        "control_group": 1,
        "disease_group": 2,
        "scratch": 1,
    }
    chosen = scan("nifti-groups", tmp_path, {"groups": "control_group, disease_group"})
    assert chosen.schema.columns["group"].categories == {"control_group": 1, "disease_group": 2}
    missing = scan("nifti-groups", tmp_path, {"groups": "control_group,patients"})
    assert "patients: is named as a group and holds no volume" in str(missing.errors[0])


def test_several_files_of_a_subject_are_modalities(tmp_path):
    for subject, group in (("p1", "a"), ("p2", "b")):
        for modality in ("T1", "T2"):
            nifti(tmp_path / f"{group}/{subject}/{subject}_{modality}.nii.gz", intensities(1))
    found = scan("nifti-groups", tmp_path)
    assert found.problems == () and found.schema.modalities == {"T1": 2, "T2": 2}


def test_real_brains_in_groups(tmp_path):
    images = sorted(real_data("ixi_t1_2mm", "images").iterdir())
    for number, image in enumerate(images):
        group = tmp_path / ("young" if number % 2 else "old")
        group.mkdir(exist_ok=True)
        shutil.copyfile(image, group / image.name)
    found = scan("nifti-groups", tmp_path)
    assert found.problems == ()
    assert found.schema.columns["group"].categories == {"old": 3, "young": 2}
