"""Pictures in folders, one folder per class."""

from __future__ import annotations

import re

import numpy as np
import pytest
from conformance import SUBJECTS, Conformance, Expected
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from archipel.data import Cohort, ColumnMapping, DataMapping, RawSource, SubjectSet, Verdict, check_needs, scan
from archipel.data.formats import format_named
from archipel.data.formats.name_patterns import found_in
from archipel.data.limits import DATA_LIMITS, DataLimits
from archipel.vocabulary import BadInput, ColumnNeed, DataNeeds


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
            arrays = {"x": pixels(subject), "y": np.int64(name == "ill")}
            expected[subject, ""] = Expected(arrays=arrays, values={"class": name})
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
            expected[subject, f"{subject}_{eye}"] = Expected(arrays={"x": pixels(subject + eye), "y": name == "ill"})
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
        "b/3.png: is not a picture, or a damaged one",
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
    assert line == "b/5.png: has pixels uint8 [12, 10], most have uint8 [6, 5]; set size=WIDTHxHEIGHT, or exclude it"
    found = scan("class-folders", root, {"size": "3x4"})
    assert found.problems == () and found.schema.arrays["x"] == "uint8 [4, 3]"
    shapes = {one.arrays["x"].shape for one in format_named("class-folders").read(root, found.samples, {"size": "3x4"})}
    assert shapes == {(4, 3)}


def test_colours_and_depth_are_kept_as_asked(root):
    picture(root, "a/1.png", pixels("colour", (6, 5, 3)))
    found = scan("class-folders", root, {"mode": "rgb"})
    (first, *_) = format_named("class-folders").read(root, found.samples, {"mode": "rgb"})
    assert (
        np.array_equal(first.arrays["x"], pixels("colour", (6, 5, 3))) and found.schema.arrays["x"] == "uint8 [6, 5, 3]"
    )
    deep = np.arange(30, dtype=np.uint16).reshape(6, 5) * 2000
    for place in ("a/1.png", "a/2.png", "b/3.png", "b/4.png"):
        picture(root, place, deep)
    found = scan("class-folders", root)
    (first, *_) = format_named("class-folders").read(root, found.samples, {})
    assert found.schema.arrays["x"] == "uint16 [6, 5]" and np.array_equal(first.arrays["x"], deep)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": "big"}, "option size=big: is not valid"),
        ({"mode": "cmyk"}, "option mode=cmyk: is not valid"),
        ({"subject": "("}, "option subject=(: missing )"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(root, options, words):
    with pytest.raises(BadInput) as caught:
        scan("class-folders", root, options)
    assert words in str(caught.value)


def test_a_name_without_a_patient_and_a_folder_that_is_no_class_are_named(root):
    assert problems(root, subject="^p[0-9]+")[0].startswith("a/1.png: has no patient in its name;")
    assert problems(root, classes="a,c") == [
        "b/3.png: is in folder b, which is not one of the classes a, c; name the class in classes=..., or move "
        "the file",
        "b/4.png: is in folder b, which is not one of the classes a, c; name the class in classes=..., or move "
        "the file",
        "c: is a class without a picture; add pictures, or use the dataset without this class",
    ]


def test_a_class_has_the_number_that_its_hospital_or_the_plan_gives_it(root):
    options = {"classes": "b,a"}
    found = scan("class-folders", root, options)
    needs = DataNeeds(kind="arrays")
    cohort = Cohort(dataset="t", format="class-folders", options=options, samples=found.samples)
    assert SubjectSet(RawSource(root, cohort), cohort.samples, needs).table().y.tolist() == [1, 1, 0, 0]
    target = ColumnNeed(name="diagnosis", categories=("well", "ill"))
    needs = DataNeeds(kind="arrays", target=target)
    mapping = DataMapping(columns={"diagnosis": ColumnMapping(source="class", values={"a": "ill", "b": "well"})})
    answers = check_needs(needs, found.schema, mapping)
    assert [one.verdict for one in answers] == [Verdict.MET, Verdict.MET, Verdict.MAPPED]
    assert check_needs(needs, found.schema, DataMapping())[-1].verdict is Verdict.NOT_MET
    cohort = cohort.model_copy(update={"mapping": mapping})
    table = SubjectSet(RawSource(root, cohort), cohort.samples, needs, mapping).table()
    assert table.y.tolist() == [1, 1, 0, 0] and table.y.dtype == np.int64 and table.x.shape == (4, 6, 5)


NAMES = st.lists(st.text(st.characters(min_codepoint=32, exclude_characters="/"), min_size=1, max_size=30), max_size=8)


@settings(max_examples=15)
@given(NAMES, st.sampled_from(["^[^_]+", "^(.+)_", "(a)?b", r"\d+", "p0(?:7|8)", "x*"]))
def test_a_pattern_finds_what_python_finds(names, pattern):
    compiled = re.compile(pattern)
    own = {name: compiled.search(name) for name in names}
    expected = {name: (found[1 if compiled.groups else 0] or "") if found else "" for name, found in own.items()}
    assert found_in(names, pattern) == expected


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
    assert "b.png: has 50 x 60 pixels; at most 2999 are allowed; make it smaller, or exclude it" in problem


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
