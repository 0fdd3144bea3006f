"""Rows that are not patients: units, the header again, sums, footers, words for a missing id."""

from __future__ import annotations

from pathlib import Path

import pytest

from archipel.data import scan

HEADER = "patient_id,age,chol,disease\n"
ROWS = "".join(f"p{number:03},{40 + number},{200 + number}.5,{number % 2}\n" for number in range(1, 13))
PATIENTS = [f"p{number:03}" for number in range(1, 13)]


def scanned(root: Path, text: str, **options: str):
    (root / "table.csv").write_text(text, encoding="utf-8")
    return scan("table", root, options)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        (HEADER + "-,years,mg/dl,0/1\n" + ROWS, 2, "holds the units of the columns"),
        (HEADER + "unit,[years],[mg/dl],\n" + ROWS, 2, "holds the units of the columns"),
        (HEADER + ",Jahre,mmol/l,0/1\n" + ROWS, 2, "holds the units of the columns"),
        (HEADER + HEADER + ROWS, 2, "holds the columns' names again"),
        (HEADER + ROWS + "Patient_ID,Age,Chol,Disease\n" + ROWS.replace("p0", "q0"), 14, "holds the columns' names ag"),
        (HEADER + ROWS + "Mean,46.5,219.5,0.5\n", 14, "is not a patient but Mean"),
        (HEADER + ROWS + "Summe,558,2634,6\n", 14, "is not a patient but Summe"),
        (HEADER + ROWS + "Total: 12 patients,,,\n", 14, "is not a patient but Total: 12 patients"),
        (HEADER + ROWS + "Mean (SD),46.5,219.5,0.5\n", 14, "is not a patient but Mean (SD)"),
        (HEADER + ROWS + "\nTotal: 12 patients\n", 15, "is a remark (Total: 12 patients)"),
        (HEADER + ROWS + "Exported on 2024-03-01 by X,,,\n", 14, "is a remark (Exported on 2024-03-01 by X)"),
        (HEADER + ROWS + "# end\n", 14, "is a remark (# end)"),
    ],
)
def test_what_is_not_a_patient_is_left_out_and_its_line_is_named(
    tmp_path: Path, text: str, line: int, reason: str
) -> None:
    found = scanned(tmp_path, text)
    (problem,) = found.problems
    assert problem.severity == "warning"
    assert str(problem).startswith(f"table.csv line {line}: {reason}") and "it is left out" in problem.cause
    assert [one.subject for one in found.samples if one.subject.startswith("p")] == PATIENTS
    assert {found.schema.columns[name].type for name in ("age", "chol", "disease")} == {"number"}
    assert found.schema.columns["age"].maximum == 52.0


def test_rows_with_nothing_in_them_are_passed_over(tmp_path: Path) -> None:
    found = scanned(tmp_path, HEADER + ROWS + ",,,\n, ,,\n\n,,,\n")
    assert found.problems == () and len(found.samples) == 12


@pytest.mark.parametrize("word", ["NA", "nan", "n/a", "None", "-", "?", "NULL", "unknown", "#N/A", "k.A."])
def test_a_word_for_a_missing_value_is_not_an_id(tmp_path: Path, word: str) -> None:
    found = scanned(tmp_path, f"{HEADER}{ROWS}{word},50,200,1\n{word},51,200,1\n")
    assert [str(one).split(";")[0] for one in found.errors] == [
        f"table.csv line {line}: has no subject id (it holds {word})" for line in (14, 15)
    ]
    assert [one.subject for one in found.samples] == PATIENTS


@pytest.mark.parametrize(
    "first",
    ["p000,<50,200,1\n", "p000,40,6/12,1\n", "p000,unknown,200,1\n", "mean01,40,200,1\n", "Totalle,40,200,1\n"],
)
def test_a_patient_with_odd_values_stays_a_patient(tmp_path: Path, first: str) -> None:
    found = scanned(tmp_path, HEADER + first + ROWS)
    assert len(found.samples) == 13


def test_two_lines_of_names_are_an_error_with_the_option_that_settles_it(tmp_path: Path) -> None:
    text = "Patient,Demographics,Lab,Outcome\n" + HEADER + ROWS
    (problem,) = scanned(tmp_path, text).errors
    assert str(problem).startswith("table.csv line 2: holds columns' names, other than the first line;")
    assert problem.remedy.endswith("--option header=2")
    found = scanned(tmp_path, text, header="2")
    assert found.problems == () and set(found.schema.columns) == {"age", "chol", "disease"}


@pytest.mark.parametrize(
    "above", ["# export of 2024-03-01\n# by Dr X, Bern\n", "Cardiology register 2024\n\n", "a title\nof two\n"]
)
def test_lines_above_a_table_are_named_with_the_line_of_its_header(tmp_path: Path, above: str) -> None:
    (problem,) = scanned(tmp_path, above + HEADER + ROWS).errors
    assert problem.remedy == "if so: --option header=3"
    found = scanned(tmp_path, above + HEADER + ROWS, header="3")
    assert found.problems == () and [one.subject for one in found.samples] == PATIENTS
    # Lines are those of the file, not of the table in it.
    assert "table.csv line 16:" in str(scanned(tmp_path, f"{above}{HEADER}{ROWS}x,1\n", header="3").problems[0])


@pytest.mark.parametrize("told", ["0", "99999999999", "first", "-1"])
def test_a_header_that_is_no_line_is_refused(tmp_path: Path, told: str) -> None:
    assert "is not valid" in str(scanned(tmp_path, HEADER + ROWS, header=told).errors[0])
    assert scanned(tmp_path, HEADER + ROWS, header="900").errors


def test_the_line_that_excel_writes_says_the_delimiter(tmp_path: Path) -> None:
    text = "sep=;\r\n" + (HEADER + ROWS).replace(",", ";")
    found = scanned(tmp_path, text)
    assert found.problems == () and [one.subject for one in found.samples] == PATIENTS
    assert "table.csv line 15:" in str(scanned(tmp_path, text + "x;1\n").problems[0])


def test_spaces_divide_columns_when_told(tmp_path: Path) -> None:
    (problem,) = scanned(tmp_path, (HEADER + ROWS).replace(",", "  ")).errors
    assert problem.remedy == "if spaces divide it: --option delimiter=space"
    assert scanned(tmp_path, (HEADER + ROWS).replace(",", "  "), delimiter="space").problems == ()


def test_ids_that_a_spreadsheet_rounded_are_refused(tmp_path: Path) -> None:
    text = HEADER + "".join(f"1.2E+{number:02},40,200,1\n" for number in range(10, 20))
    (problem,) = scanned(tmp_path, text).errors
    assert problem.cause.startswith("has 10 ids as 1.2E+10: a spreadsheet rounded them")
    same = scanned(tmp_path, HEADER + "1.23457E+11,40,200,1\n1.23457E+11,41,200,1\n").errors
    assert any("a spreadsheet rounded them" in one.cause for one in same)


def test_ids_that_were_read_as_numbers_are_pointed_out(tmp_path: Path) -> None:
    text = HEADER + "".join(f"{number}.0,40,200,1\n" for number in range(1, 9))
    (problem,) = scanned(tmp_path, text).problems
    assert problem.severity == "warning" and problem.cause == "has 8 ids as 1.0: a program read them as numbers"
