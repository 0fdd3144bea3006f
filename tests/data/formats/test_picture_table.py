"""Pictures in a folder, and a table that says what each of them is."""

from __future__ import annotations

import numpy as np
import pytest
from conformance import SUBJECTS, Conformance, Expected
from PIL import Image

from archipel.data import Cohort, RawSource, Verdict, check_needs, scan, split
from archipel.data.formats import detect
from archipel.vocabulary import BadInput, ColumnNeed, DataNeeds


def pixels(seed):
    return np.random.default_rng([*seed.encode()]).integers(0, 256, (6, 5), np.uint8)


def picture(root, place, values=None):
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(place) if values is None else values).save(path)


def table(root, *lines, name="labels.csv"):
    (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


class TestPictureTable(Conformance):
    format = "picture-table"

    def write(self, root, subjects=SUBJECTS):
        expected, lines = {}, ["image,label,age"]
        for number, subject in enumerate(subjects):
            picture(root, f"images/{subject}.png", pixels(subject))
            values = {"label": ("normal", "pneumonia")[number % 2], "age": 40 + number}
            lines.append(f"{subject}.png,{values['label']},{values['age']}")
            expected[subject, ""] = Expected(arrays={"x": pixels(subject)}, values=values)
        table(root, *lines)
        return expected

    def change(self, root):
        picture(root, "images/sub-02.png", pixels("another"))
        return "images/sub-02.png"

    def remove(self, root):
        (root / "images/sub-03.png").unlink()
        return "images/sub-03.png"

    def repeat(self, root):
        with (root / "labels.csv").open("a") as file:
            file.write("sub-01.png,pneumonia,41\n")
        return "labels.csv: sub-01.png has 2 rows; none is used"


class TestPatientsInAColumn(TestPictureTable):
    """As ChestX-ray14 has it: names with endings, and several pictures of a patient."""

    options = {"mode": "rgb"}

    def write(self, root, subjects=SUBJECTS):
        expected, lines = {}, ["Image Index,Finding,Patient ID"]
        for number, (subject, view) in enumerate([*((one, "0") for one in subjects), (subjects[0], "1")]):
            name = f"{number:04}_{view}"
            picture(root, f"images_{number % 2}/{name}.png", pixels(name))
            finding = ("No Finding", "Mass")[number % 2]
            lines.append(f"{name}.png,{finding},{subject}")
            arrays = {"x": np.stack([pixels(name)] * 3, -1)}
            expected[subject, name] = Expected(arrays=arrays, values={"Finding": finding})
        table(root, *lines)
        return expected

    def change(self, root):
        picture(root, "images_1/0001_0.png", pixels("another"))
        return "images_1/0001_0.png"

    def remove(self, root):
        (root / "images_0/0002_0.png").unlink()
        return "images_0/0002_0.png"

    def repeat(self, root):
        with (root / "labels.csv").open("a") as file:
            file.write("0000_0.png,Mass,sub-01\n")
        return "labels.csv: 0000_0.png has 2 rows; none is used"


NEEDS = DataNeeds(kind="arrays", target=ColumnNeed(name="label", categories=("pneumonia", "normal", "covid")))


def test_the_plan_says_which_number_a_class_of_the_table_gets(tmp_path):
    TestPictureTable().write(tmp_path)
    found = scan("picture-table", tmp_path)
    answers = check_needs(NEEDS, found.schema, Cohort(dataset="t", format="picture-table", samples=()).mapping)
    assert answers[-1].verdict is Verdict.MET and answers[-1].why == "no sample is covid"
    cohort = Cohort(dataset="t", format="picture-table", samples=found.samples, validation=())
    training, _ = split(RawSource(tmp_path, cohort), cohort, 0.2, NEEDS)
    assert training.table().y.tolist() == [1, 0, 1] and training.table().x.shape == (3, 6, 5)


def test_a_patients_pictures_stay_on_one_side(tmp_path):
    lines = ["image,label,patient_id"]
    for number in range(40):
        picture(tmp_path, f"{number}.png", pixels(str(number)))
        lines.append(f"{number},{'ab'[number % 2]},p{number // 4}")
    table(tmp_path, *lines)
    found = scan("picture-table", tmp_path)
    assert found.schema.subjects == 10 and found.schema.samples == 40 and found.problems == ()
    cohort = Cohort(dataset="t", format="picture-table", samples=found.samples)
    training, validation = split(RawSource(tmp_path, cohort), cohort, 0.3, NEEDS)
    assert len(validation) % 4 == 0 and len(validation) > 0
    assert {one.subject for one in training.samples}.isdisjoint(one.subject for one in validation.samples)
    assert "patient_id" not in found.samples[0].values


def test_pictures_and_rows_that_miss_each_other_are_counted(tmp_path):
    TestPictureTable().write(tmp_path)
    picture(tmp_path, "images/extra.png")
    with (tmp_path / "labels.csv").open("a") as file:
        file.write("gone.png,normal,50\n")
    found = scan("picture-table", tmp_path)
    assert len(found.samples) == 3 and found.errors == ()
    assert [str(one) for one in found.problems] == [
        f"{tmp_path.name}: 1 picture without a row in the table, left out (first images/extra.png); add the row",
        f"{tmp_path.name}: 1 row of labels.csv without its picture (first gone.png); add the file",
    ]


def test_of_several_tables_one_is_named_by_the_option_that_is_proposed(tmp_path):
    TestPictureTable().write(tmp_path)
    table(tmp_path, "image,score", "sub-01.png,3", name="scores.csv")
    (problem,) = scan("picture-table", tmp_path).errors
    assert problem.remedy == "name one, for example --option table=labels.csv"
    assert len(scan("picture-table", tmp_path, {"table": "labels.csv"}).samples) == 3
    for outside in ("gone.csv", "../labels.csv", "*.csv"):
        (problem,) = scan("picture-table", tmp_path, {"table": outside}).errors
        assert str(problem) == f"{outside}: is not in the folder; name another in the option table"


def test_a_table_that_names_no_picture_and_an_option_that_names_no_column_are_errors(tmp_path):
    TestPictureTable().write(tmp_path)
    (problem,) = scan("picture-table", tmp_path, {"image": "file"}).errors
    assert str(problem) == "labels.csv: has no column file (it has image, label, age); name one in the option image"
    table(tmp_path, "number,label", "1,normal", "2,pneumonia")
    (problem,) = scan("picture-table", tmp_path).errors
    assert "labels.csv: has no column with the names of the pictures (it has number, label)" in str(problem)


def test_a_pattern_finds_the_patient_where_no_column_does(tmp_path):
    for name in ("p1_left", "p1_right", "p2_left"):
        picture(tmp_path, f"{name}.png")
    table(tmp_path, "image,label", "p1_left,a", "p1_right,b", "p2_left,b")
    found = scan("picture-table", tmp_path, {"subject": "^[^_]+"})
    assert [one.key for one in found.samples] == [("p1", "p1_left"), ("p1", "p1_right"), ("p2", "p2_left")]
    with pytest.raises(BadInput, match="missing \\)"):
        scan("picture-table", tmp_path, {"subject": "("})


def test_a_table_beside_pictures_is_not_taken_for_the_data(tmp_path):
    TestPictureTable().write(tmp_path)
    assert detect(tmp_path)[0].format == "picture-table"


def marked(root, *lines):
    for name in ("a_1", "a_2", "b_1"):
        picture(root, f"images/{name}.png")
    table(root, "image,lesion,MEL,NV", *lines)
    return scan("picture-table", root, {"patient": "lesion", "classes": "MEL,NV", "session": "[0-9]+$"})


def test_a_column_for_each_class_gives_its_name_and_the_pattern_the_visit(tmp_path):
    found = marked(tmp_path, "a_1,A,1,0", "a_2,A,0,1", "b_1,B,0,1")
    assert found.problems == ()
    assert [one.key for one in found.samples] == [("A", "1"), ("A", "2"), ("B", "1")]
    assert [one.values for one in found.samples] == [{"class": "MEL"}, {"class": "NV"}, {"class": "NV"}]


def test_rows_with_several_classes_or_none_are_one_sentence(tmp_path):
    found = marked(tmp_path, "a_1,A,1,1", "a_2,A,0,0", "b_1,B,0,1")
    (problem,) = found.errors
    assert (
        "2 rows of labels.csv have not 1 in one of the columns MEL, NV and 0 in the others (first a_1)" in problem.cause
    )
    assert problem.spoils_all and "leave the option out" in problem.remedy


def test_a_visit_without_a_patient_is_refused(tmp_path):
    picture(tmp_path, "a_1.png")
    table(tmp_path, "image,label", "a_1.png,ill")
    with pytest.raises(BadInput, match="needs the option subject"):
        scan("picture-table", tmp_path, {"session": "[0-9]+$"})
