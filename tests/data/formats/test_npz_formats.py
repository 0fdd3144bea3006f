"""Arrays in one file: named x, y and subject, or in parts as MedMNIST has them."""

from __future__ import annotations

import numpy as np
import pytest
from conformance import SUBJECTS, Conformance, Expected

from archipel.data import Cohort, DataMapping, RawSource, Verdict, check_needs, format_named, scan, split
from archipel.data.cohorts.splits import predefined_split, validation_ids
from archipel.vocabulary import BadInput, ColumnNeed, DataNeeds
from real_data import real_data


class TestNpz(Conformance):
    format = "npz"

    def rows(self, subjects):
        return {subject: (np.arange(3.0) + number, number % 2) for number, subject in enumerate(subjects)}

    def save(self, root, rows, ids=None):
        x, y = (np.array([row[part] for row in rows.values()]) for part in (0, 1))
        np.savez(root / "arrays.npz", x=x, y=y, subject=np.array(ids or list(rows)))

    def write(self, root, subjects=SUBJECTS):
        rows = self.rows(subjects)
        self.save(root, rows)
        return {(subject, ""): Expected(arrays={"x": x, "y": y}) for subject, (x, y) in rows.items()}

    def change(self, root):
        rows = self.rows(SUBJECTS)
        rows["sub-02"] = (np.full(3, 9.0), 1)
        self.save(root, rows)
        return "sub-02"

    def remove(self, root):
        rows = self.rows(SUBJECTS)
        del rows["sub-03"]
        self.save(root, rows)
        return "sub-03"

    def repeat(self, root):
        self.save(root, self.rows(SUBJECTS), ["sub-01", "sub-02", "sub-01"])
        return "sub-01"


class TestMedMnist(TestNpz):
    free_ids = False

    def save(self, root, rows, ids=None):
        x, y = (np.array([row[part] for row in rows.values()]) for part in (0, 1))
        np.savez(root / "arrays.npz", train_images=x[:2], train_labels=y[:2, None], val_images=x[2:], val_labels=y[2:])

    def write(self, root, subjects=SUBJECTS):
        rows = list(super().write(root, subjects).values())
        ids = ("train-00000", "train-00001", "val-00000")[: len(rows)]
        return dict(zip([(name, "") for name in ids], rows, strict=True))

    def change(self, root):
        super().change(root)
        return "train-00001"

    def remove(self, root):
        super().remove(root)
        return "val-00000"

    def test_a_sample_that_is_there_twice_is_reported(self, root):
        # Rows have no ids of their own: the same row twice is two samples, named by where they stand.
        rows = self.rows(SUBJECTS)
        rows["sub-02"] = rows["sub-01"]
        self.save(root, rows)
        found = self.scanned(root)
        assert found.problems == ()
        assert [sample.subject for sample in found.samples] == ["train-00000", "train-00001", "val-00000"]


def medmnist(root, **changes):
    arrays = {}
    for part, count in (("train", 6), ("val", 3), ("test", 2)):
        arrays[f"{part}_images"] = np.arange(count * 4, dtype=np.uint8).reshape(count, 2, 2)
        arrays[f"{part}_labels"] = np.arange(count, dtype=np.uint8)[:, None] % 2
    arrays |= changes
    np.savez(root / "m.npz", **{name: array for name, array in arrays.items() if array is not None})


def test_a_files_own_split_is_followed_when_asked_and_its_test_rows_are_left_out(tmp_path):
    medmnist(tmp_path)
    drawn = scan("npz", tmp_path)
    assert (len(drawn.samples), drawn.problems, predefined_split(drawn.samples)) == (11, (), {})
    found = scan("npz", tmp_path, {"split": "own"})
    (warning,) = found.problems
    assert warning.severity == "warning" and "2 test rows are left out" in str(warning)
    sides = predefined_split(found.samples)
    held_out = validation_ids(sides, 0.2, sides)
    assert held_out == {"val-00000", "val-00001", "val-00002"} and len(found.samples) == 9
    cohort = Cohort(dataset="m", format="npz", samples=found.samples, validation=tuple(sorted(held_out)))
    training, validation = split(RawSource(tmp_path, cohort), cohort, 0.2, DataNeeds(kind="arrays"))
    assert training.table().y.tolist() == [0, 1, 0, 1, 0, 1] and validation.table().x.shape == (3, 2, 2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"val_labels": None}, "m.npz: val_images and val_labels have shapes [3, 2, 2] and nothing;"),
        ({"val_labels": np.zeros(2)}, "m.npz: val_images and val_labels have shapes [3, 2, 2] and [2];"),
        ({"val_images": np.zeros((3, 4, 4), np.uint8)}, "m.npz: its parts hold images of different kinds"),
    ],
)
def test_parts_that_do_not_fit_together_are_named(tmp_path, changes, words):
    medmnist(tmp_path, **changes)
    assert words in str(scan("npz", tmp_path).errors[0])


def test_a_split_is_followed_only_where_there_is_one(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 1)), y=np.zeros(2), subject=np.array(["a", "b"]))
    assert "has no split of its own" in str(scan("npz", tmp_path, {"split": "own"}).errors[0])
    with pytest.raises(BadInput, match="option split=mine: is not valid"):
        scan("npz", tmp_path, {"split": "mine"})


