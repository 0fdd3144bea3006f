from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from conformance import SUBJECTS, Conformance, Expected
from made_volumes import AFFINE, SHAPE, intensities, nifti, segmentation

from archipel.data import format_named, scan
from real_data import real_data

LABELS = {"0": "background", "1": "edema", "2": "core"}


def describe(root, **changes):
    content = {"name": "Made", "modality": {"0": "FLAIR", "1": "T1w"}, "labels": LABELS, **changes}
    (root / "dataset.json").write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


class TestMsd(Conformance):
    format = "msd"

    def write(self, root, subjects=SUBJECTS):
        expected = {}
        for number, subject in enumerate(subjects):
            image, label = intensities(number, (*SHAPE, 2)), segmentation(number)
            nifti(root / f"imagesTr/{subject}{'.nii' if number == 1 else '.nii.gz'}", image)
            nifti(root / f"labelsTr/{subject}.nii.gz", label)
            expected[subject, ""] = Expected({"FLAIR": image[..., 0], "T1w": image[..., 1]}, label, AFFINE)
        training = [{"image": f"./imagesTr/{one}.nii.gz", "label": f"./labelsTr/{one}.nii.gz"} for one in subjects]
        describe(root, training=training)
        return expected

    def change(self, root):
        nifti(root / "imagesTr/sub-03.nii.gz", intensities(9, (*SHAPE, 2)))
        return "imagesTr/sub-03.nii.gz"

    def remove(self, root):
        (root / "labelsTr/sub-01.nii.gz").unlink()
        return "labelsTr/sub-01.nii.gz"

    def repeat(self, root):
        nifti(root / "imagesTr/sub-02.nii.gz", intensities(7, (*SHAPE, 2)))
        return "sub-02: two files in imagesTr/"


def test_names_of_labels_are_in_the_schema_and_undeclared_values_are_a_warning(tmp_path):
    TestMsd().write(tmp_path)
    nifti(tmp_path / "labelsTr/sub-02.nii.gz", segmentation(1) * 7)
    found = scan("msd", tmp_path)
    assert found.schema.label_names == LABELS and found.errors == () and len(found.samples) == 3
    (problem,) = found.problems
    assert (problem.severity, problem.subject) == ("warning", "sub-02")
    assert "its label has values that the description does not name (7, 14)" in str(problem)


def test_a_channel_more_than_the_description_names_is_refused_as_one_fewer_is(tmp_path):
    TestMsd().write(tmp_path)
    nifti(tmp_path / "imagesTr/sub-01.nii.gz", intensities(1, (*SHAPE, 3)))
    nifti(tmp_path / "imagesTr/sub-03.nii.gz", intensities(3, SHAPE))
    (tmp_path / "imagesTr/sub-01.nii").unlink(missing_ok=True)
    found = scan("msd", tmp_path)
    assert [sample.subject for sample in found.samples] == ["sub-02"]
    more, fewer = (str(problem) for problem in found.errors)
    assert more.startswith(
        "sub-01: imagesTr/sub-01.nii.gz: has 3 channels, and the description names 2 (FLAIR, T1w); name every channel"
    )
    assert "imagesTr/sub-03.nii.gz: has 1 channel; T1w would be channel 2" in fewer


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"modality": None}, "dataset.json: has no modality"),
        ({"modality": {"0": "T1", "2": "T2"}}, "are not numbered from 0 without a gap"),
        ({"modality": {"0": "T1", "1": "T1"}}, "use the name T1 twice"),
        ({"modality": ["T1"]}, "dataset.json: has no modality"),
        ({"labels": {"0": "background", "one": "two"}}, "which is not a number and a name"),
        ({"labels": {}}, "dataset.json: has no labels"),
    ],
)
def test_a_description_that_does_not_say_what_it_should_is_named(tmp_path, changes, words):
    TestMsd().write(tmp_path)
    describe(tmp_path, **changes)
    found = scan("msd", tmp_path)
    assert found.samples == () and words in str(found.errors[0])


@pytest.mark.parametrize("content", ["[]", "{", "\ufeff{}", '{"labels": NaN}', "[" * 100_000, '{"a": "\\ud800"}'])
def test_a_description_that_is_no_json_object_is_named(tmp_path, content):
    TestMsd().write(tmp_path)
    (tmp_path / "dataset.json").write_text(content)
    assert "dataset.json: " in str(scan("msd", tmp_path).errors[0])


def test_an_image_with_fewer_channels_than_modalities_is_named(tmp_path):
    TestMsd().write(tmp_path)
    nifti(tmp_path / "imagesTr/sub-02.nii", intensities(1))
    found = scan("msd", tmp_path)
    assert [sample.subject for sample in found.samples] == ["sub-01", "sub-03"]
    assert "sub-02: imagesTr/sub-02.nii: has 1 channel; T1w would be channel 2" in str(found.errors[0])


def test_channels_belong_to_the_content(tmp_path):
    TestMsd().write(tmp_path)
    first = scan("msd", tmp_path)
    describe(tmp_path, modality={"0": "T1w", "1": "FLAIR"})
    second = scan("msd", tmp_path)
    assert all(old.hash != new.hash for old, new in zip(first.samples, second.samples, strict=True))
    (reading, *_) = format_named("msd").read(tmp_path, second.samples, {})
    assert np.array_equal(reading.images["T1w"], intensities(0, (*SHAPE, 2))[..., 0])


def test_where_list_and_files_differ_is_said_and_nothing_is_lost(tmp_path):
    TestMsd().write(tmp_path)
    describe(tmp_path, training=[{"image": "./imagesTr/sub-01.nii.gz"}, {"image": "./imagesTr/gone.nii.gz"}])
    found = scan("msd", tmp_path)
    assert len(found.samples) == 3 and found.errors == ()
    assert [one.cause for one in found.problems] == [
        "names 1 cases whose files are not there (gone)",
        "does not name 2 cases whose files are there (sub-02, sub-03)",
    ]


def test_the_hippocampus_task_as_it_is_published(tmp_path):
    root = real_data("msd_hippocampus", "site-a")
    shutil.copytree(root / "images", tmp_path / "imagesTr")
    shutil.copytree(root / "labels", tmp_path / "labelsTr")
    describe(tmp_path, modality={"0": "MRI"}, labels={"0": "background", "1": "Anterior", "2": "Posterior"})
    found = scan("msd", tmp_path)
    assert found.problems == () and found.schema.modalities == {"image": len(found.samples)}
    assert len(found.samples) == len(list((root / "images").glob("*.nii.gz")))
