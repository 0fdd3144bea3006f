"""Ids that differ only in how they are written are one finding, whatever the format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archipel.data import scan
from archipel.data.formats.alike_ids import alike, alike_ids, plain_id
from worlds.data_files import write_volume


@pytest.mark.parametrize(
    ("one", "other"),
    [("p001", "P001"), ("007", "7"), ("7", "7.0"), ("sub-01", "sub-1"), ("M\u00fcller", "Mu\u0308ller"),
     ("P 1", "P1"), ("a01b002", "A1B2"), ("stra\u00dfe", "STRASSE")],
)  # fmt: skip
def test_ids_that_programs_write_in_two_ways_are_alike(one: str, other: str) -> None:
    assert alike([one, other, "another"]) == (tuple(sorted((one, other))),)


@pytest.mark.parametrize(
    ("one", "other"),
    [("p1", "p10"), ("p100", "p10"), ("a0", "a"), ("1.5", "15"), ("1-2", "12"), ("a_b", "ab"), ("0", "00x")],
)
def test_ids_of_two_patients_are_not(one: str, other: str) -> None:
    assert alike([one, other]) == ()


def test_all_of_them_are_one_finding(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(
        "id,age\n" + "".join(f"p{number:02},40\nP{number:02},50\n" for number in range(9)) + "q,1\n"
    )
    found = scan("table", tmp_path)
    assert len(found.samples) == 19
    (problem,) = found.problems
    assert problem.severity == "warning"
    assert problem.cause == (
        "18 subjects' ids differ only in case, zeros, spaces, .0 or accents "
        "(P00 and p00; P01 and p01; P02 and p02; and 6 more)"
    )
    left = scan("table", tmp_path, {}, None, lambda subject: subject.startswith("P"))
    assert left.problems == ()


def test_a_format_of_volumes_has_the_same_finding(tmp_path: Path) -> None:
    for subject in ("s1", "S01"):
        write_volume(tmp_path / f"images/{subject}.nii.gz", np.ones((4, 4, 4), np.float32), np.eye(4))
        write_volume(tmp_path / f"labels/{subject}.nii.gz", np.eye(4, dtype=np.uint8)[None].repeat(4, 0), np.eye(4))
    (problem,) = scan("nifti-pairs", tmp_path).problems
    assert "(S01 and s1)" in problem.cause


def test_two_forms_of_unicode_are_said_in_words() -> None:
    problem = alike_ids("data", ["M\u00fcller", "Mu\u0308ller"])
    assert problem is not None and "ller in 2 Unicode forms)" in problem.cause


@given(st.text(max_size=12))
def test_the_plain_form_is_plain(text: str) -> None:
    assert plain_id(plain_id(text)) == plain_id(text)
