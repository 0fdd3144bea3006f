"""Ids that one patient may have twice, and whom a mistyped id may mean."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from archipel.data import scan
from archipel.data.subject_ids import canonical, meant, spelling_issue, spelt_differently
from worlds.data_files import write_pairs


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("P1", "p1"),
        ("sub-01", "sub-1"),
        ("12", "12.0"),
        ("0012.0", "12"),
        ("M\u00fcller", "Mu\u0308ller"),
        ("\uff301", "P1"),
        ("P\u20111", "P-1"),
        ("P\u22121", "P-1"),
        (" P1 ", "P1"),
    ],
)
def test_spellings_of_one_id_have_one_form(one: str, other: str) -> None:
    assert canonical(one) == canonical(other)
    assert spelt_differently([one, other, "other"]) == (tuple(sorted((one, other))),)


@pytest.mark.parametrize(
    ("one", "other"), [("P1", "P10"), ("P01", "P010"), ("1.05", "1.5"), ("1.10", "1.1"), ("a", "b")]
)
def test_different_ids_have_different_forms(one: str, other: str) -> None:
    assert canonical(one) != canonical(other)
    assert spelt_differently([one, other]) == ()


def test_a_subject_with_several_visits_is_not_another_spelling() -> None:
    assert spelt_differently(["P1", "P2", "P1", "P1"]) == () == spelt_differently([])
    assert spelling_issue("table.csv", ["P1", "P1"]) is None


def test_all_spellings_of_a_dataset_are_one_finding_with_count_and_values() -> None:
    found = spelling_issue("table.csv", ["01", "1", "P1", "p1", "Q"])
    assert found is not None and found.severity == "warning"
    assert str(found).startswith("table.csv: 4 subject ids differ from another one only in")
    assert "('01' and '1', 'P1' and 'p1')" in found.cause
    many = spelling_issue("table.csv", [f"{form}{number}" for number in range(9) for form in "Pp"])
    assert many is not None and many.cause.endswith("'P4' and 'p4', and 4 more)")


def folder_of_pairs(root: Path, one: str, other: str) -> Path:
    write_pairs(root, 2)
    for old, new in (("sub-00", one), ("sub-01", other)):
        for part in ("images", "labels"):
            (root / part / f"{old}.nii.gz").rename(root / part / f"{new}.nii.gz")
    return root


def a_table(root: Path, one: str, other: str) -> Path:
    root.mkdir()
    (root / "t.csv").write_text(f"subject,age\n{one},50\n{other},60\nQ,70\n", encoding="utf-8")
    return root


def an_npz(root: Path, one: str, other: str) -> Path:
    root.mkdir()
    np.savez(root / "t.npz", x=np.random.default_rng(0).normal(size=(3, 2)), y=np.arange(3), subject=[one, other, "Q"])
    return root


@pytest.mark.parametrize(
    ("layout", "make"), [("nifti-pairs", folder_of_pairs), ("table", a_table), ("npz", an_npz)],
)  # fmt: skip
def test_every_format_finds_them(tmp_path: Path, layout: str, make) -> None:
    found = scan(layout, make(tmp_path / "data", "P01", "p1"))
    (issue,) = [one for one in found.problems if "differ from another one only in" in one.cause]
    assert "'P01' and 'p1'" in issue.cause and issue.severity == "warning"
    shutil.rmtree(tmp_path / "data")
    clean = scan(layout, make(tmp_path / "data", "P01", "P10"))
    assert not [one for one in clean.problems if "differ from another one" in one.cause]


@pytest.mark.parametrize(
    ("asked", "first"),
    [
        ("SUB-01", "sub-01"),
        ("1", "sub-01"),
        ("01", "sub-01"),
        ("sub01", "sub-01"),
        ("patient 1", "sub-01"),
        ("sub-01_ses-2", "sub-01"),
        ("P00", "P00_20200101"),
        ("P00_20230505", "P00_20200101"),
        ("P07", "P7_L"),
        ("0042", "OAS_0042_x"),
        ("Q.0", "Q"),
        ("P0O_20200101", "P00_20200101"),
    ],
)
def test_an_id_is_proposed_by_its_spelling_and_its_parts(asked: str, first: str) -> None:
    there = ["sub-01", "sub-10", "P00_20200101", "P00_20210101", "P7_L", "OAS_0042_x", "Q"]
    assert meant(asked, there)[0] == first


def test_all_visits_of_a_patient_are_proposed_and_nothing_for_a_stranger() -> None:
    there = ["P00_20200101", "P00_20210101", "P01_20200101"]
    assert meant("P00", there) == ("P00_20200101", "P00_20210101")
    assert meant("ward-9-xyz", there) == ()
    assert len(meant("7", [f"a_7_{number}" for number in range(30)])) == 5


def test_ids_that_look_the_same_are_shown_with_their_code_points() -> None:
    found = spelling_issue("table.csv", ["M\u00fcller", "Mu\u0308ller"])
    assert found is not None
    assert "'Mu\u0308ller' (U+0075 U+0308) and 'M\u00fcller' (U+00FC)" in found.cause
    dashes = spelling_issue("table.csv", ["P-1", "P\u20111", "p-1"])
    assert dashes is not None
    assert "'P-1' (U+002D) and 'P\u20111' (U+2011) and 'p-1')" in dashes.cause
