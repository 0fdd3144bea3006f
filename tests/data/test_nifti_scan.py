from __future__ import annotations

import numpy as np
import pytest

from archipel.data import Cohort, RawSource, format_named, scan, split, verify
from archipel.data.limits import DataLimits
from archipel.vocabulary import BadInput, DataNeeds, ErrorCode
from worlds.data_files import write_pair, write_pairs, write_volume

KIND = "nifti-pairs"


def the_problem(root):
    found = scan(KIND, root)
    assert len(found.problems) == 1, found.problems
    problem = str(found.problems[0])
    assert ": " in problem and "; " in problem, "a problem is one sentence thing: cause; remedy"
    return problem


def test_a_sound_dataset_has_no_problem_and_a_schema_without_voxels(tmp_path):
    found = scan(KIND, write_pairs(tmp_path))
    assert found.problems == ()
    assert [sample.subject for sample in found.samples] == ["sub-00", "sub-01", "sub-02"]
    assert found.schema.subjects == 3
    assert found.schema.shape_largest == (6, 7, 8)
    assert found.schema.label_values == {"0": 3, "1": 3, "2": 3}


def test_a_channel_suffix_on_images_is_tolerated(tmp_path):
    write_pairs(tmp_path, 1)
    (tmp_path / "images/sub-00.nii.gz").rename(tmp_path / "images/sub-00_0000.nii.gz")
    found = scan(KIND, tmp_path)
    assert found.problems == () and found.samples[0].files["image"] == "images/sub-00_0000.nii.gz"


def test_hidden_files_of_an_archive_are_ignored(tmp_path):
    write_pairs(tmp_path, 1)
    (tmp_path / "images/._sub-00.nii.gz").write_bytes(b"resource fork")
    assert scan(KIND, tmp_path).problems == ()


def test_shapes_that_differ_are_named(tmp_path):
    write_pairs(tmp_path, 1)
    write_volume(tmp_path / "labels/sub-00.nii.gz", np.zeros((6, 7, 9), np.uint8))
    assert the_problem(tmp_path).startswith("sub-00: the image has shape [6, 7, 8] and the label [6, 7, 9];")


def test_affines_that_differ_are_named_and_rounding_is_not(tmp_path):
    write_pairs(tmp_path, 1)
    labels = np.zeros((6, 7, 8), np.uint8)
    labels[2] = 1
    affine = np.eye(4)
    affine[0, 3] = 0.09
    write_volume(tmp_path / "labels/sub-00.nii.gz", labels, affine)
    assert scan(KIND, tmp_path).problems == ()
    affine[0, 3] = 0.2
    write_volume(tmp_path / "labels/sub-00.nii.gz", labels, affine)
    assert "sub-00: the grids of image and label are up to 0.2 mm apart at their corners" in the_problem(tmp_path)


def test_an_image_without_label_and_a_label_without_image_are_named(tmp_path):
    write_pairs(tmp_path, 2)
    (tmp_path / "labels/sub-00.nii.gz").unlink()
    (tmp_path / "images/sub-01.nii.gz").unlink()
    first, second = map(str, scan(KIND, tmp_path).problems)
    assert first.startswith("sub-00: no label beside the image (looked for labels/sub-00.nii.gz);")
    assert second.startswith("sub-01: no image for the label (looked for images/sub-01.nii.gz);")


@pytest.mark.parametrize("kept", [0, 5, 40, 0.5, 0.95])
def test_a_truncated_volume_is_named(tmp_path, kept):
    write_pairs(tmp_path, 1)
    path = tmp_path / "images/sub-00.nii.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    assert the_problem(tmp_path).startswith("sub-00: images/sub-00.nii.gz: cannot be read to its end")


def test_nan_voxels_are_counted(tmp_path):
    write_pairs(tmp_path, 1)
    values = np.ones((6, 7, 8), np.float32)
    values[0, 0, :2] = np.nan, np.inf
    write_volume(tmp_path / "images/sub-00.nii.gz", values)
    assert "images/sub-00.nii.gz: 2 voxels are NaN or infinite;" in the_problem(tmp_path)


