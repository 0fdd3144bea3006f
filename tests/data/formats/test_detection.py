"""What a folder looks like, told from names alone."""

from __future__ import annotations

import os

import numpy as np
import pytest
from made_volumes import intensities, nifti, segmentation
from PIL import Image

from archipel.data import Folder, scan
from archipel.data.formats import detect, guessed, settled
from archipel.vocabulary import BadInput
from opened_files import opens_under
from real_data import real_data


@pytest.fixture
def tmp_path(tmp_path):
    """A folder with nothing beside it: detection looks around, and beside pytest's own lie those of other tests."""
    alone = tmp_path / "alone" / "data"
    alone.mkdir(parents=True)
    return alone


def names(root):
    return [fit.format for fit in detect(root)]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (("msd_hippocampus", "site-a"), ["nifti-pairs"]),
        (("ixi_t1_2mm",), ["layout", "nifti-pairs"]),
        (("bids_spine",), ["bids"]),
        (("nrrd_tumour",), ["nrrd"]),
    ],
)
def test_real_folders_are_known_for_what_they_are(parts, expected):
    assert names(real_data(*parts)) == expected


@pytest.mark.parametrize("places", [
    ("images/a.nii.gz", "images/b.nii.gz", "labels/a.nii.gz", "labels/b.nii.gz"),
    ("normal/a.png", "normal/b.png", "tumour/c.png", "tumour/p/d.png"),
    ("notes.txt", "a/b/c/d.txt"),
])  # fmt: skip
def test_each_folder_is_listed_once_for_all_formats(tmp_path, monkeypatch, places):
    for place in places:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    listed, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(str(path)) or scandir(path))
    detect(tmp_path)
    folders = {str((tmp_path / place).parent) for place in places} | {str(tmp_path)}
    assert folders <= set(listed) and len(listed) == len(set(listed))


def test_files_come_level_by_level_and_in_order(tmp_path):
    places = ["b.txt", "c.txt", "a/d.txt", "a/e.txt", "b/a.txt", "a/b/a.txt", "a/b/c/a.txt"]
    for place in places:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    (tmp_path / "a/.hidden").touch()
    (tmp_path / "b/gone.txt").symlink_to("nowhere")
    problems = []
    assert list(Folder(tmp_path).files_down_to(3, problems)) == places[:-1]
    assert [(one.thing, one.cause) for one in problems] == [("b/gone.txt", "is a link to a file that does not exist")]


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


def planted(root, *places):
    for number, place in enumerate(places):
        nifti(root / f"{place}.nii.gz", intensities(number))
    return root


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        # Groups: subjects of their own in each.
        (("control/c1", "control/c2", "disease/d1"), "nifti-groups"),
        (("control/control_01", "control/control_02", "disease/disease_01"), "nifti-groups"),
        (("control/c1/T1", "control/c2/T1", "disease/d1/T1"), "nifti-groups"),
        # A folder of masks is not a group, nor is a patient or a part.
        (("img/img0001", "img/img0002", "label/label0001", "label/label0002"), "layout"),
        (("ct/p1", "ct/p2", "masks/p1", "masks/p2"), "layout"),
        (("P01/P01_T1", "P01/P01_T2", "P02/P02_T1", "P02/P02_T2"), "layout"),
        (("P01/T1", "P01/T2", "P02/T1", "P02/T2"), "layout"),
        (("train/a", "train/b", "val/c"), "layout"),
        (("BraTS_1/BraTS_1_t1", "BraTS_1/BraTS_1_seg", "BraTS_2/BraTS_2_t1", "BraTS_2/BraTS_2_seg"), "layout"),
        # A folder of each modality, in a folder of each subject; masks among them are labels.
        (("a/T1/x", "a/T2/x", "b/T1/x", "b/T2/x"), "medical-folder"),
        (("a/T1/x", "a/seg/x", "b/T1/x", "b/seg/x"), "layout"),
        (("images/a/T1", "images/b/T1", "labels/a/seg", "labels/b/seg"), "layout"),
        # Pairs under one name, and pairs that are not.
        (("images/a", "images/b", "labels/a", "labels/b"), "nifti-pairs"),
        (("images/a_0000", "images/b_0000", "labels/a", "labels/b"), "nifti-pairs"),
        (("images/a_ct", "images/b_ct", "labels/a_seg", "labels/b_seg"), "layout"),
        (("images/a", "images/b", "images/c", "labels/a", "labels/b", "labels/c", "old/x"), "nifti-pairs"),
    ],
)
def test_a_folder_is_taken_for_what_explains_all_of_it(tmp_path, places, expected):
    assert names(planted(tmp_path, *places))[0] == expected