def test_pneumonia_mnist_is_read_as_it_is():
    root = real_data("medmnist")
    found = scan("npz", root, {"split": "own"})
    assert found.problems == () and found.schema.subjects == 2428 + 270
    assert found.schema.arrays == {"x": "uint8 [28, 28]", "y": "uint8 []"}
    assert sum(predefined_split(found.samples).values()) == 270


def labelled(root, y, **options):
    root.mkdir(exist_ok=True)
    np.savez(root / "d.npz", x=np.zeros((len(y), 2), np.uint8), y=np.array(y), subject=[f"p{n}" for n in range(len(y))])
    return scan("npz", root, options)


@pytest.mark.parametrize(("y", "options"), [
    ([0, 1, 1], {"classes": "normal,ill"}),
    ([[0], [1], [1]], {"classes": "normal;ill"}),
    ([[1, 0], [0, 1], [0, 1]], {"classes": "normal,ill"}),
    (["normal", "ill", "ill "], {}),
])  # fmt: skip
def test_a_class_is_known_by_its_name_and_numbered_by_the_plan(tmp_path, y, options):
    found = labelled(tmp_path, y, **options)
    assert found.problems == () and list(found.schema.arrays) == ["x"]
    assert found.schema.columns["class"].categories == {"ill": 2, "normal": 1}
    cohort = Cohort(dataset="d", format="npz", options=options, samples=found.samples)
    for order, expected in ((("ill", "normal"), [1, 0, 0]), (("other", "normal", "ill"), [1, 2, 2])):
        needs = DataNeeds(kind="arrays", target=ColumnNeed(name="class", categories=order))
        assert all(one.verdict is not Verdict.NOT_MET for one in check_needs(needs, found.schema, cohort.mapping))
        training, _ = split(RawSource(tmp_path, cohort), cohort, 0.0, needs)
        assert training.table().y.tolist() == expected
    bare, _ = split(RawSource(tmp_path, cohort), cohort, 0.0, DataNeeds(kind="arrays"))
    assert bare.table().y is None


def test_numbers_without_names_do_not_meet_a_list_of_classes_until_they_are_named(tmp_path):
    needs = DataNeeds(kind="arrays", target=ColumnNeed(name="class", categories=("normal", "ill")))
    found = labelled(tmp_path, [0, 1, 1])
    said = check_needs(needs, found.schema, DataMapping())[-1]
    assert said.verdict is Verdict.NOT_MET and "numbers without names" in said.why
    option = said.why.partition("--option ")[2]
    name, _, value = option.partition("=")
    named = labelled(tmp_path, [0, 1, 1], **{name: value})
    assert check_needs(needs, named.schema, DataMapping())[-1].verdict is Verdict.MET


def test_what_the_classes_do_not_name_is_said_with_the_way_out(tmp_path):
    found = labelled(tmp_path, [0, 2, 1, -1, 0.5], classes="normal,ill")
    assert [sample.subject for sample in found.samples] == ["p0", "p2"]
    assert "its y in d.npz is 2.0, which is not one of the classes normal, ill" in str(found.errors[0])
    assert [one.subject for one in found.errors] == ["p1", "p3", "p4"]
    several, three = ([[1, 1], [0, 1]], "marks several classes in 1 row"), ([[0, 0, 1]] * 2, "y has [3] values per row")
    for y, cause in (several, three):
        (problem,) = labelled(tmp_path, y, classes="normal,ill").errors
        assert cause in problem.cause and "leave the option classes out" in problem.remedy
        assert labelled(tmp_path, y).problems == ()
    with pytest.raises(BadInput, match="names ill twice"):
        labelled(tmp_path, [0, 1], classes="ill,ill")


def test_an_array_of_sessions_tells_a_patients_rows_apart(tmp_path):
    def write(sessions, subjects=("b", "a", "a", "c")):
        x = np.arange(8, dtype=np.float32).reshape(4, 2)
        y = np.array(["ill", "well", "well", "ill"])
        np.savez(tmp_path / "d.npz", x=x, y=y, subject=np.array(subjects), session=np.array(sessions))
        return scan("npz", tmp_path)

    found = write(["", "2020", "2021", ""])
    assert found.problems == () and found.subjects == found.schema.subjects == 3
    assert [one.key for one in found.samples] == [("a", "2020"), ("a", "2021"), ("b", ""), ("c", "")]
    assert found.schema.columns["class"].categories == {"ill": 2, "well": 1}
    readings = list(format_named("npz").read(tmp_path, found.samples, {}))
    assert [one.arrays["x"].tolist() for one in readings] == [[2, 3], [4, 5], [0, 1], [6, 7]]
    write(["", "2021", "2020", ""])
    with pytest.raises(BadInput, match="no longer holds subject a"):
        format_named("npz").verify(tmp_path, found.samples, {})
    (twice,) = write(["", "2020", "2020", ""]).errors
    assert (twice.thing, twice.subject) == ("a_2020", "a") and "array session" in twice.remedy
    assert [one.key for one in write(["c_d", "d", "x", "e"], ["a", "a_c", "a", "a"]).samples] == [
        ("a", "c_d"), ("a", "e"), ("a", "x"), ("a_c", "d")
    ]  # fmt: skip
    (bad,) = write(["1", "2", "a/b", "3"]).errors
    assert "row 2 has no id that a subject or a session may have" in str(bad)
    assert "subject and session have shapes [4] and [3]" in str(write(["1", "2", "3"]).errors[0])
