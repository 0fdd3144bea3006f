"""Label volumes that are not quite labels: what is exact is read, everything else is named as what it is."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_volumes import AFFINE, intensities, nifti
from scipy.ndimage import gaussian_filter

from archipel.data import DataIssue, DataMapping, scan
from archipel.data.cohorts import still_open
from archipel.data.volumes.label_volumes import share_of_changes
from archipel.data.volumes.volumes import read_label
from archipel.vocabulary import BadInput

SHAPE = (20, 24, 18)


def blocks(values: tuple[int, ...] = (1, 2)) -> np.ndarray:
    """Structures as a person draws them: whole regions of one value each."""
    label = np.zeros(SHAPE, np.uint8)
    for number, value in enumerate(values):
        label[3:12, 4 : 12 + number, 2 + 6 * number : 8 + 6 * number] = value
    return label


def pair(root, label, image=None, subject="a"):
    nifti(root / f"images/{subject}.nii.gz", intensities(0, SHAPE) if image is None else image)
    nifti(root / f"labels/{subject}.nii.gz", label)
    return scan("nifti-pairs", root)


def the_sentence(found):
    (problem,) = found.problems
    return str(problem)


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.float32, np.float64])
def test_whole_numbers_of_every_type_are_labels(tmp_path, kind):
    found = pair(tmp_path, blocks().astype(kind))
    assert found.problems == () and found.schema.label_values == {"0": 1, "1": 1, "2": 1}


def test_what_arithmetic_leaves_beside_a_whole_number_is_that_number(tmp_path):
    label = blocks((1, 2, 40)).astype(np.float32)
    step = np.spacing(label)
    for moved in (label + 3 * step * (label > 0), label - 3 * step * (label > 0), label / 3 * 3, label * 0.1 / 0.1):
        read, _ = read_label(nifti(tmp_path / "a.nii.gz", moved.astype(np.float32)))
        assert np.array_equal(read, label)


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (
            blocks() * np.float32(0.9999),
            "holds a mask that was scaled: the values are beside whole numbers (918 voxels not whole, such as 1.",
        ),
        (
            gaussian_filter(blocks((1,)).astype(np.float32), 1),
            "holds a mask that was interpolated or a map of probabilities (",
        ),
        (blocks().astype(np.int16) - 1, "holds negative values (7,722 voxels, down to -1); give the background 0"),
        (
            np.where(blocks() > 0, 1, -1024).astype(np.int16),
            "holds negative values (7,722 voxels, down to -1024);",
        ),
        (
            np.where(blocks() > 0, 40_000, 0).astype(np.int32),
            "holds values above 32767 (918 voxels, up to 40000); give the labels",
        ),
        (np.where(blocks() > 0, 1, np.nan), "7,722 voxels are NaN or infinite; export the segmentation as whole"),
        (np.where(blocks() > 0, 1, np.inf), "7,722 voxels are NaN or infinite"),
        (
            (intensities(3, SHAPE) * 10 - 2000).astype(np.int16),
            "; an image may be in the place of the label; give the background 0",
        ),
    ],
)
def test_what_is_not_a_label_is_named_as_what_it_is(tmp_path, label, words):
    sentence = the_sentence(pair(tmp_path, label))
    assert sentence.startswith("a: labels/a.nii.gz: ") and words in sentence
    assert "leave the subject out" in sentence


def test_a_mask_whose_integers_are_stored_with_a_scale_is_named(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    nifti(tmp_path / "images/a.nii.gz", intensities(0, SHAPE))
    image = nibabel.Nifti1Image(blocks((1, 2, 4)).astype(np.float32), AFFINE)
    image.set_data_dtype(np.int16)
    image.to_filename(tmp_path / "labels/a.nii.gz")
    stored = np.asarray(nibabel.load(tmp_path / "labels/a.nii.gz").dataobj)
    assert not (stored == np.rint(stored)).all()
    sentence = the_sentence(scan("nifti-pairs", tmp_path))
    assert "holds a mask that was scaled: its integers are stored with a scale" in sentence
    # What the remedy says, done.
    nifti(tmp_path / "labels/a.nii.gz", np.rint(stored).astype(np.uint8))
    assert scan("nifti-pairs", tmp_path).problems == ()


def test_a_label_that_is_the_image_itself_is_refused(tmp_path):
    image = np.clip(gaussian_filter(intensities(0, SHAPE), 2), 0, None).astype(np.int16)
    sentence = the_sentence(pair(tmp_path, image, image))
    assert sentence.startswith(
        "a: labels/a.nii.gz: is the image itself: equal to images/a.nii.gz voxel for voxel; put the segmentation in"
    )


def test_a_label_with_the_values_of_the_image_at_other_places_is_not_the_image(tmp_path):
    label = blocks()
    found = pair(tmp_path, label, label[::-1].astype(np.float32))
    assert found.errors == () and len(found.samples) == 1


def test_image_and_label_that_were_swapped_are_pointed_out(tmp_path):
    image = np.clip(intensities(0, SHAPE), 0, 4000).astype(np.int16)
    found = pair(tmp_path, image, blocks().astype(np.float32))
    (problem,) = found.problems
    assert problem.severity == "warning" and "changes its value at 9" in problem.cause
    assert "image and label may be swapped; put the segmentation in the label's place" in str(problem)


def test_many_values_that_nothing_names_are_pointed_out(tmp_path):
    smooth = np.broadcast_to(np.arange(20 * 24).reshape(20, 24, 1), SHAPE).astype(np.int16)
    problem = the_sentence(pair(tmp_path, np.ascontiguousarray(smooth)))
    assert "labels/a.nii.gz: has 479 values that nothing names, as an image does and a segmentation does not" in problem


def test_structures_of_many_values_are_not_pointed_out(tmp_path):
    parcels = np.kron(np.arange(8).reshape(2, 2, 2), np.ones((10, 12, 9), int)).astype(np.int32) * 1500
    assert pair(tmp_path, parcels).problems == ()


@given(st.lists(st.integers(1, 5), min_size=3, max_size=3), st.integers(0, 2**31), st.booleans())
def test_the_share_of_changes_is_that_of_all_pairs_counted_one_by_one(shape, seed, fortran):
    volume = np.random.default_rng(seed).integers(0, 3, shape).astype(np.int16)
    pairs = changed = 0
    for place in np.ndindex(*shape):
        for axis in range(3):
            beside = list(place)
            beside[axis] += 1
            if beside[axis] < shape[axis]:
                pairs += 1
                changed += int(volume[place] != volume[tuple(beside)])
    stored = np.asfortranarray(volume) if fortran else volume
    assert share_of_changes(stored) == (changed / pairs if pairs else 0.0)


def test_the_share_of_changes_of_a_volume_of_several_slabs_is_that_of_the_whole(monkeypatch):
    volume = np.random.default_rng(0).integers(0, 2, SHAPE).astype(np.int16, order="F")
    whole = share_of_changes(volume)
    for chunk in (1, 480, 480 * 7, 480 * 17):
        monkeypatch.setattr("archipel.data.volumes.label_volumes._CHUNK", chunk)
        assert share_of_changes(volume) == whole


@given(st.integers(1, 32_767), st.sampled_from([np.float32, np.float64]), st.floats(-0.5, 0.5))
def test_a_value_is_a_whole_number_or_refused(value, kind, off):
    """By the rule itself: within four steps of a 32-bit float, and nowhere else."""
    import tempfile
    from pathlib import Path

    stored = kind(value + off)
    with tempfile.TemporaryDirectory() as folder:
        path = nifti(Path(folder) / "a.nii", np.full((2, 2, 2), stored))
        near = abs(float(stored) - value) <= 4 * 2.0**-23 * max(1.0, float(stored))
        if near:
            assert (read_label(path)[0] == value).all()
        elif round(float(stored)) == value:
            with pytest.raises(BadInput, match="not whole"):
                read_label(path)


def test_each_file_that_was_swapped_is_pointed_out_alone(tmp_path):
    image, label = np.asarray(intensities(0, SHAPE)), blocks()
    for subject in "abcd":
        nifti(tmp_path / f"images/{subject}.nii.gz", label if subject == "c" else image)
        nifti(tmp_path / f"labels/{subject}.nii.gz", np.abs(image).astype(np.int16) if subject == "c" else label)
    found = scan("nifti-pairs", tmp_path)
    line = the_sentence(found)
    assert line.startswith("c: labels/c.nii.gz: ") and "images/c.nii.gz holds whole numbers from 0 to 2 only" in line
    assert "image and label may be swapped" in line


def test_a_mask_in_the_place_of_an_image_is_pointed_out(tmp_path):
    line = the_sentence(pair(tmp_path, blocks((1,)), blocks((1, 2, 3)).astype(np.float32)))
    assert line.startswith("a: images/a.nii.gz: holds whole numbers from 0 to 3 only, as a segmentation does")


def test_images_of_few_grey_values_are_images(tmp_path):
    noise = np.random.default_rng(0).integers(0, 8, SHAPE).astype(np.uint8)
    scaled = np.clip(np.random.default_rng(1).normal(0, 1, SHAPE), 0, 1).astype(np.float32)
    assert pair(tmp_path, blocks(), noise).problems == ()
    assert pair(tmp_path, blocks(), scaled, "b").problems == ()


def test_what_a_mapping_names_maps_or_drops_is_settled():
    issue = DataIssue(
        thing="a", cause="its label has values (2, 3)", remedy="name them: --label 2=NAME", label_values=(2, 3)
    )
    other = DataIssue(thing="b", cause="is damaged", remedy="fix it")
    assert still_open((issue, other), DataMapping()) == (issue, other)
    (half, _) = still_open((issue, other), DataMapping(label_names={"2": "tumour"}))
    assert half.cause == "its label has values (3)" and half.label_values == (3,)
    assert half.remedy == "name them: --label 3=NAME"
    for mapping in (
        DataMapping(labels={"2": 1, "3": 0}),
        DataMapping(label_names={"2": "tumour", "3": "vessel"}),
        DataMapping(drop_other_labels=True),
    ):
        assert still_open((issue, other), mapping) == (other,)