@pytest.mark.parametrize(
    "places",
    [
        ("a/T1", "a/T2", "b/T1", "b/T2", "b/old/T1"),
        ("control/c1", "disease/d1", "masks/c1"),
        ("a_T1", "a_T2", "b_T1", "b_T2"),
        ("x/y/z/w/a", "b"),
        ("x/y/z/a", "b", "c/d/e/f"),
    ],
)
def test_a_folder_that_nothing_explains_is_not_guessed(tmp_path, places):
    with pytest.raises(BadInput) as refused:
        guessed(planted(tmp_path, *places), {})
    assert "--image '" in refused.value.remedy


def test_a_part_of_a_dataset_is_not_taken_for_images_alone(tmp_path):
    root = planted(tmp_path / "d", "images/a", "images/b", "labels/a", "labels/b")
    for part in ("images", "labels"):
        with pytest.raises(BadInput, match="looks like a part of a dataset"):
            guessed(root / part, {})


@pytest.mark.parametrize(
    ("name", "content", "cause", "remedy"),
    [
        ("s/1.dcm", b"x", "holds 1 DICOM file (s/1.dcm), which no format reads", "dcm2niix -z y -o OUT"),
        ("s/IM0001", bytes(128) + b"DICM", "holds 1 DICOM file (s/IM0001), which no format reads", "dcm2niix"),
        ("a.h5", b"x", "holds 1 HDF5 file (a.h5), which no format reads", "numpy.savez"),
        ("a.npy", b"x", "holds 1 NumPy array (a.npy), which no format reads", "numpy.savez"),
        ("a.zip", b"x", "holds 1 archive (a.zip), which no format reads", "unpack it"),
        ("a.csv.txt", b"version https://git-lfs.github.com/spec/v1\n", "holds pointers of Git LFS", "lfs pull"),
        ("notes.txt", b"x", "does not look like a known format", "--format"),
    ],
)
def test_what_is_not_read_is_named_with_the_way_out(tmp_path, name, content, cause, remedy):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput) as refused:
        guessed(tmp_path, {})
    assert refused.value.cause.startswith(cause) and remedy in refused.value.remedy


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha", ".mgz"])
def test_a_pointer_of_git_lfs_is_named_in_the_place_of_a_volume(tmp_path, ending):
    (tmp_path / f"a{ending}").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    (said,) = scan("layout", tmp_path, {"image": "{subject}"}).errors
    assert "is a pointer of Git LFS" in said.cause and "git lfs pull" in said.remedy


def test_a_table_in_a_form_that_is_not_read_is_named_by_the_format_table(tmp_path):
    (tmp_path / "a.sav").write_bytes(b"x")
    assert [fit.format for fit in detect(tmp_path)] == ["table"]
    (problem,) = scan("table", tmp_path).errors
    assert "a.sav" in str(problem) and "SPSS" in str(problem) and "CSV" in problem.remedy


def save_picture(path, value=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 5), value, np.uint8)).save(path)


@pytest.mark.parametrize(
    ("picture", "mask"),
    [("images/p{}.png", "masks/p{}.png"), ("image/p{}.jpg", "mask/p{}_mask.png"), ("p{}.png", "p{}_mask.png"),
     ("p{}.jpg", "p{}_segmentation.png"), ("train/images/p{}.png", "train/labels/p{}.png")],
)  # fmt: skip
def test_pictures_and_their_masks_are_named_as_such_and_the_way_out_works(tmp_path, picture, mask):
    for number in range(3):
        save_picture(tmp_path / "data" / picture.format(number), number)
        save_picture(tmp_path / "data" / mask.format(number), 255)
    with pytest.raises(BadInput) as raised:
        guessed(tmp_path / "data", {})
    assert raised.value.cause == (
        f"holds pictures and their masks ({picture.format(0)} and {mask.format(0)}), which no format reads"
    )
    assert "as a NIfTI volume of one slice, in images/ and labels/ under one name" in raised.value.remedy
    for number in range(3):
        for part, place in (("images", picture), ("labels", mask)):
            pixels = np.asarray(Image.open(tmp_path / "data" / place.format(number)))
            nifti(tmp_path / f"out/{part}/p{number}.nii.gz", pixels[..., None])
    assert guessed(tmp_path / "out", {})[0].format == "nifti-pairs"
    assert len(scan("nifti-pairs", tmp_path / "out").samples) == 3


