"""Odd cells and identifiers in the tables beside volumes: demographics.csv and participants.tsv."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from archipel.data import scan
from archipel.vocabulary import Value
from worlds.data_files import write_volume


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(1, 5):
        write_volume(
            tmp_path / f"sub-{number}/T1/a.nii.gz", np.arange(64, dtype=np.float32).reshape(4, 4, 4), np.eye(4)
        )
    return tmp_path


def scanned(root: Path, written: str, **options: str) -> tuple[list[str], dict[str, dict[str, Value]]]:
    (root / "demographics.csv").write_text(written, encoding="utf-8")
    found = scan("medical-folder", root, options)
    return [str(one) for one in found.problems], {one.subject: dict(one.values) for one in found.samples}


TEXT = "id,age,weight\nsub-1,41,70.5\nsub-2,89+,71\nsub-3,55,#VALUE!\nsub-4,60,1_000\n"


def test_an_odd_cell_is_named_with_its_subject_and_each_proposed_option_settles_it(root: Path) -> None:
    said, values = scanned(root, TEXT)
    assert said == [
        "demographics.csv: column age: 3 of 4 values are numbers; sub-2 holds 89+; it is read as text; choose "
        "--option censored=age (limits are kept as limits) or --option number=age (what is not a number is missing) "
        "or --option text=age",
        "demographics.csv: column weight: 2 of 4 values are numbers; sub-3 holds #VALUE!, sub-4 holds 1_000; it is "
        "read as text; choose --option number=weight (what is not a number is missing) or --option text=weight",
    ]
    assert values["sub-1"] == {"age": "41", "weight": "70.5"}
    said, values = scanned(root, TEXT, censored="age", number="weight")
    assert said == []
    assert values["sub-1"] == {"age": 41.0, "age_censored": "measured", "weight": 70.5}
    assert values["sub-2"] == {"age": 89.0, "age_censored": "above", "weight": 71.0}
    assert "weight" not in values["sub-3"] and "weight" not in values["sub-4"]
    said, values = scanned(root, TEXT, text="age,weight")
    assert said == [] and values["sub-2"] == {"age": "89+", "weight": "71"}


def test_whole_numbers_stay_whole_and_ids_with_zeros_stay_texts(root: Path) -> None:
    said, values = scanned(root, "id,age,code\nsub-1,41,007\nsub-2,42,008\nsub-3,43,009\nsub-4,44,010\n")
    assert said == [] and values["sub-1"] == {"age": 41, "code": "007"}
    assert isinstance(values["sub-1"]["age"], int)


def test_points_that_may_stand_between_thousands_are_asked_about(root: Path) -> None:
    text = "id;cells\n" + "".join(f"sub-{number};15{number}.000\n" for number in range(1, 5))
    said, values = scanned(root, text)
    assert "has 4 numbers as 151.000 (sub-1, column cells), which may be 151 or 151000" in said[0]
    assert values["sub-1"] == {}
    assert scanned(root, text, thousands=".")[1]["sub-1"] == {"cells": 151_000.0}
    assert scanned(root, text, decimal=".")[1]["sub-1"] == {"cells": 151.0}


def test_identifiers_stay_out_unless_they_are_asked_for(root: Path) -> None:
    text = "id,Geburtsdatum,remark\n" + "".join(f"sub-{n},1970-01-0{n},ask a{n}@example.org\n" for n in range(1, 5))
    said, values = scanned(root, text)
    assert "may name a person (Geburtsdatum)" in said[0] and "--option keep=Geburtsdatum" in said[0]
    assert "column remark holds an e-mail address in 4 rows" in said[1] and values["sub-1"] == {}
    said, values = scanned(root, text, keep="Geburtsdatum,remark")
    assert said == [] and values["sub-1"] == {"Geburtsdatum": "1970-01-01", "remark": "ask a1@example.org"}


def test_units_and_sums_are_not_subjects(root: Path) -> None:
    said, values = scanned(
        root, "id,age,weight\n-,years,kg\n" + "".join(f"sub-{n},4{n},7{n}\n" for n in range(1, 5)) + "Mean,42.5,72.5\n"
    )
    assert [one.split(";")[0] for one in said] == [
        "demographics.csv: line 2 holds the units of the columns",
        "demographics.csv: line 7 is not a patient but Mean",
    ]
    assert values["sub-1"] == {"age": 41, "weight": 71}


def test_a_column_that_an_option_names_and_the_table_does_not_have_is_said(root: Path) -> None:
    said, _ = scanned(root, "id,age\n" + "".join(f"sub-{n},4{n}\n" for n in range(1, 5)), number="aeg")
    assert said == [
        "demographics.csv: has no column aeg, which the option number names; name another with --option number=..."
    ]
