from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from conformance import SUBJECTS, Conformance, Expected
from made_volumes import AFFINE, intensities, nifti, segmentation
from PIL import Image

from archipel.data import scan
from archipel.data.formats import detect, format_named
from archipel.vocabulary import BadInput
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


def pictures(root, ending=".png", colours=False, **changes):
    describe(root, **{"file_ending": ending, "channel_names": {"0": "grey"}, **changes})
    draw, label = np.random.default_rng(0), np.zeros((5, 8), np.uint8)
    label[2:4, 3:7] = 1
    for case in ("a", "b"):
        for place, values in (
            (f"imagesTr/{case}_0000{ending}", draw.integers(0, 255, (5, 8, 3) if colours else (5, 8)).astype(np.uint8)),
            (f"labelsTr/{case}{ending}", label),
        ):
            (root / place).parent.mkdir(exist_ok=True)
            Image.fromarray(values).save(root / place)
    return label


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif"])
def test_2d_images_are_volumes_of_one_slice(tmp_path, ending):
    label = pictures(tmp_path, ending)
    assert [fit.format for fit in detect(tmp_path)] == ["nnunet"]
    found = scan("nnunet", tmp_path)
    assert found.problems == () and found.schema.label_values == {"0": 2, "1": 2}
    reading = next(format_named("nnunet").read(tmp_path, found.samples, {}))
    assert np.array_equal(reading.label[..., 0], label.T)
    stored = np.asarray(Image.open(tmp_path / f"imagesTr/a_0000{ending}"))
    assert np.array_equal(reading.images["image"][..., 0], stored.T.astype(np.float32))
    Image.fromarray(255 - stored).save(tmp_path / f"imagesTr/a_0000{ending}")
    with pytest.raises(BadInput, match="a_0000"):
        format_named("nnunet").verify(tmp_path, found.samples, {})


def test_the_colours_of_a_picture_are_the_three_channels_that_the_description_names(tmp_path):
    pictures(tmp_path, colours=True, channel_names={"0": "R", "1": "G", "2": "B"})
    found = scan("nnunet", tmp_path)
    assert found.problems == () and found.schema.modalities == {"B": 2, "G": 2, "R": 2}
    reading = next(format_named("nnunet").read(tmp_path, found.samples, {}))
    stored = np.asarray(Image.open(tmp_path / "imagesTr/a_0000.png"))
    for number, name in enumerate("RGB"):
        assert np.array_equal(reading.images[name][..., 0], stored[..., number].T.astype(np.float32))


def test_pictures_that_do_not_fit_their_description_are_refused_with_the_way_out(tmp_path):
    (tmp_path / "one").mkdir()
    pictures(tmp_path / "one", colours=True)
    said = str(scan("nnunet", tmp_path / "one").errors[0])
    assert "is in colour, and is read as one channel; name its three channels" in said
    (tmp_path / "grey").mkdir()
    pictures(tmp_path / "grey", channel_names={"0": "R", "1": "G", "2": "B"})
    assert "has 1 channel; G would be channel 2" in str(scan("nnunet", tmp_path / "grey").errors[0])
    (tmp_path / "label").mkdir()
    pictures(tmp_path / "label")
    Image.fromarray(np.dstack([np.eye(8, dtype=np.uint8)[:5] * shade for shade in (90, 1, 7)])).save(
        tmp_path / "label/labelsTr/a.png"
    )
    assert "a label has one number per pixel" in str(scan("nnunet", tmp_path / "label").errors[0])
    describe(tmp_path, file_ending=".jpg")
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "imagesTr/a_0000.jpg").write_bytes(b"x")
    (said,) = scan("nnunet", tmp_path).problems
    assert "'.jpg' means pictures that are not stored exactly" in said.cause and ".png" in said.remedy