def test_labels_that_are_no_whole_numbers_are_named(tmp_path):
    write_pairs(tmp_path, 1)
    write_volume(tmp_path / "labels/sub-00.nii.gz", np.full((6, 7, 8), 0.5, np.float32))
    assert "holds a mask that was interpolated or a map of probabilities (336 voxels not whole" in the_problem(tmp_path)


def test_a_fourth_dimension_is_named(tmp_path):
    write_pairs(tmp_path, 1)
    write_volume(tmp_path / "images/sub-00.nii.gz", np.ones((6, 7, 8, 2), np.float32))
    assert "has 4 dimensions [6, 7, 8, 2]" in the_problem(tmp_path)


def test_two_files_of_one_subject_are_named(tmp_path):
    write_pairs(tmp_path, 1)
    write_volume(tmp_path / "images/sub-00_0000.nii.gz", np.ones((6, 7, 8), np.float32))
    assert "sub-00: two files in images/" in the_problem(tmp_path)


def test_a_link_out_of_the_dataset_is_refused(tmp_path):
    write_pairs(tmp_path / "other", 1)
    write_pairs(tmp_path / "site", 1)
    path = tmp_path / "site/images/sub-01.nii.gz"
    path.symlink_to(tmp_path / "other/images/sub-00.nii.gz")
    assert str(scan(KIND, tmp_path / "site").problems[0]).startswith(
        "images/sub-01.nii.gz: is a link to a place outside the dataset;"
    )


def test_an_empty_site_is_named(tmp_path):
    assert "no image found (looked in images/*.nii.gz)" in the_problem(tmp_path)
    with pytest.raises(BadInput, match="is not a folder"):
        scan(KIND, tmp_path / "nowhere")


def test_all_problems_are_reported_and_sound_subjects_still_counted(tmp_path):
    write_pairs(tmp_path, 4)
    (tmp_path / "labels/sub-00.nii.gz").unlink()
    (tmp_path / "images/sub-01.nii.gz").write_bytes(b"\x1f\x8b")
    write_volume(tmp_path / "images/sub-02.nii.gz", np.full((6, 7, 8), np.nan, np.float32))
    found = scan(KIND, tmp_path)
    assert len(found.problems) == 3
    assert [sample.subject for sample in found.samples] == ["sub-03"]


def test_a_changed_or_removed_file_is_named_before_training(tmp_path):
    found = scan(KIND, write_pairs(tmp_path))
    cohort = Cohort(dataset="brains", format=KIND, samples=found.samples)
    verify(tmp_path, cohort)
    write_pair(tmp_path, "sub-01", seed=9)
    with pytest.raises(BadInput, match=r"images/sub-01\.nii\.gz: has other content") as caught:
        verify(tmp_path, cohort)
    assert caught.value.code is ErrorCode.DATA_CHANGED
    (tmp_path / "images/sub-00.nii.gz").unlink()
    with pytest.raises(BadInput, match=r"images/sub-00\.nii\.gz: is missing"):
        verify(tmp_path, cohort)


def test_a_pair_loads_with_its_grid(tmp_path):
    found = scan(KIND, write_pairs(tmp_path, 1))
    (reading,) = format_named(KIND).read(tmp_path, found.samples, {})
    image, label, affine = reading.images["image"], reading.label, reading.affine
    assert (image.dtype, image.shape) == (np.float32, (6, 7, 8))
    assert label is not None and label.dtype == np.int16
    assert np.array_equal(affine, np.eye(4))


def test_the_split_loads_each_side_in_the_order_of_ids(tmp_path):
    found = scan(KIND, write_pairs(tmp_path, 6))
    cohort = Cohort(dataset="brains", format=KIND, samples=found.samples[::-1])
    training, validation = split(RawSource(tmp_path, cohort), cohort, 0.4, DataNeeds(kind="volumes"))
    assert sorted([*training.ids, *validation.ids]) == [f"sub-{n:02}" for n in range(6)]
    assert list(training.ids) == sorted(training.ids)
    assert [volume.id for volume in training.volumes()] == list(training.ids)


def test_a_volume_that_would_fill_the_memory_is_named_before_it_is_unpacked(tmp_path):
    write_pairs(tmp_path, 1)
    few = DataLimits(volume_bytes=1000)
    assert "images/sub-00.nii.gz: would take 0 MiB in memory" in str(scan(KIND, tmp_path, limits=few).problems[0])