def test_pictures_without_a_class_are_named_as_such(tmp_path):
    save_picture(tmp_path / "p1.png")
    with pytest.raises(BadInput, match=r"holds 1 picture \(p1.png\) without a class: no folder and no table says it"):
        guessed(tmp_path, {})


def test_a_text_that_is_a_table_is_proposed_and_the_option_reads_it(tmp_path):
    (tmp_path / "README.txt").write_text("A cohort of the clinic.\n")
    (tmp_path / "cohort.txt").write_text("patient_id\tage\np1\t40\np2\t41\n")
    with pytest.raises(BadInput) as raised:
        guessed(tmp_path, {})
    assert raised.value.cause == "holds a text that may be a table (cohort.txt: columns patient_id, age)"
    assert raised.value.remedy == "if it is the dataset's table: --option file=cohort.txt"
    options = {"file": "cohort.txt"}
    assert guessed(tmp_path, options)[0].format == "table"
    assert len(scan("table", tmp_path, options).samples) == 2


def test_dicom_in_folders_keeps_its_folders(tmp_path):
    for name in ("ill", "normal"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0001").write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 64)
    with pytest.raises(BadInput) as raised:
        guessed(tmp_path, {})
    assert "holds 2 DICOM files (ill/0001), which no format reads, in the folders ill, normal" in raised.value.cause
    assert f"mkdir -p OUT/ill && dcm2niix -z y -o OUT/ill {tmp_path}/ill" in raised.value.remedy


@pytest.mark.parametrize(
    ("places", "words"),
    [(["normal/a.png", "normal/b.png"], "in one folder, normal"),
     ([f"patient{number:02}/{view}.png" for number in range(9) for view in "ab"], "as patients do")],
)  # fmt: skip
def test_pictures_in_one_folder_or_in_patients_folders_have_a_way_out_that_works(tmp_path, places, words):
    for place in places:
        save_picture(tmp_path / place, len(place))
    with pytest.raises(BadInput) as raised:
        guessed(tmp_path, {})
    assert words in raised.value.cause and "--format class-folders" in raised.value.remedy
    assert scan("class-folders", tmp_path, {"names": "per-folder"}).samples


def test_what_lies_beside_volumes_and_is_not_read_is_said(tmp_path):
    nifti(tmp_path / "images/a.nii.gz", intensities(0))
    nifti(tmp_path / "labels/a.nii.gz", segmentation(0))
    (tmp_path / "images/b.dcm").write_bytes(b"x")
    (said,) = scan("nifti-pairs", tmp_path).problems
    assert said.severity == "warning" and "holds 1 DICOM file beside the volumes (images/b.dcm)" in said.cause
    assert scan("nifti-pairs", tmp_path, leaves_out="b".__eq__).problems == ()


@pytest.mark.parametrize(
    ("images", "labels", "name"), [("images", "labels", "nifti-pairs"), ("imagesTr", "labelsTr", "msd")]
)
def test_volumes_in_other_folders_are_said(tmp_path, images, labels, name):
    for folder in (images, "imagesVa"):
        nifti(tmp_path / f"{folder}/a.nii.gz", intensities(0))
    nifti(tmp_path / f"{labels}/a.nii.gz", segmentation(0))
    nifti(tmp_path / "imagesTs/z.nii.gz" if name == "msd" else tmp_path / f"{images}/z.nii.gz", intensities(0))
    (tmp_path / "dataset.json").write_text('{"modality": {"0": "CT"}, "labels": {"0": "background"}}')
    (said,) = [one for one in scan(name, tmp_path).problems if "other folders" in one.cause]
    assert "holds 1 volume in other folders (imagesVa/a.nii.gz), which are not read" in said.cause


def test_a_table_of_the_subjects_that_a_format_does_not_read_is_said(tmp_path):
    nifti(tmp_path / "images/a.nii.gz", intensities(0))
    nifti(tmp_path / "labels/a.nii.gz", segmentation(0))
    (tmp_path / "ages.csv").write_text("id,age\na,3\n")
    (tmp_path / "about.csv").write_text("sites\n4\n")
    (said,) = scan("nifti-pairs", tmp_path).problems
    assert "ages.csv beside the volumes is not read" in said.cause and said.remedy.endswith("--format layout")
    options = settled("layout", tmp_path, {"table": "ages.csv"})
    assert scan("layout", tmp_path, options).samples[0].values == {"age": 3}
