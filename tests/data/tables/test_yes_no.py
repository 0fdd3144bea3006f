"""Columns of yes and no, of units, without values or names: each is said in one sentence, and every choice works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from archipel.data import format_named, scan
from archipel.data.tables.dictionary import ColumnReader
from worlds.data_files import write_volume


def table(root: Path, cells: list[str], header: str = "id,age,smoker") -> Path:
    lines = [f"p{number:02},{40 + number},{cell}" for number, cell in enumerate(cells)]
    (root / "table.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return root


def said(root: Path, **options: str) -> list[str]:
    return [str(one) for one in scan("table", root, options).problems]


def values(root: Path, column: str, **options: str) -> list[object]:
    found = scan("table", root, options)
    return [one.values.get(column) for one in format_named("table").read(root, found.samples, options)]


def typed(text: str) -> list[dict[str, str]]:
    found = []
    for words in re.findall(r"--option (\"[^\"]*\"|'[^']*'|\S+)", text):
        name, _, value = shlex.split(words)[0].rstrip(";").partition("=")
        found.append({name: value})
    return found


def check_choices(root: Path) -> None:
    """Each option that is proposed ends the finding when it is typed."""
    (line,) = said(root)
    assert typed(line)
    for options in typed(line):
        assert said(root, **options) == [], options


def test_yes_and_no_in_many_spellings_is_one_finding(tmp_path: Path) -> None:
    cells = [
        "yes",
        "no",
        "Yes",
        "NO",
        "y",
        "n",
        "1",
        "0",
        "ja",
        "nein",
        "true",
        "FALSE",
        "n/a",
        "wahr",
        "falsch",
        "oui",
    ]
    table(tmp_path, cells)
    assert said(tmp_path) == [
        "table.csv: column smoker says yes and no in 15 spellings in 15 rows (line 2 holds yes, line 3 holds no, line "
        "4 holds Yes, and 12 more); it is read as text; choose --option yes_no=smoker (read as yes and no) or --option "
        "text=smoker"
    ]
    check_choices(tmp_path)
    read = values(tmp_path, "smoker", yes_no="smoker")
    assert read[:6] == ["yes", "no", "yes", "no", "yes", "no"] and read[12:] == [None, "yes", "no", "yes"]
    column = scan("table", tmp_path, {"yes_no": "smoker"}).schema.columns["smoker"]
    assert (column.type, column.categories, column.missing_codes) == ("category", {"no": 7, "yes": 8}, {"n/a": 1})


@pytest.mark.parametrize(
    "cells", [["yes", "no", "no"], ["1", "0", "1"], ["ja", "nein", ""], ["F", "f", "M"], ["y", "y", "y"]]
)
def test_one_spelling_of_each_is_a_category(tmp_path: Path, cells: list[str]) -> None:
    assert said(table(tmp_path, cells)) == []


def test_a_mark_beside_empty_cells_is_asked_about(tmp_path: Path) -> None:
    table(tmp_path, ["x", "", "", "X", ""])
    assert said(tmp_path) == [
        "table.csv: column smoker holds X in 2 of 5 rows and nothing in the others; it is read as text; choose "
        "--option marked=smoker (a mark is yes, nothing is no) or --option text=smoker"
    ]
    check_choices(tmp_path)
    assert values(tmp_path, "smoker", marked="smoker") == ["yes", "no", "no", "yes", "no"]
    assert values(tmp_path, "smoker") == ["x", None, None, "X", None]


def test_what_says_neither_is_missing_and_counted(tmp_path: Path) -> None:
    table(tmp_path, ["yes", "No", "perhaps", "no"])
    assert values(tmp_path, "smoker", yes_no="smoker") == ["yes", "no", None, "no"]
    column = scan("table", tmp_path, {"yes_no": "smoker"}).schema.columns["smoker"]
    assert column.missing_codes == {"not yes or no": 1} and column.missing == 1


def test_words_for_a_missing_value_are_missing_and_those_that_may_be_values_are_asked_about(tmp_path: Path) -> None:
    table(tmp_path, ["k.A.", "Keine Angabe", "non disponible", "NULL", "#N/A", "5", "6"])
    assert said(tmp_path) == [] and values(tmp_path, "smoker")[:6] == [None] * 5 + [5.0]
    table(tmp_path, ["-", ".", "unknown", "None", "n/a"])
    (line,) = said(tmp_path)
    assert line.startswith(
        "table.csv: column smoker holds only words for a missing value (line 2 holds -, line 3 holds .,"
    )
    check_choices(tmp_path)
    assert values(tmp_path, "smoker", number="smoker") == [None] * 5
    table(tmp_path, ["-", ".", "#DIV/0!", "unknown", "7", "8"])
    (line,) = said(tmp_path)
    assert "2 of 6 values are numbers; line 2 holds -, line 3 holds ., line 4 holds #DIV/0!, and 1 more" in line
    check_choices(tmp_path)
    # A sign that is one of two results is a result.
    assert said(table(tmp_path, ["-", "+", "-"])) == [] and values(tmp_path, "smoker") == ["-", "+", "-"]
    assert said(table(tmp_path, ["none", "mild", "severe", "none"])) == []


def test_a_column_without_a_value_is_said(tmp_path: Path) -> None:
    assert said(table(tmp_path, ["", "NA", "NA"])) == [
        "table.csv: column smoker (NA in 2) holds no value in any of 3 rows; export the table again with its values, "
        "or remove the column"
    ]
    names = ",".join(f"c{number}" for number in range(9))
    (tmp_path / "table.csv").write_text(f"id,age,{names}\n" + "".join(f"p{one},4{one}{',' * 9}\n" for one in range(3)))
    (line,) = said(tmp_path)
    assert "9 columns hold no value in any of 3 rows: c0, c1, c2, c3, c4 and 4 more" in line


def test_an_index_that_a_program_wrote_is_named_as_one(tmp_path: Path) -> None:
    for header, called in (
        ("Unnamed: 0,id,age", "column Unnamed: 0"),
        (",id,age", "column 1 has no name; it is called column_1 here and"),
    ):
        (tmp_path / "table.csv").write_text(header + "".join(f"\n{one},p{one},{40 + one}" for one in range(3)))
        (line,) = said(tmp_path)
        assert f"{called} counts the rows, as an index that a program wrote" in line
    (tmp_path / "table.csv").write_text("id,age,\na,40,5\nb,41,3\n")
    assert said(tmp_path) == ["table.csv: column 3 has no name; it is called column_3 here; name it in the file"]
    (tmp_path / "table.csv").write_text("id,age,\na,40,\nb,41,\n")
    (line,) = said(tmp_path)
    assert line.startswith("table.csv: column 3, which has no name, holds no value in any of 2 rows")


@pytest.mark.parametrize(
    ("cells", "option", "expected"),
    [
        (["201 mg/dl", "202 mg/dl", "7"], {"unit": "smoker:mg/dl"}, [201.0, 202.0, 7.0]),
        (["5%", "10 %", "12.5%"], {"unit": "smoker:%"}, [5.0, 10.0, 12.5]),
        (["5 kg", "6 g", "7 kg"], {"unit": "smoker:kg"}, [5.0, None, 7.0]),
        (["0x11", "0x1f", "0x20"], {"number": "smoker"}, [17.0, 31.0, 32.0]),
    ],
)
def test_numbers_with_units_and_hexadecimal_ones_are_read_where_the_site_says_so(
    tmp_path: Path, cells: list[str], option: dict[str, str], expected: list[float | None]
) -> None:
    table(tmp_path, cells)
    assert values(tmp_path, "smoker", **option) == expected
    column = scan("table", tmp_path, option).schema.columns["smoker"]
    assert column.type == "number" and column.unit == option.get("unit", ":").rpartition(":")[2]


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (
            ["201 mg/dl", "202 mg/dl"],
            "choose --option unit=smoker:mg/dl (numbers in mg/dl; other cells are missing) or",
        ),
        (["5%", "10%"], "choose --option unit=smoker:% (numbers in %; other cells are missing) or"),
        (["0x11", "0x12"], "choose --option number=smoker (0x1f is read as 31, what is not a number is missing) or"),
        (["=A1+1", "=A2+1"], "export the values of the formulas, or choose --option text=smoker"),
        (["1_01", "1_02"], "write them as plain numbers, or choose --option text=smoker"),
    ],
)
def test_numbers_in_another_form_have_a_way_out(tmp_path: Path, cells: list[str], words: str) -> None:
    (line,) = said(table(tmp_path, cells))
    assert f"none of 2 values is a plain number; line 2 holds {cells[0]}, line 3 holds {cells[1]}" in line
    assert words in line
    check_choices(tmp_path)


@pytest.mark.parametrize("given", ["smoker", "smoker:", "smoker:" + "x" * 50])
def test_a_unit_that_is_none_is_refused(tmp_path: Path, given: str) -> None:
    (problem,) = scan("table", table(tmp_path, ["1", "2"]), {"unit": given}).errors
    assert "names no unit" in problem.cause and "unit=chol:mg/dl" in problem.remedy


def test_the_unit_one_is_not_cut_from_a_number(tmp_path: Path) -> None:
    assert values(table(tmp_path, ["201", "21", "5 1"]), "smoker", unit="smoker:1") == [201.0, 21.0, 5.0]


def test_columns_beside_volumes_have_the_same_choices(tmp_path: Path) -> None:
    for number in range(1, 4):
        write_volume(tmp_path / f"sub-{number}/T1/a.nii.gz", np.arange(8, dtype=np.float32).reshape(2, 2, 2), np.eye(4))
    text = "id,smoker,met,weight,void\nsub-1,Yes,x,70 kg,\nsub-2,no,,71 kg,\nsub-3,yes,x,72 kg,\n"
    (tmp_path / "demographics.csv").write_text(text)
    lines = [str(one) for one in scan("medical-folder", tmp_path).problems]
    assert [next(iter(typed(line)), {}) for line in lines] == [
        {}, {"yes_no": "smoker"}, {"marked": "met"}, {"unit": "weight:kg"}
    ]  # fmt: skip
    assert "column void holds no value in any of 3 rows" in lines[0]
    chosen = {"yes_no": "smoker", "marked": "met", "unit": "weight:kg"}
    found = scan("medical-folder", tmp_path, chosen)
    assert [dict(one.values) for one in found.samples] == [
        {"smoker": "yes", "met": "yes", "weight": 70.0},
        {"smoker": "no", "met": "no", "weight": 71.0},
        {"smoker": "yes", "met": "yes", "weight": 72.0},
    ]


def test_a_plain_reader_has_no_unit() -> None:
    assert ColumnReader(None)("5 kg") == "5 kg"
