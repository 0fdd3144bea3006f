"""Pictures in folders, one folder per class."""

from __future__ import annotations

import re

import numpy as np
import pytest
from conformance import SUBJECTS, Conformance, Expected
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from archipel.data import scan
from archipel.data.formats import detect, format_named
from archipel.data.formats.name_patterns import found_in
from archipel.data.limits import DATA_LIMITS, DataLimits
from archipel.vocabulary import BadInput
from worlds.examples import examples


def pixels(seed, shape=(6, 5)):
    return np.random.default_rng([*seed.encode()]).integers(0, 256, shape, np.uint8)


def picture(root, place, values=None):
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(place) if values is None else values).save(path)


class TestClassFolders(Conformance):
    format = "class-folders"

    def classes(self, subjects):
        return {subject: "ill" if number % 2 else "healthy" for number, subject in enumerate(subjects)}

    def write(self, root, subjects=SUBJECTS):
        expected = {}
        for subject, name in self.classes(subjects).items():
            picture(root, f"{name}/{subject}.png", pixels(subject))
            expected[subject, ""] = Expected(arrays={"x": pixels(subject)}, values={"class": name})
        return expected

    def change(self, root):
        picture(root, "ill/sub-02.png", pixels("another"))
        return "ill/sub-02.png"

    def remove(self, root):
        (root / "healthy/sub-03.png").unlink()
        return "healthy/sub-03.png"

    def repeat(self, root):
        picture(root, "ill/sub-01.png", pixels("other"))
        return "sub-01: is there 2 times (healthy/sub-01.png, ill/sub-01.png)"


class TestEyesOfPatients(TestClassFolders):
    """A patient has several pictures, found by a pattern."""

    options = {"subject": "^(.+)_", "size": "5x6"}
    free_ids = False

    def write(self, root, subjects=SUBJECTS):
        expected = {}
        for subject, eye in [*((subject, "left") for subject in subjects), (subjects[0], "right")]:
            name = self.classes(subjects)[subject]
            picture(root, f"{name}/{subject}_{eye}.png", pixels(subject + eye))
            arrays = {"x": pixels(subject + eye)}
            expected[subject, f"{subject}_{eye}"] = Expected(arrays=arrays, values={"class": name})
        return expected

    def change(self, root):
        picture(root, "ill/sub-02_left.png", pixels("another"))
        return "ill/sub-02_left.png"

    def remove(self, root):
        (root / "healthy/sub-01_right.png").unlink()
        return "healthy/sub-01_right.png"

    def repeat(self, root):
        picture(root, "ill/sub-01_left.png", pixels("other"))
        return "sub-01: is there 2 times (healthy/sub-01_left.png, ill/sub-01_left.png)"


class TestFoldersOfPatients(TestClassFolders):
    """A patient has a folder with several pictures, below train and val."""

    free_ids = False

    def folder(self, subject, subjects=SUBJECTS):
        number = list(subjects).index(subject)
        return f"{'val' if number == 2 else 'train'}/{self.classes(subjects)[subject]}/{subject}"

    def write(self, root, subjects=SUBJECTS):
        expected = {}
        for subject in subjects:
            for view in ("1", "2"):
                picture(root, f"{self.folder(subject, subjects)}/{view}.png", pixels(subject + view))
                values = {"class": self.classes(subjects)[subject]}
                expected[subject, view] = Expected(arrays={"x": pixels(subject + view)}, values=values)
        return expected

    def change(self, root):
        picture(root, "train/ill/sub-02/1.png", pixels("another"))
        return "train/ill/sub-02/1.png"

    def remove(self, root):
        (root / "val/healthy/sub-03/2.png").unlink()
        return "val/healthy/sub-03/2.png"

    def repeat(self, root):
        picture(root, "val/healthy/sub-01/1.png", pixels("other"))
        return "sub-01: is there 2 times (train/healthy/sub-01/1.png, val/healthy/sub-01/1.png)"


def problems(root, **options):
    return [str(problem) for problem in scan("class-folders", root, options).problems]


@pytest.fixture
def root(tmp_path):
    for place in ("a/1.png", "a/2.png", "b/3.png", "b/4.png"):
        picture(tmp_path, place)
    return tmp_path


