from __future__ import annotations

import shutil

import pytest
from conformance import SUBJECTS, Conformance, Expected
from made_volumes import AFFINE, intensities, nifti, segmentation

from archipel.data import MemoryIndex, scan
from real_data import real_data


def table(root, text):
    (root / "demographics.csv").write_text(text, encoding="utf-8")


class TestMedicalFolder(Conformance):
    format = "medical-folder"
    options = {"label": "mask"}
    fragile = "*/*/*.nii*"

    def write(self, root, subjects=SUBJECTS):
        expected = {}
        rows = ["subject,age,sex,centre"]
        for number, subject in enumerate(subjects):
            images = {"T1": intensities(number)}
            if number != 1:
                images["T2"] = intensities(10 + number)
            for modality, image in images.items():
                nifti(root / subject / modality / f"scan {number}{'.nii' if number == 2 else '.nii.gz'}", image)
            nifti(root / subject / "mask" / "drawn.nii.gz", segmentation(number))
            rows.append(f"{subject},{40 + number},{'MFM'[number]},007")
            values = {"age": 40 + number, "sex": "MFM"[number], "centre": "007"}
            expected[subject, ""] = Expected(images, segmentation(number), AFFINE, values=values)
        table(root, "\n".join(rows) + "\n")
        return expected

    def change(self, root):
        nifti(root / "sub-01/T2/scan 0.nii.gz", intensities(70))
        return "sub-01/T2/scan 0.nii.gz"

    def remove(self, root):
        (root / "sub-02/mask/drawn.nii.gz").unlink()
        return "sub-02/mask/drawn.nii.gz"

    def repeat(self, root):
        nifti(root / "sub-02/T1/again.nii.gz", intensities(7))
        return "sub-02: has 2 volumes in T1"


def test_a_modality_may_be_missing_and_is_counted(tmp_path):
    TestMedicalFolder().write(tmp_path)
    found = scan("medical-folder", tmp_path, {"label": "mask"})
    assert found.problems == () and found.schema.modalities == {"T1": 3, "T2": 2}
    age = found.schema.columns["age"]
    assert (age.type, age.minimum, age.maximum) == ("number", 40, 42)
    assert found.schema.columns["sex"].categories == {"F": 1, "M": 2}


def test_rows_and_folders_that_miss_each_other_are_warnings(tmp_path):
    TestMedicalFolder().write(tmp_path)
    table(tmp_path, "subject,age\nsub-01,40\nsub-09,50\n")
    (tmp_path / "notes").mkdir()
    found = scan("medical-folder", tmp_path, {"label": "mask"})
    assert found.errors == () and len(found.samples) == 3
    assert sorted(str(one).split(";")[0] for one in found.problems) == [
        "notes: holds no volume (looked in its folders)",
        "sub-02: has no row in demographics.csv",
        "sub-03: has no row in demographics.csv",
        "sub-09: has a row in demographics.csv and no folder with volumes",
    ]
    assert [sample.values for sample in found.samples] == [{"age": 40}, {}, {}]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("subject,age\nsub-01,40\nsub-01,41\nsub-02,1\nsub-03,2\n", "sub-01 has 2 rows; none is used"),
        ("subject,age\nsub-01,40,9\nsub-02,1\nsub-03,2\n", "line 2 has 3 fields, the header 2; the row is left out"),
        ("subject,age\n,40\nsub-02,1\nsub-03,2\n", "line 2 names no subject"),
        ("subject,first_name\nsub-01,Ann\nsub-02,Bo\nsub-03,Cy\n", "may name a person (first_name)"),
        ("", "demographics.csv"),
        ("\0\0\0\0", "demographics.csv"),
    ],
)
def test_a_bad_table_costs_values_and_no_volumes(tmp_path, text, words):
    TestMedicalFolder().write(tmp_path)
    table(tmp_path, text)
    found = scan("medical-folder", tmp_path, {"label": "mask"})
    assert len(found.samples) == 3 and found.errors == ()
    assert words in " ".join(map(str, found.problems))
    assert all("Ann" not in sample.values.values() for sample in found.samples)


