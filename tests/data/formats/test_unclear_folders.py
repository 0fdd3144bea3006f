"""Folders that could be read in two ways: what the error asks, and that each of its answers works as it is typed."""

from __future__ import annotations

import re
import shlex
import time

import pytest
from made_volumes import intensities, nifti, segmentation

from archipel.data import scan
from archipel.data.formats import format_named, guessed, settled
from archipel.data.formats.name_words import look_like_ids
from archipel.data.formats.unclear_folders import why_no_layout
from archipel.vocabulary import BadInput


@pytest.fixture
def tmp_path(tmp_path):
    """Alone in its folder: what lies beside it is searched too, and beside a test's folder lie those of all tests."""
    alone = tmp_path / "alone"
    alone.mkdir()
    return alone


def planted(root, *places):
    for number, place in enumerate(places):
        nifti(root / f"{place}.nii.gz", intensities(number))
    return root


def asked(root, options=None):
    """The error of a folder, and the options of each of the ways that its remedy tells."""
    with pytest.raises(BadInput) as refused:
        guessed(root, options or {})
    ways = re.findall(r"--(?:format|image|layout) [^;]*?(?=;|,? or --image|,? if | --mask |$)(?: --mask '[^']*')?",
                      refused.value.remedy)  # fmt: skip
    return refused.value, [typed(shlex.split(way)) for way in ways]


def typed(words):
    """Format and options as the command line makes them of these words."""
    name, options = "layout", {}
    for option, text in zip(words[::2], words[1::2], strict=True):
        if option == "--format":
            name = text
        elif option == "--option":
            options |= dict([text.split("=", 1)])
        else:
            options[{"--mask": "label"}.get(option, option.removeprefix("--"))] = text
    return name, options


def added(root, way):
    name, options = way
    return scan(name, root, settled(name, root, options))


@pytest.mark.parametrize("inside", ["", "/T1"])
def test_equal_names_in_two_folders_are_never_one_patients_images(tmp_path, inside):
    """AD/001 and CN/001 were a patient AD with an image 001."""
    places = [f"{group}/{number:03}{inside}" for group in ("AD", "CN") for number in range(1, 5)]
    root = planted(tmp_path / "d", *places)
    error, ways = asked(root)
    assert error.cause == (
        "holds the names 001, 002, 003 and 1 more in each of the folders AD, CN, so that it is not clear whose they are"
    )
    assert ways[0] == ("nifti-groups", {"names": "per-folder"})
    found = added(root, ways[0])
    assert found.errors == () and found.subjects == 8
    assert {sample.subject: sample.values["group"] for sample in found.samples}["CN_003"] == "CN"


def test_each_answer_for_equal_names_works(tmp_path):
    root = planted(tmp_path / "d", *(f"{folder}/p{number}" for folder in ("x", "y") for number in (1, 2, 3)))
    for number in (1, 2, 3):
        nifti(root / f"y/p{number}.nii.gz", segmentation(number))
    _, ways = asked(root)
    found = [added(root, way) for way in ways]
    assert [one.errors for one in found] == [()] * 4
    groups, pairs, modalities, patients = found
    assert groups.subjects == 6 and pairs.subjects == 3 and pairs.schema.label_values
    assert modalities.schema.modalities == {"x": 3, "y": 3}
    assert patients.subjects == 2 and set(patients.schema.modalities) == {"p1", "p2", "p3"}


@pytest.mark.parametrize(
    ("names", "are_ids"),
    [
        (["001", "002"], True),
        (["p1_T1", "p2_T1"], True),
        (["IXI012-Guys", "IXI013-Guys"], True),
        (["T1", "T2"], False),
        (["T1w_brain", "T2w_brain"], False),
        (["echo-1", "echo-2"], False),
        (["flair", "t1"], False),
        (["001"], False),
    ],
)
def test_ids_differ_in_numbers_that_are_not_those_of_one_patients_images(names, are_ids):
    assert look_like_ids(names) == are_ids


