"""What a folder looks like, told from names alone."""

from __future__ import annotations

import pytest
from made_volumes import intensities, nifti, segmentation

from archipel.data.formats import detect
from archipel.vocabulary import BadInput
from opened_files import opens_under
from real_data import real_data


def names(root):
    return [fit.format for fit in detect(root)]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (("msd_hippocampus", "site-a"), ["nifti-pairs"]),
        (("ixi_t1_2mm",), ["nifti-pairs"]),
        (("bids_spine",), ["bids"]),
        (("nrrd_tumour",), ["nrrd"]),
    ],
)
def test_real_folders_are_known_for_what_they_are(parts, expected):
    assert names(real_data(*parts)) == expected


def test_a_folder_of_something_else_is_nothing(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    assert names(tmp_path) == []
    with pytest.raises(BadInput, match="is not a folder"):
        detect(tmp_path / "nowhere")


def test_a_table_beside_volumes_tells_of_them(tmp_path):
    nifti(tmp_path / "images/a.nii.gz", intensities(0))
    nifti(tmp_path / "labels/a.nii.gz", segmentation(0))
    (tmp_path / "ages.csv").write_text("id,age\na,3\n")
    assert names(tmp_path) == ["nifti-pairs"]


def test_groups_and_medical_folders_are_told_apart(tmp_path):
    for group, subject in (("patients", "p1"), ("patients", "p2"), ("controls", "p3")):
        nifti(tmp_path / f"groups/{group}/{subject}/scan.nii.gz", intensities(0))
    for subject in ("p1", "p2"):
        for modality in ("T1", "T2"):
            nifti(tmp_path / f"medical/{subject}/{modality}/scan.nii.gz", intensities(0))
    assert names(tmp_path / "groups") == ["nifti-groups"]
    assert names(tmp_path / "medical")[0] == "medical-folder"


def test_no_volume_is_opened(tmp_path):
    nifti(tmp_path / "images/a.nii.gz", intensities(0))
    nifti(tmp_path / "labels/a.nii.gz", segmentation(0))
    with opens_under(tmp_path) as opened:
        detect(tmp_path)
    assert opened == set()
