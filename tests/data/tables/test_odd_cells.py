"""Cells that are not numbers in columns of numbers: named, counted, and chosen about by the site."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archipel.data import Cohort, DataMapping, RawSource, Verdict, check_needs, format_named, scan, split
from archipel.data.formats import settled
from archipel.data.tables.cells import Form, form_of, limit_of, without_thousands
from archipel.data.tables.dictionary import ColumnReader, ColumnRule
from archipel.data.tables.row_kinds import RowKinds
from archipel.data.tables.table_files import TableFile
from archipel.data.tables.table_rows import Columns, PatientTable
from archipel.data.tables.text_tables import Row
from archipel.tensors import blob_hash
from archipel.vocabulary import BadInput, ColumnNeed, DataNeeds

PLAIN = [f"p{number:03},{40 + number},{200 + number},{number % 2}" for number in range(1, 13)]
NEEDS = DataNeeds(kind="table", columns=(ColumnNeed(name="chol"),), target=ColumnNeed(name="ill"))


def table(root: Path, cells: dict[int, str], delimiter: str = ",") -> Path:
    """Twelve patients; ``cells`` are the values of chol that are not plain, by line."""
    lines = ["id,age,chol,ill", *PLAIN]
    for line, cell in cells.items():
        fields = lines[line - 1].split(",")
        fields[2] = f'"{cell}"' if delimiter in cell else cell
        lines[line - 1] = delimiter.join(fields)
    if delimiter != ",":
        lines = [one if delimiter in one else one.replace(",", delimiter) for one in lines]
    root.mkdir(exist_ok=True)
    (root / "table.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def values(root: Path, options: dict[str, str], column: str = "chol") -> list[object]:
    found = scan("table", root, options)
    return [one.values.get(column) for one in format_named("table").read(root, found.samples, options)]


def remedies(texts: list[str]) -> list[dict[str, str]]:
    """Each option that the texts propose, as typed into a shell."""
    found = []
    for text in texts:
        for words in re.findall(r"--option (\"[^\"]*\"|'[^']*'|\S+)", text):
            name, _, value = shlex.split(words)[0].rstrip(";").partition("=")
            found.append({name: value})
    return found


@given(st.lists(st.text(max_size=6), min_size=2, max_size=2), st.permutations(["b", "a", "\u00e9"]))
def test_a_row_is_hashed_as_json_by_the_names_of_its_columns(fields: list[str], names: list[str]) -> None:
    file = TableFile(Path("t.csv"), tuple(names[:2]), None)
    row = PatientTable(file, Columns(0, None, None, ()), RowKinds(file.names, 0)).hash(Row(2, fields))
    stripped = {name: field.strip() for name, field in zip(file.names, fields, strict=True)}
    assert row == blob_hash(json.dumps(stripped, sort_keys=True).encode())


@pytest.mark.parametrize("code", ["-9", "-9.0", "NA"])
def test_a_number_that_stands_for_a_missing_value_is_missing_and_no_other_is(code: str) -> None:
    reader = ColumnReader(ColumnRule(type="number", missing=(code,)))
    assert [reader(text) for text in ("-9.00", "9", " 1e1 ", "-0")] == [None if code != "NA" else -9, 9, 10, 0]
    assert reader(code) is None
    zeros = ColumnReader(ColumnRule(type="number", impossible_zero=True))
    assert (zeros("0.0"), zeros("1"), zeros.codes) == (None, 1, {"impossible 0": 1})


@pytest.mark.parametrize(
    "cell",
    ["<50", "#VALUE!", "1 200.5", "\u22123.5", "89+", "18 mo", "5%", "=A1+1", "inf", "1e400", "0x1f", "1_000",
     "unknown", "1,203.5"],
)  # fmt: skip
def test_one_odd_cell_is_named_with_its_line_and_the_numbers_are_counted(tmp_path: Path, cell: str) -> None:
    (problem,) = scan("table", table(tmp_path, {3: cell})).problems
    assert problem.severity == "warning"
    assert problem.cause == f"column chol: 11 of 12 values are numbers; line 3 holds {cell}; it is read as text"
    # A plan that needs numbers is not met by texts, so that nothing trains before the site has chosen.
    found = scan("table", tmp_path)
    (answer,) = (one for one in check_needs(NEEDS, found.schema, DataMapping()) if one.need == "column chol")
    assert answer.verdict is Verdict.NOT_MET and "is of type text" in answer.why
    # Each option that is proposed settles it when it is typed.
    for options in remedies([str(problem)]):
        assert scan("table", tmp_path, options).problems == (), options
    assert {"number": "chol"} in remedies([str(problem)]) and {"text": "chol"} in remedies([str(problem)])


def test_several_odd_cells_are_counted_and_the_first_are_shown(tmp_path: Path) -> None:
    (problem,) = scan("table", table(tmp_path, {2: "<50", 3: ">500", 5: "#REF!", 8: "x", 9: "y"})).problems
    shown = "line 2 holds <50, line 3 holds >500, line 5 holds #REF!, and 2 more"
    assert problem.cause == f"column chol: 7 of 12 values are numbers; {shown}; it is read as text"


def test_cells_that_are_not_numbers_are_missing_where_the_site_says_number(tmp_path: Path) -> None:
    table(tmp_path, {3: "<50", 4: "#VALUE!", 5: "\u22123.5", 6: "?"})
    options = {"number": "chol"}
    assert values(tmp_path, options)[:6] == [201.0, None, None, -3.5, None, 206.0]
    found = scan("table", tmp_path, options)
    assert found.problems == () and found.schema.columns["chol"].type == "number"
    assert found.schema.columns["chol"].missing == 3
    assert found.schema.columns["chol"].missing_codes == {"not a number": 2, "?": 1}
    assert [one.missing for one in found.samples[:5]] == [(), ("chol",), ("chol",), (), ("chol",)]


def test_limits_are_kept_as_limits_where_the_site_says_censored(tmp_path: Path) -> None:
    table(tmp_path, {3: "<50", 4: ">= 500", 5: "89+", 6: "#VALUE!"})
    options = {"censored": "chol"}
    assert values(tmp_path, options)[:5] == [201.0, 50.0, 500.0, 89.0, None]
    assert values(tmp_path, options, "chol_censored")[:5] == ["measured", "below", "above", "above", None]
    found = scan("table", tmp_path, options)
    assert found.problems == ()
    chol, sides = found.schema.columns["chol"], found.schema.columns["chol_censored"]
    assert (chol.type, chol.limits, chol.minimum, chol.maximum) == ("censored", 3, 50.0, 500.0)
    assert sides.type == "category" and sides.categories == {"above": 2, "below": 1, "measured": 8}
    answers = check_needs(NEEDS, found.schema, DataMapping(drop_incomplete=True))
    (answer,) = (one for one in answers if one.need == "column chol")
    assert answer.verdict is Verdict.MAPPED
    assert "3 values of chol are limits, given as the limit itself" in answer.why


def test_what_a_plan_gets_of_a_censored_column(tmp_path: Path) -> None:
    table(tmp_path, {3: "<50"})
    options = {"censored": "chol"}
    cohort = Cohort(dataset="t", format="table", options=options, samples=scan("table", tmp_path, options).samples)
    side = ColumnNeed(name="chol_censored", categories=("measured", "below", "above"))
    needs = NEEDS.model_copy(update={"columns": (ColumnNeed(name="chol"), side)})
    training, _ = split(RawSource(tmp_path, cohort), cohort, 0.0, needs)
    assert training.table().x[:3].tolist() == [[201.0, 0.0], [50.0, 1.0], [203.0, 0.0]]


def test_a_censored_column_does_not_replace_one_of_the_file(tmp_path: Path) -> None:
    text = table(tmp_path, {3: "<50"}).joinpath("table.csv").read_text().replace("age", "chol_censored", 1)
    (tmp_path / "table.csv").write_text(text)
    (problem,) = scan("table", tmp_path, {"censored": "chol"}).errors
    assert "has a column chol_censored" in problem.cause


def test_a_column_of_texts_with_some_numbers_is_none_of_numbers(tmp_path: Path) -> None:
    table(tmp_path, {line: f"ward {line}" for line in range(2, 10)})
    assert scan("table", tmp_path).problems == ()
    assert values(tmp_path, {"text": "chol"})[8:] == ["209", "210", "211", "212"]


def test_the_dictionary_chooses_as_the_options_do(tmp_path: Path) -> None:
    table(tmp_path / "data", {3: "<50", 4: "x"})
    words = tmp_path / "words.toml"
    for text, expected in (
        ('type = "number"\nodd = "missing"', [201.0, None, None]),
        ('type = "censored"\nodd = "missing"', [201.0, 50.0, None]),
        ('type = "text"', ["201", "<50", "x"]),
    ):
        words.write_text(f"[column.chol]\n{text}\n")
        options = settled("table", tmp_path / "data", {"dictionary": str(words)})
        assert values(tmp_path / "data", options)[:3] == expected


def test_a_declared_number_names_line_value_and_the_options(tmp_path: Path) -> None:
    table(tmp_path / "data", {3: "<50", 4: "old"})
    (tmp_path / "words.toml").write_text('[column.chol]\ntype = "number"\n')
    options = settled("table", tmp_path / "data", {"dictionary": str(tmp_path / "words.toml")})
    first, second = map(str, scan("table", tmp_path / "data", options).problems)
    choice = "--option number=chol (what is not a number is missing)"
    chosen = f"fix the value, or choose --option censored=chol, {choice}"
    assert first == f"table.csv line 3: chol is <50, not a number; {chosen}"
    assert second == f"table.csv line 4: chol is old, not a number; fix the value, or choose {choice}"
    for settling in remedies([first.replace("chol,", "chol")]):
        again = scan("table", tmp_path / "data", options | settling)
        assert not any("line 3" in str(one) for one in again.problems)


# Decimal marks and marks between thousands


def test_points_that_may_stand_between_thousands_are_asked_about(tmp_path: Path) -> None:
    table(tmp_path, {line: f"{149 + line}.000" for line in range(2, 14)}, ";")
    found = scan("table", tmp_path)
    assert found.samples == ()
    (line,) = map(str, found.errors)
    assert line == (
        "table.csv: has 12 numbers as 151.000 (line 2, column chol), which may be 151 or 151000; choose "
        "--option decimal=. (a point before decimals) or --option thousands=. (between thousands)"
    )
    assert values(tmp_path, {"decimal": "."})[0] == 151.0
    assert values(tmp_path, {"thousands": "."})[0] == 151_000.0
    assert remedies([line]) == [{"decimal": "."}, {"thousands": "."}]


def test_one_such_number_is_asked_about_and_a_decimal_point_elsewhere_settles_it(tmp_path: Path) -> None:
    table(tmp_path, {3: "150.000"}, ";")
    assert "has 1 number as 150.000 (line 3, column chol)" in str(scan("table", tmp_path).errors[0])
    table(tmp_path, {3: "150.000", 4: "12.5"}, ";")
    assert scan("table", tmp_path).problems == () and values(tmp_path, {})[1] == 150.0
    table(tmp_path, {3: "0.736"}, ";")
    assert scan("table", tmp_path).problems == ()
    table(tmp_path, {3: "150.000"})
    assert scan("table", tmp_path).problems == () and values(tmp_path, {})[1] == 150.0


def test_a_decimal_comma_and_points_between_thousands_are_read_when_told(tmp_path: Path) -> None:
    table(tmp_path, {2: "1.234,5", 3: "12,5", 4: "150.000"}, ";")
    assert values(tmp_path, {"thousands": "."})[:3] == [1234.5, 12.5, 150_000.0]
    assert values(tmp_path, {"thousands": ".", "decimal": ","})[:3] == [1234.5, 12.5, 150_000.0]


@pytest.mark.parametrize(
    ("told", "cell"),
    [("space", "1 200.5"), ("space", "1\u202f200.5"), (",", "1,200.5"), ("apostrophe", "1'200.5")],
)
def test_marks_between_thousands_are_read_when_told(tmp_path: Path, told: str, cell: str) -> None:
    table(tmp_path, {3: cell})
    (problem,) = scan("table", tmp_path).problems
    assert f"--option thousands={told} " in problem.remedy
    assert values(tmp_path, {"thousands": told})[1] == 1200.5


def test_a_comma_before_three_digits_may_be_either(tmp_path: Path) -> None:
    table(tmp_path, {line: f"1,{200 + line}" for line in range(2, 14)})
    (problem,) = scan("table", tmp_path).problems
    assert problem.remedy.endswith("if the comma stands between thousands, --option thousands=,")
    assert values(tmp_path, {"decimal": ","})[0] == 1.202 and values(tmp_path, {"thousands": ","})[0] == 1202.0


@pytest.mark.parametrize("options", [{"thousands": "x"}, {"thousands": ",", "decimal": ","}, {"decimal": "x"}])
def test_marks_that_cannot_be_are_refused(tmp_path: Path, options: dict[str, str]) -> None:
    (problem,) = scan("table", table(tmp_path, {}), options).errors
    assert "is not valid" in problem.cause


@pytest.mark.parametrize("option", ["number", "censored", "text", "keep"])
def test_a_column_that_an_option_names_must_be_there(tmp_path: Path, option: str) -> None:
    (problem,) = scan("table", table(tmp_path, {}), {option: "age,weight"}).errors
    assert problem.cause == "has no column weight (it has id, age, chol, ill)"


def test_names_with_spaces_and_commas_can_be_typed(tmp_path: Path) -> None:
    text = table(tmp_path, {3: "<50"}).joinpath("table.csv").read_text().replace("chol", '"CHOL [mg/dl], fasting"', 1)
    (tmp_path / "table.csv").write_text(text)
    (problem,) = scan("table", tmp_path).problems
    assert len(remedies([str(problem)])) == 3
    for options in remedies([str(problem)]):
        assert scan("table", tmp_path, options).problems == (), options


def test_days_of_a_spreadsheet_are_not_numbers_unseen(tmp_path: Path) -> None:
    lines = ["id,visit,steps,age", *(f"p{number},{45_000 + number},{45_000 + number},40" for number in range(9))]
    (tmp_path / "table.csv").write_text("\n".join(lines))
    (problem,) = scan("table", tmp_path).problems
    assert problem.cause == (
        "column visit holds 9 whole numbers, perhaps days as a spreadsheet counts them (45000 is 2023-03-15)"
    )
    assert remedies([str(problem)]) == [{"text": "visit"}, {"number": "visit"}]
    for options in remedies([str(problem)]):
        assert scan("table", tmp_path, options).problems == ()


@pytest.mark.parametrize(
    ("text", "form"),
    [("<50", Form.LIMIT), ("\u2264 5", Form.LIMIT), ("89+", Form.LIMIT), ("#VALUE!", Form.ERROR), ("=A1", Form.FORMULA),
     ("12 kg", Form.UNIT), ("5%", Form.UNIT), ("1 200.5", Form.GROUPED), ("1.200,5", Form.GROUPED), ("3,5", Form.COMMA),
     ("\u22121", Form.MINUS), ("0x1f", Form.HEXADECIMAL), ("1_0", Form.DIGITS), ("-", Form.NO_VALUE),
     ("Unknown", Form.NO_VALUE), ("yes", None), ("12 March 2024", None), ("A12", None), ("", None)],
)  # fmt: skip
def test_the_form_of_a_text(text: str, form: Form | None) -> None:
    assert form_of(text) is form


@given(st.text(max_size=30))
def test_any_text_has_a_form_or_none(text: str) -> None:
    assert form_of(text) in (None, *Form)
    limit = limit_of(text)
    assert limit is None or limit.side in ("below", "above")


@given(st.integers(0, 10**12), st.sampled_from([" ", ",", "'"]))
def test_marks_between_thousands_are_taken_out_and_nothing_else(number: int, mark: str) -> None:
    assert without_thousands(f"{number:,}".replace(",", mark), mark, ".") == str(number)
    assert without_thousands(str(number), mark, ".") == str(number)


def test_the_same_choice_is_read_after_a_cohort_is_frozen(tmp_path: Path) -> None:
    table(tmp_path, {3: "<50"})
    options = settled("table", tmp_path, {"number": "chol"})
    found = scan("table", tmp_path, options)
    # The odd cell of another patient changes nothing for this one.
    table(tmp_path, {3: "x"})
    (reading,) = format_named("table").read(tmp_path, found.samples[:1], options)
    assert reading.values["chol"] == 201.0
    with pytest.raises(BadInput, match="has other content"):
        format_named("table").verify(tmp_path, found.samples, options)