def test_folders_of_modalities_are_not_patients(tmp_path):
    root = planted(tmp_path, *(f"{kind}/p{number}" for kind in ("CT", "PET") for number in (1, 2)))
    (fit, *_) = guessed(root, {})
    found = scan(fit.format, root, settled(fit.format, root, {}))
    assert [sample.subject for sample in found.samples] == ["p1", "p2"]
    assert found.schema.modalities == {"CT": 2, "PET": 2}


def test_a_name_that_is_the_beginning_of_another_may_be_its_label(tmp_path):
    """p1_0000 and p1 in one folder were eight patients without labels."""
    for number in (1, 2, 3):
        nifti(tmp_path / f"p{number}_0000.nii.gz", intensities(number))
        nifti(tmp_path / f"p{number}.nii.gz", segmentation(number))
    error, ways = asked(tmp_path)
    assert error.cause.startswith("holds names that are others with 0000 at their end")
    found = added(tmp_path, ways[1])
    assert found.errors == () and found.subjects == 3 and set(found.schema.label_values) == {"0", "1", "2"}


def test_names_with_numbers_at_their_end_are_visits(tmp_path):
    assert guessed(planted(tmp_path, "p1", "p1_2", "p2", "p2_2"), {})[0].format == "layout"


def test_a_layout_that_explains_all_but_a_few_volumes_is_named_with_them(tmp_path):
    """As BraTS 2020 has one mask under another name."""
    names = [f"B_{number}" for number in range(1, 5)]
    root = planted(tmp_path / "d", *(f"{name}/{name}_t1" for name in names))
    for name in names[:3]:
        nifti(root / f"{name}/{name}_seg.nii.gz", segmentation(1))
    nifti(root / "B_4/W39_Segm.nii.gz", segmentation(1))
    error, ways = asked(root)
    assert error.cause.endswith(", but for 1 volume (B_4/W39_Segm.nii.gz)")
    found = added(root, ways[0])
    assert [problem.subject for problem in found.errors] == ["B_4"]
    assert found.subjects == 3 and "W39_Segm" in str(found.problems)


def test_an_example_is_made_of_the_names_that_are_there(tmp_path):
    for number in (1, 2, 3):
        for name in ("T1", "brain", "norm"):
            nifti(tmp_path / f"sub{number}/mri/{name}.nii.gz", intensities(number))
        for name in ("aseg", "aparc+aseg"):
            nifti(tmp_path / f"sub{number}/mri/{name}.nii.gz", segmentation(number))
    error, ways = asked(tmp_path)
    assert error.remedy.endswith("--image '{subject}/mri/T1' --mask '{subject}/mri/aseg'")
    found = added(tmp_path, ways[0])
    assert found.errors == () and found.subjects == 3


def test_folders_with_one_layout_each_can_be_one_dataset(tmp_path):
    for part in ("north", "south"):
        for number in (1, 2):
            nifti(tmp_path / f"{part}/images/{part}{number}.nii.gz", intensities(number))
            nifti(tmp_path / f"{part}/labels/{part}{number}.nii.gz", segmentation(number))
    error, ways = asked(tmp_path)
    assert "holds 2 folders that look like a dataset each" in error.cause
    found = added(tmp_path, ways[0])
    assert found.errors == () and found.subjects == 4
    assert {sample.values["part"] for sample in found.samples} == {"north", "south"}


def test_a_table_beside_volumes_that_nothing_explains_is_not_the_dataset(tmp_path):
    """The volumes were left out without a word, and the table became the dataset."""
    root = planted(tmp_path / "d", "x/y/z/a", "b", "c/d/e/f")
    (root / "table.csv").write_text("id,age\na,3\nb,4\n")
    error, _ = asked(root)
    assert "3 volumes" in error.cause and error.remedy.endswith("if the table alone is the dataset, --format table")
    assert guessed(root, {"file": "table.csv"})[0].format == "table"