def test_a_semicolon_a_byte_order_mark_and_another_column_of_ids_are_understood(tmp_path):
    TestMedicalFolder().write(tmp_path)
    table(tmp_path, "\ufeffage;id\n40;sub-01\n41;sub-02\n42.5;sub-03\n")
    found = scan("medical-folder", tmp_path, {"label": "mask", "id_column": "id"})
    assert found.problems == () and [sample.values["age"] for sample in found.samples] == [40.0, 41.0, 42.5]


def test_images_on_two_grids_are_named_and_one_can_be_chosen(tmp_path):
    for subject in ("a", "b"):
        nifti(tmp_path / subject / "T1" / "x.nii.gz", intensities(1))
        nifti(tmp_path / subject / "T2" / "x.nii.gz", intensities(1, (4, 4, 4)))
    table(tmp_path, "id,age\na,1\nb,2\n")
    found = scan("medical-folder", tmp_path)
    assert "a: the T1 has shape [5, 6, 7] and the T2 [4, 4, 4]" in str(found.errors[0])
    assert scan("medical-folder", tmp_path, {"modalities": "T1"}).problems == ()


def test_a_subject_without_its_label_is_named(tmp_path):
    TestMedicalFolder().write(tmp_path)
    (tmp_path / "sub-02/mask/drawn.nii.gz").unlink()
    found = scan("medical-folder", tmp_path, {"label": "mask"})
    assert [str(one) for one in found.errors] == ["sub-02: has no volume in mask; add it or leave the subject out"]


def test_real_brains_with_their_demographics(tmp_path):
    root = real_data("ixi_t1_2mm")
    for image in (root / "images").iterdir():
        subject = image.name.removesuffix("-T1_ds.nii.gz")
        (tmp_path / subject / "T1").mkdir(parents=True)
        shutil.copyfile(image, tmp_path / subject / "T1" / image.name)
    shutil.copyfile(root / "demographics.csv", tmp_path / "demographics.csv")
    found = scan("medical-folder", tmp_path)
    assert found.errors == () and len(found.samples) == 5
    assert found.samples[0].values == {"Age": 38.78, "Sex": "M"}
    assert found.schema.modalities == {"image": 5}


def test_the_table_of_a_subject_who_is_left_out_is_as_if_its_row_were_not_there(tmp_path):
    """Neither a remark names who was left out, nor does the index keep a value; both come back with the subject."""
    TestMedicalFolder().write(tmp_path)
    table(tmp_path, "subject,age\nsub-01,40\nsub-02,31\nsub-02,32\nsub-03,77\nsub-03,78,79\n")
    index = Remembered()
    everybody = scan("medical-folder", tmp_path, {"label": "mask"}, index)
    assert [one.subject for one in everybody.problems if "2 rows" in one.cause] == ["sub-02"]
    assert '"age":77' in index.kept("demographics.csv").replace(" ", "")
    found = scan("medical-folder", tmp_path, {"label": "mask"}, index, leaves_out={"sub-02", "sub-03"}.__contains__)
    assert found.problems == ()
    assert [sample.values for sample in found.samples] == [{"age": 40}]
    kept = index.kept("demographics.csv")
    assert "77" not in kept and "2 rows" not in kept and "3 fields" not in kept
    assert scan("medical-folder", tmp_path, {"label": "mask"}, index) == everybody


def test_who_has_a_row_and_no_volume_and_is_left_out_is_not_spoken_of(tmp_path):
    TestMedicalFolder().write(tmp_path)
    table(tmp_path, "subject,age\nsub-01,40\nsub-02,31\nsub-03,77\nsub-04,32\n")
    (warning,) = scan("medical-folder", tmp_path, {"label": "mask"}).problems
    assert str(warning).startswith("sub-04: has a row in demographics.csv")
    found = scan("medical-folder", tmp_path, {"label": "mask"}, leaves_out="sub-04".__eq__)
    assert found.problems == ()


class Remembered(MemoryIndex):
    """An index that tells what it has of a file, as a site's database would."""

    def __init__(self):
        super().__init__()
        self._facts = {}

    def put(self, place, purpose, signature, facts):
        self._facts[place, purpose.name] = facts.model_dump_json()
        super().put(place, purpose, signature, facts)

    def kept(self, name):
        return "\n".join(facts for (place, _), facts in self._facts.items() if place == name)
