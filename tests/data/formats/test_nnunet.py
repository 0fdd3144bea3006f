from __future__ import annotations

import json
import shutil

import pytest
from conformance import SUBJECTS, Conformance, Expected
from made_volumes import AFFINE, intensities, nifti, segmentation

from archipel.data import scan
from archipel.data.formats import detect
from real_data import real_data

DESCRIPTION = {
    "channel_names": {"0": "T1", "1": "T2"},
    "labels": {"background": 0, "tumour": 1, "oedema": 2, "whole": [1, 2]},
    "file_ending": ".nii.gz",
    "numTraining": 3,
}


def describe(root, **changes):
    (root / "dataset.json").write_text(json.dumps({**DESCRIPTION, **changes}))


class TestNnunet(Conformance):
    format = "nnunet"

    def write(self, root, subjects=SUBJECTS):
        describe(root)
        expected = {}
        for number, subject in enumerate(subjects):
            images = [intensities(10 * number + channel) for channel in range(2)]
            for channel, image in enumerate(images):
                nifti(root / f"imagesTr/{subject}_{channel:04}.nii.gz", image)
            nifti(root / f"labelsTr/{subject}.nii.gz", segmentation(number))
            nifti(root / f"imagesTs/test_{number}_0000.nii.gz", intensities(90))
            expected[subject, ""] = Expected(dict(zip(("T1", "T2"), images, strict=True)), segmentation(number), AFFINE)
        return expected

    fragile = "*Tr/*"

    def change(self, root):
        nifti(root / "imagesTr/sub-02_0001.nii.gz", intensities(70))
        return "imagesTr/sub-02_0001.nii.gz"

    def remove(self, root):
        (root / "imagesTr/sub-02_0000.nii.gz").unlink()
        return "imagesTr/sub-02_0000.nii.gz"

    def repeat(self, root):
        # The same id in the two ways in which an accent is written; file systems keep both.
        for name in ("Zo\u00eb", "Zoe\u0308"):
            nifti(root / f"labelsTr/{name}.nii.gz", segmentation(1))
            for channel in range(2):
                nifti(root / f"imagesTr/{name}_{channel:04}.nii.gz", intensities(1))
        return "two files for channel 0001"


def test_names_of_labels_and_channels_are_in_the_schema(tmp_path):
    TestNnunet().write(tmp_path)
    found = scan("nnunet", tmp_path)
    assert found.schema.label_names == {"0": "background", "1": "tumour", "2": "oedema"}
    assert found.schema.modalities == {"T1": 3, "T2": 3}


def test_a_case_without_a_channel_or_with_one_too_many_is_named(tmp_path):
    TestNnunet().write(tmp_path)
    (tmp_path / "imagesTr/sub-01_0001.nii.gz").unlink()
    nifti(tmp_path / "imagesTr/sub-02_0002.nii.gz", intensities(1))
    nifti(tmp_path / "imagesTr/stray.nii.gz", intensities(1))
    found = scan("nnunet", tmp_path)
    assert [sample.subject for sample in found.samples] == ["sub-03"]
    assert {str(one).split(";")[0] for one in found.errors} == {
        "imagesTr/stray.nii.gz: has a name that does not end with a channel",
        "sub-01: lacks some of its files (looked for imagesTr/sub-01_0001.nii.gz)",
        "sub-02: has channel 0002 where dataset.json names 2",
    }


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channel_names": {}}, "has no channel_names"),
        ({"labels": {"background": 0, "tumour": 0}}, "its labels name 0 twice"),
        ({"labels": {"tumour": True}}, "which is not a number and a name"),
        ({"file_ending": ".gif"}, "its file_ending '.gif' is not one of"),
        ({"file_ending": None}, "its file_ending None is not one of"),
    ],
)
def test_a_description_that_does_not_say_what_it_should_is_named(tmp_path, changes, words):
    TestNnunet().write(tmp_path)
    describe(tmp_path, **changes)
    found = scan("nnunet", tmp_path)
    assert found.samples == () and words in str(found.errors[0])


def test_the_hippocampus_as_nnunet_has_it(tmp_path):
    root = real_data("msd_hippocampus", "site-b")
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
    cases = sorted(path.name.removesuffix(".nii.gz") for path in (root / "images").glob("*.nii.gz"))[:5]
    for case in cases:
        shutil.copyfile(root / f"images/{case}.nii.gz", tmp_path / f"imagesTr/{case}_0000.nii.gz")
        shutil.copyfile(root / f"labels/{case}.nii.gz", tmp_path / f"labelsTr/{case}.nii.gz")
    describe(tmp_path, channel_names={"0": "MRI"}, labels={"background": 0, "anterior": 1, "posterior": 2})
    found = scan("nnunet", tmp_path)
    assert found.problems == () and [sample.subject for sample in found.samples] == cases


@pytest.mark.parametrize("channels", [1, 2])
def test_version_1_names_cases_without_their_channels(tmp_path, channels):
    names = {str(channel): f"T{channel + 1}" for channel in range(channels)}
    listed = [{"image": f"./imagesTr/la_{n:03}.nii.gz", "label": f"./labelsTr/la_{n:03}.nii.gz"} for n in (1, 2)]
    told = {"modality": names, "labels": {"0": "background", "1": "atrium", "2": "wall"}, "training": listed}
    (tmp_path / "dataset.json").write_text(json.dumps(told))
    for number in (1, 2):
        nifti(tmp_path / f"labelsTr/la_{number:03}.nii.gz", segmentation(number))
        for channel in range(channels):
            nifti(tmp_path / f"imagesTr/la_{number:03}_{channel:04}.nii.gz", intensities(10 * number + channel))
    assert [fit.format for fit in detect(tmp_path)] == ["nnunet"]
    found = scan("nnunet", tmp_path)
    assert found.problems == () and [sample.subject for sample in found.samples] == ["la_001", "la_002"]
    assert found.schema.modalities == ({"image": 2} if channels == 1 else {"T1": 2, "T2": 2})
    assert found.schema.label_names == {"0": "background", "1": "atrium", "2": "wall"}


def test_a_decathlon_task_whose_ids_have_four_digits_is_one(tmp_path):
    told = {"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "a", "2": "b"}}
    (tmp_path / "dataset.json").write_text(json.dumps(told))
    for number in (1, 2):
        nifti(tmp_path / f"labelsTr/la_{number:04}.nii.gz", segmentation(number))
        nifti(tmp_path / f"imagesTr/la_{number:04}.nii.gz", intensities(number))
    assert [fit.format for fit in detect(tmp_path)] == ["msd"]


def test_pictures_are_refused_with_the_way_out(tmp_path):
    describe(tmp_path, file_ending=".png")
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "imagesTr/a_0000.png").write_bytes(b"x")
    (said,) = scan("nnunet", tmp_path).problems
    assert "its file_ending '.png' means 2-D pictures" in said.cause and ".nii.gz of one slice" in said.remedy