def test_a_damaged_picture_is_a_line_and_the_others_are_used(root):
    whole = (root / "a/1.png").read_bytes()
    (root / "a/1.png").write_bytes(whole[: len(whole) // 2])
    (root / "b/3.png").write_bytes(b"<html>log in</html>")
    found = scan("class-folders", root)
    assert [str(one).split(" (")[0] for one in found.problems] == [
        "a/1.png: is not a picture, or a damaged one",
        "b/3.png: is a web page or another text",
    ]
    assert [sample.subject for sample in found.samples] == ["2", "4"]


def test_the_same_pixels_in_two_classes_are_pointed_out(root):
    picture(root, "b/5.tif", pixels("a/1.png"))
    (warning,) = scan("class-folders", root).problems
    assert warning.severity == "warning"
    assert str(warning).startswith("a/1.png: has the same pixels as b/5.tif, in another class;")


def test_pictures_of_another_size_are_named_until_a_size_is_said(root):
    picture(root, "b/5.png", pixels("large", (12, 10)))
    (line,) = problems(root)
    assert line == (
        "b/5.png: has pixels uint8 [12, 10], most have uint8 [6, 5]; resize all pictures with --option size=5x6 "
        "(or another size), or leave it out"
    )
    found = scan("class-folders", root, {"size": "3x4"})
    assert found.problems == () and found.schema.arrays["x"] == "uint8 [4, 3]"
    shapes = {one.arrays["x"].shape for one in format_named("class-folders").read(root, found.samples, {"size": "3x4"})}
    assert shapes == {(4, 3)}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": "big"}, "option size=big: is not valid"),
        ({"mode": "cmyk"}, "option mode=cmyk: is not valid"),
        ({"window": "400"}, "option window=400: is not valid"),
        ({"window": "400,-100"}, "option window=400,-100: is not valid"),
        ({"window": "nan,1"}, "option window=nan,1: is not valid"),
        ({"names": "all"}, "option names=all: is not valid; give names=per-folder"),
        ({"split": "mine"}, "option split=mine: is not valid; give split=own"),
        ({"subject": "("}, "option subject=(: missing )"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(root, options, words):
    with pytest.raises(BadInput) as caught:
        scan("class-folders", root, options)
    assert words in str(caught.value)


def test_a_name_without_a_patient_is_named(root):
    assert problems(root, subject="^p[0-9]+")[0].startswith("a/1.png: has no patient in its name;")


def test_a_folder_is_left_out_by_name_and_a_class_that_is_not_there_is_named(root):
    picture(root, "c/6.png")
    found = scan("class-folders", root, {"classes": "a,b"})
    assert {sample.values["class"] for sample in found.samples} == {"a", "b"} and found.errors == ()
    assert [str(one) for one in found.problems] == [
        "c: is not among the classes a, b; 1 picture of it left out; no action is needed, or name it in the option "
        "classes"
    ]
    (wrong,) = scan("class-folders", root, {"classes": "a,b,c,d"}).errors
    assert str(wrong) == "d: is not a folder with pictures; name one of a, b, c in the option classes, or leave it out"


def test_an_equal_name_in_two_classes_is_asked_about_and_the_proposed_option_settles_it(root):
    picture(root, "b/1.png", pixels("another"))
    found = scan("class-folders", root)
    (problem,) = found.problems
    assert problem.subject == "1" and "is there 2 times (a/1.png, b/1.png)" in str(problem)
    settled = scan("class-folders", root, proposed(problem))
    assert settled.problems == () and [one.subject for one in settled.samples] == ["a_1", "a_2", "b_1", "b_3", "b_4"]


def proposed(problem):
    """The options that a remedy proposes, as a person would type them."""
    return dict(one.split("=", 1) for one in re.findall(r"--option (\S+=[^\s,;]+(?:,[^\s,;]+)?)", problem.remedy))


def test_folders_train_and_val_are_the_split_where_the_site_says_so(tmp_path):
    for number, place in enumerate(("train/a", "train/b", "val/a", "val/b", "test/a", "test/b")):
        picture(tmp_path, f"{place}/{number}.png")
    assert detect(tmp_path)[0].reason == "test, train, val: folders a, b hold pictures"
    together = scan("class-folders", tmp_path)
    assert len(together.samples) == 6 and together.schema.columns["class"].categories == {"a": 3, "b": 3}
    own = scan("class-folders", tmp_path, {"split": "own"})
    assert {one.subject: one.values["split"] for one in own.samples} == {
        "0": "training", "1": "training", "2": "validation", "3": "validation",
    }  # fmt: skip
    assert [str(one) for one in own.problems] == [
        "test: 2 pictures of it left out; no action is needed: they are for a test after the training"
    ]


def test_a_patient_in_train_and_in_val_is_used_on_neither_side(tmp_path):
    for place in ("train/a/p1_1", "train/b/p2_1", "val/a/p1_2", "val/b/p3_1"):
        picture(tmp_path, f"{place}.png")
    found = scan("class-folders", tmp_path, {"split": "own", "subject": "^[^_]+"})
    (problem,) = found.errors
    assert str(problem).startswith("p1: has pictures in training and validation;")
    assert [one.subject for one in found.samples] == ["p2", "p3"]


def test_split_own_without_such_folders_is_an_error(root):
    (problem,) = scan("class-folders", root, {"split": "own"}).errors
    assert str(problem) == "split: has no folders train and val for the option split=own; leave split=own out"


@pytest.mark.parametrize("folders", [("images", "masks"), ("img", "mask"), ("images", "labels"), ("image", "GT")])
def test_images_and_their_masks_are_not_two_classes(tmp_path, folders):
    for folder in folders:
        for number in range(3):
            picture(tmp_path, f"{folder}/{number}.png")
    assert not [fit for fit in detect(tmp_path) if fit.format == "class-folders"]
    found = scan("class-folders", tmp_path)
    (problem,) = found.errors
    assert not found.samples and "holds masks in folder" in str(problem)
    assert proposed(problem) == {"classes": ",".join(sorted(folders))}
    assert scan("class-folders", tmp_path, proposed(problem) | {"names": "per-folder"}).errors == ()


@pytest.mark.parametrize(("name", "patients"), [("P{:03}", 3), ("P{:03}", 8), ("case {}", 8)])
def test_a_folder_for_each_patient_is_not_taken_for_classes(tmp_path, name, patients):
    for patient in range(patients):
        for view in range(4):
            picture(tmp_path, f"{name.format(patient)}/{patient}{view}.png")
    assert detect(tmp_path) == ()
    (warning,) = scan("class-folders", tmp_path).problems
    assert f"{patients} folders with numbers hold 4 pictures each: these look like patients" in str(warning)


def test_grades_of_a_disease_are_classes(tmp_path):
    for grade in range(5):
        for number in range(3):
            picture(tmp_path, f"{grade}/{grade}{number}.png")
    assert [fit.format for fit in detect(tmp_path)] == ["class-folders"] and scan(
        "class-folders", tmp_path
    ).problems == ()


def test_pictures_of_kinds_that_are_not_read_are_counted_with_the_way_out(root):
    for place in ("a/7.webp", "a/8.WEBP", "b/9.dcm", "10.png"):
        picture(root, "x.png")
        (root / "x.png").rename(root / place)
    found = scan("class-folders", root)
    assert len(found.samples) == 4 and found.errors == ()
    name = root.name
    assert [str(one) for one in found.problems] == [
        f"{name}: 1 file with the ending .dcm, which is not read (first b/9.dcm); export the images as PNG with 16 "
        "bits, or convert them to NIfTI",
        f"{name}: 2 files with the ending .webp, which is not read (first a/7.webp); save these pictures as PNG",
        f"{name}: 1 picture outside of the folders of classes (first 10.png), not used; put each picture in the folder "
        "of its class: <class>/<picture> or <class>/<patient>/<picture>",
    ]


def test_classes_of_pictures_that_are_not_read_are_seen_and_the_way_out_is_said(tmp_path):
    for ending, fits in (("webp", ["class-folders"]), ("dcm", [])):
        for place in (f"{ending}/a/1.{ending}", f"{ending}/b/2.{ending}"):
            (tmp_path / place).parent.mkdir(parents=True)
            (tmp_path / place).write_bytes(b"?")
        assert [fit.format for fit in detect(tmp_path / ending)] == fits
    (problem,) = scan("class-folders", tmp_path / "webp").errors
    assert "2 files with the ending .webp, which is not read (first a/1.webp); save these pictures" in str(problem)


def test_many_pictures_of_other_sizes_are_one_line_and_the_proposed_option_settles_it(tmp_path):
    for number in range(9):
        picture(tmp_path, f"{'ab'[number % 2]}/{number}.png", pixels(f"{number}", (6, 5 + max(0, number - 2))))
    (problem,) = scan("class-folders", tmp_path).problems
    assert str(problem).startswith(
        f"{tmp_path.name}: 6 of 9 pictures have other pixels than most, which have uint8 [6, 5]: 7 sizes in all"
    )
    settled = scan("class-folders", tmp_path, proposed(problem))
    assert settled.problems == () and len(settled.samples) == 9 and settled.schema.arrays == {"x": "uint8 [6, 5]"}


def test_a_class_in_16_bits_and_one_in_8_are_not_used_together(tmp_path):
    """A model would learn which machine a picture is from, and score perfectly."""
    for number in range(6):
        picture(tmp_path, f"normal/n{number}.png", pixels(f"{number}"))
        picture(tmp_path, f"pneumonia/p{number}.png", pixels(f"p{number}").astype(np.uint16) * 256)
    for options in ({}, {"window": "0,65535"}, {"mode": "rgb", "size": "4x4"}):
        found = scan("class-folders", tmp_path, options)
        (problem,) = found.errors
        assert found.samples == ()
        assert "pictures are stored in several types: uint8 (6, values " in str(problem)
        assert "uint16 (6, values " in str(problem) and "a model would learn the type" in str(problem)


def test_a_single_picture_of_another_depth_is_named_and_left_out(tmp_path):
    for number in range(20):
        picture(tmp_path, f"{'ab'[number % 2]}/{number}.png", pixels(f"{number}"))
    picture(tmp_path, "a/20.png", np.full((6, 5), 4000, np.uint16))
    found = scan("class-folders", tmp_path)
    assert [str(one) for one in found.problems] == [
        "a/20.png: stores uint16 values (4000 to 4000), 20 of 21 pictures store uint8; save it in the type of the "
        "others, or leave it out"
    ]
    assert len(found.samples) == 20


NAMES = st.lists(st.text(st.characters(min_codepoint=32, exclude_characters="/"), min_size=1, max_size=30), max_size=8)


@examples(15)
@given(NAMES, st.sampled_from(["^[^_]+", "^(.+)_", "(a)?b", r"\d+", "p0(?:7|8)", "x*"]))
def test_a_pattern_finds_what_python_finds(names, pattern):
    compiled = re.compile(pattern)
    own = {name: compiled.search(name) for name in names}
    expected = {name: (found[1 if compiled.groups else 0] or "") if found else "" for name, found in own.items()}
    assert found_in(names, pattern) == expected


@pytest.mark.processes
@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", r"(a*)*\1$"])
def test_a_pattern_that_does_not_come_to_an_end_is_named_with_the_name_it_hangs_on(root, pattern):
    hanging = "a" * 200 + "b\t"
    picture(root, f"b/{hanging}.png")
    with pytest.raises(BadInput) as caught:
        scan("class-folders", root, {"subject": pattern}, limits=DataLimits(pattern_s=1))
    assert caught.value.thing == f"option subject={pattern}"
    assert caught.value.cause == f"needs more than 1 s for {hanging}"
    assert "repeat inside a repeat" in caught.value.remedy


@pytest.mark.parametrize(
    ("pattern", "cause"),
    [
        ("(", "missing )"),
        ("x" * 201, "is longer than 200 letters"),
        ("a\0(", "missing )"),
        ("[z-a]", "bad character range"),
    ],
)
def test_a_pattern_that_is_none_is_named(root, pattern, cause):
    with pytest.raises(BadInput, match=re.escape(cause)):
        scan("class-folders", root, {"subject": pattern})


def the_problem(root, limits=DATA_LIMITS):
    (problem,) = [one for one in scan("class-folders", root, limits=limits).problems if one.severity == "error"]
    return str(problem)


def test_a_picture_of_too_many_pixels_is_named_before_it_is_decoded(root):
    picture(root, "ill/a.png")
    picture(root, "healthy/b.png", pixels("large", (60, 50)))
    few = DataLimits(picture_pixels=2999)
    problem = the_problem(root, few)
    assert "b.png: has 50 x 60 pixels; at most 2999 are allowed; make it smaller, or leave it out" in problem


def test_a_file_of_several_pictures_is_named_without_looking_at_each(root):
    picture(root, "healthy/b.png")
    several = [Image.fromarray(pixels(str(number))) for number in range(3)]
    (root / "ill").mkdir()
    several[0].save(root / "ill/a.tif", save_all=True, append_images=several[1:])
    assert "a.tif: holds more than one picture; store one picture per file" in the_problem(root)


def test_a_file_is_no_picture_of_another_kind(root):
    """Its name says what it is; a program would be started for one of these."""
    picture(root, "healthy/b.png")
    (root / "ill").mkdir()
    (root / "ill/a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 6\n%%EndComments\nshowpage\n")
    assert "a.png: is not a picture, or a damaged one (UnidentifiedImageError)" in the_problem(root)


def test_a_sparse_picture_is_named_by_its_size(root):
    picture(root, "healthy/b.png")
    (root / "ill").mkdir()
    with (root / "ill/a.png").open("wb") as file:
        file.truncate(300 << 30)
    assert "a.png: holds 307200 MiB; at most 2049 MiB are allowed" in the_problem(root)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_its_camera_says(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "healthy").mkdir()
    Image.fromarray(pixels("c")).save(tmp_path / "healthy/c.png", exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "healthy/c.png")))
    (reading,) = format_named("class-folders").read(tmp_path, scan("class-folders", tmp_path).samples, {})
    assert np.array_equal(reading.arrays["x"], upright)


def divided(root):
    for part in ("train", "val", "test"):
        for number in range(6):
            picture(root, f"{part}/{'ill' if number % 2 else 'well'}/{number}.png")
    return root


def test_equal_names_in_train_and_val_are_one_line_and_the_proposed_options_keep_the_division(tmp_path):
    (problem,) = scan("class-folders", divided(tmp_path)).problems
    first = "test/ill/1.png and train/ill/1.png and val/ill/1.png"
    assert problem.cause == f"6 names are there several times (first {first})"
    options = dict(word.split("=") for word in re.findall(r"--option (\S+)", problem.remedy))
    assert options == {"names": "per-folder", "split": "own"}
    found = scan("class-folders", tmp_path, options)
    assert not found.errors and {one.values["split"] for one in found.samples} == {"training", "validation"}


def test_a_folder_test_that_is_trained_on_is_said_with_the_option_that_leaves_it_out(tmp_path):
    (problem,) = scan("class-folders", divided(tmp_path), {"names": "per-folder"}).problems
    assert problem.severity == "warning" and "holds a folder test, and its pictures are trained on" in problem.cause
    assert "--option split=own" in problem.remedy


def test_an_empty_folder_of_a_class_is_mentioned(root):
    for name in ("covid", "__MACOSX"):
        (root / name).mkdir()
    before = scan("class-folders", root)
    (problem,) = (one for one in before.problems if one.thing == "covid/")
    assert problem.severity == "warning" and "holds no picture" in problem.cause
    assert not any("MACOSX" in str(one) for one in before.problems)


def test_masks_beside_the_pictures_of_a_class_are_not_its_pictures(tmp_path):
    for name in ("benign", "normal"):
        for number in range(3):
            picture(tmp_path, f"{name}/{name} ({number}).png")
            picture(tmp_path, f"{name}/{name} ({number})_mask.png")
    picture(tmp_path, "benign/benign (0)_mask_1.png")
    # Nothing is beside this one that it could be the mask of.
    picture(tmp_path, "benign/other_mask.png")
    assert [fit.format for fit in detect(tmp_path)] == ["class-folders"]
    found = scan("class-folders", tmp_path)
    assert len(found.samples) == 7 and "other_mask" in {one.subject for one in found.samples}
    (problem,) = found.problems
    assert problem.cause == (
        "7 masks beside pictures, by their names (first benign/benign (0)_mask.png beside benign (0).png); left out of "
        "the classes"
    )


def test_a_pattern_finds_the_visit_in_a_name(tmp_path):
    for place in ("well/p1_2020.png", "ill/p1_2021.png", "ill/p2_2020.png"):
        picture(tmp_path, place)
    found = scan("class-folders", tmp_path, {"subject": "^[^_]+", "session": "[0-9]+$"})
    assert [one.key for one in found.samples] == [("p1", "2020"), ("p1", "2021"), ("p2", "2020")]
    with pytest.raises(BadInput, match="needs the option subject"):
        scan("class-folders", tmp_path, {"session": "[0-9]+$"})
    for place in ("well/p1/a_2020.png", "ill/p1/a_2021.png"):
        picture(tmp_path / "patients", place)
    found = scan("class-folders", tmp_path / "patients", {"session": "[0-9]+$"})
    assert [one.key for one in found.samples] == [("p1", "2020"), ("p1", "2021")]


def test_files_beside_the_pictures_of_one_who_is_left_out_are_not_named(tmp_path):
    for name in ("ill", "well"):
        for patient in ("p1", "p2"):
            picture(tmp_path, f"{name}/{patient}_{name}.png")
    for one in ("p1", "p2"):
        (tmp_path / f"ill/{one}_scan.dcm").write_bytes(b"x")
        picture(tmp_path, f"ill/{one}_ill_mask.png")
    options = {"subject": "(p[0-9]+)_.*"}
    everybody = " ".join(map(str, scan("class-folders", tmp_path, options).problems))
    others = " ".join(map(str, scan("class-folders", tmp_path, options, leaves_out="p1".__eq__).problems))
    assert "ill/p1_scan.dcm" in everybody and "ill/p1_ill_mask.png" in everybody
    assert "p1" not in others and "ill/p2_scan.dcm" in others and "ill/p2_ill_mask.png" in others