def test_a_table_beside_dicom_files_is_not_the_dataset(tmp_path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans/1.dcm").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "labels.csv").write_text("patientId,Target\n1,0\n2,1\n")
    error, _ = asked(tmp_path)
    assert "holds 1 DICOM file" in error.cause and "dcm2niix" in error.remedy and "--format table" in error.remedy


def test_one_of_two_tables_that_name_pictures_is_asked_for(tmp_path):
    from PIL import Image

    for number in (1, 2):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.new("L", (6, 5), number).save(tmp_path / f"images/I{number}.png")
    for name in ("labels", "metadata"):
        (tmp_path / f"{name}.csv").write_text(f"image,{name}\nI1,1\nI2,0\n")
    error, ways = asked(tmp_path)
    assert error.cause == "holds pictures and 2 tables that name them (labels.csv, metadata.csv)"
    assert ways[0] == ("picture-table", {"table": "labels.csv"})
    assert added(tmp_path, ways[0]).errors == ()


def test_per_folder_is_the_only_value_of_names(tmp_path):
    planted(tmp_path, "AD/001", "CN/001")
    with pytest.raises(BadInput, match="option names=each: is not valid; give names=per-folder"):
        scan("nifti-groups", tmp_path, {"names": "each"})


def test_the_part_of_a_modality_in_a_patients_folder_stays_with_names_per_folder(tmp_path):
    planted(tmp_path, "AD/001/001_T1", "AD/001/001_T2", "CN/001/001_T1", "CN/001/001_T2")
    found = scan("nifti-groups", tmp_path, {"names": "per-folder"})
    assert found.errors == () and found.schema.modalities == {"T1": 2, "T2": 2}
    (first, *_) = format_named("nifti-groups").read(tmp_path, found.samples, {"names": "per-folder"})
    assert set(first.images) == {"T1", "T2"}


@pytest.mark.parametrize("sign", ["_", "-", "."])
def test_the_sign_before_an_ending_is_the_one_that_the_names_have(tmp_path, sign):
    root = planted(tmp_path, *(f"IXI00{number}{sign}{kind}" for number in (1, 2, 3) for kind in ("T1", "T2")))
    _, ways = asked(root)
    assert ways[0] == ("layout", {"image": f"{{subject}}{sign}{{modality}}"})
    found = added(root, ways[0])
    assert found.errors == () and found.schema.modalities == {"T1": 3, "T2": 3}


def test_few_names_are_compared_and_all_that_a_layout_does_not_explain_are_counted():
    """100,000 volumes are no reason to try each layout on every one of them; the time is for 10,000."""
    places = [f"{folder}/p{number}.nii.gz" for folder in ("images", "labels") for number in range(5_000)]
    strange = [f"old/x{number}.nii.gz" for number in range(3)]
    started = time.process_time()
    cause, remedy = why_no_layout([*places, *strange])
    assert "but for 3 volumes (old/x0.nii.gz, old/x1.nii.gz, old/x2.nii.gz)" in cause
    assert "--layout images-and-labels" in remedy
    assert time.process_time() - started < 2.5


@pytest.mark.parametrize(
    ("places", "example"),
    [
        (("00{}_S_02/MPR/200{}-04/I{}/x_{}",), "--image '{subject}/{*}/{*}/{*}/{*}'"),
        (
            ("part{}/volume-{}", "segs/segmentation-{}"),
            "--image '{*}/volume-{subject}' --mask 'segs/segmentation-{subject}'",
        ),
        (("p{}/T1", "p{}/brain_mask", "p{}/lesion_seg"), "--image '{subject}/T1' --mask '{subject}/brain_mask'"),
    ],
)
def test_an_example_reads_every_patient(tmp_path, places, example):
    for number in range(1, 5):
        for place in places:
            drawn = "seg" in place or "mask" in place
            values = segmentation(number) if drawn else intensities(number)
            nifti(tmp_path / f"{place.replace('{}', str(number))}.nii.gz", values)
    error, ways = asked(tmp_path)
    assert error.remedy.endswith(f"for example {example}")
    found = added(tmp_path, ways[0])
    assert found.errors == () and found.subjects == 4
