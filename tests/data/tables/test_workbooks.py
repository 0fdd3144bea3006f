"""Excel workbooks as tables: values, sheets, formulas, and files that only claim to be one."""

from __future__ import annotations

import datetime
import re
import zipfile
from pathlib import Path

import pytest

from archipel.data import Cohort, format_named, scan, verify
from archipel.data.formats import detect
from archipel.data.tables import workbook_files
from archipel.data.tables.reading_process import UnpackLimits
from archipel.data.tables.table_files import open_table
from archipel.vocabulary import BadInput

pytestmark = pytest.mark.processes

DAY = datetime.datetime(2024, 3, 1, tzinfo=datetime.UTC).replace(tzinfo=None)
ROWS: list[list[object]] = [
    ["patient_id", "age", "chol", "seen"],
    *([f"p{n}", 40 + n, 200.5 + n, DAY] for n in range(1, 7)),
]


def book(path: Path, sheets: dict[str, list[list[object]]], hidden: str = "") -> Path:
    from openpyxl import Workbook

    path.parent.mkdir(parents=True, exist_ok=True)
    made = Workbook()
    made.remove(made.active)
    for name, rows in sheets.items():
        sheet = made.create_sheet(name)
        for row in rows:
            sheet.append(row)
        if name == hidden:
            sheet.sheet_state = "hidden"
    made.save(path)
    return path


def repacked(path: Path, part: str, change) -> None:
    with zipfile.ZipFile(path) as archive:
        parts = {one: archive.read(one) for one in archive.namelist()}
    parts[part] = change(parts[part])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


SHEET = "xl/worksheets/sheet1.xml"


def test_a_workbook_is_read_as_a_text_is(tmp_path: Path) -> None:
    book(tmp_path / "table.xlsx", {"Sheet1": ROWS, "Sheet2": [], "notes": [["x", "y"]]}, hidden="notes")
    assert [fit.format for fit in detect(tmp_path)] == ["table"]
    found = scan("table", tmp_path)
    assert found.problems == () and [one.subject for one in found.samples] == [f"p{n}" for n in range(1, 7)]
    columns = found.schema.columns
    assert (columns["age"].type, columns["chol"].maximum, columns["seen"].type) == ("number", 206.5, "category")
    reading = next(iter(format_named("table").read(tmp_path, found.samples, {})))
    assert reading.values == {"age": 41.0, "chol": 201.5, "seen": "2024-03-01"}
    cohort = Cohort(dataset="t", format="table", samples=found.samples)
    verify(tmp_path, cohort)
    book(tmp_path / "table.xlsx", {"Sheet1": [*ROWS[:3], [*ROWS[3][:2], 1.5, ROWS[3][3]], *ROWS[4:]]})
    with pytest.raises(BadInput, match=r"table\.xlsx: line 4 \(p3\) has other content"):
        verify(tmp_path, cohort)


def test_several_sheets_are_named_and_asked_for(tmp_path: Path) -> None:
    book(tmp_path / "table.xlsx", {"visit 1": ROWS, "visit 2": ROWS[:3]})
    (problem,) = scan("table", tmp_path).errors
    assert problem.cause == "has 2 sheets with values (visit 1, visit 2)"
    assert problem.remedy == "choose one, for example --option 'sheet=visit 1'"
    assert len(scan("table", tmp_path, {"sheet": "visit 1"}).samples) == 6
    assert len(scan("table", tmp_path, {"sheet": "visit 2"}).samples) == 2
    (problem,) = scan("table", tmp_path, {"sheet": "visit 3"}).errors
    assert problem.cause == "has no sheet visit 3 (it has visit 1, visit 2)"
    assert problem.remedy == "choose one with --option 'sheet=visit 1'"


def test_odd_cells_units_and_lines_above_are_named_with_their_rows(tmp_path: Path) -> None:
    units, odd = ["-", "years", "mg/dl", "date"], ["p9", "89+", "#VALUE!", None]
    book(tmp_path / "table.xlsx", {"s": [ROWS[0], units, *ROWS[1:], odd, ["Mean", 43.5, 204.0, None]]})
    said = [str(one) for one in scan("table", tmp_path).problems]
    assert said[0].startswith("table.xlsx line 2: holds the units of the columns")
    assert said[1].startswith("table.xlsx line 10: is not a patient but Mean")
    assert "column age: 6 of 7 values are numbers; line 9 holds 89+" in said[2]
    assert "column chol: 6 of 7 values are numbers; line 9 holds #VALUE!" in said[3]
    book(tmp_path / "table.xlsx", {"s": [["A register"], [], *ROWS]})
    (problem,) = scan("table", tmp_path).errors
    assert problem.remedy == "if the columns' names are in row 3: --option header=3"
    assert scan("table", tmp_path, {"header": "3"}).problems == ()


def test_a_formula_gives_its_stored_value_and_one_without_is_an_odd_cell(tmp_path: Path) -> None:
    path = book(tmp_path / "table.xlsx", {"s": [ROWS[0][:3], *([f"p{n}", n, "=B2*2"] for n in range(1, 6))]})
    (problem,) = scan("table", tmp_path).problems
    assert "column chol: none of 5 values is a plain number; line 2 holds =B2*2" in str(problem)
    repacked(path, SHEET, lambda text: text.replace(b"<f>B2*2</f><v />", b"<f>B2*2</f><v>8.5</v>", 4))
    found = scan("table", tmp_path)
    assert "column chol: 4 of 5 values are numbers; line 6 holds =B2*2" in str(found.problems[0])
    assert next(iter(format_named("table").read(tmp_path, found.samples, {}))).values["chol"] == 8.5


def test_a_day_without_the_format_of_a_date_is_pointed_out(tmp_path: Path) -> None:
    book(tmp_path / "table.xlsx", {"s": [["id", "visit", "age"], *([f"p{n}", 45_000 + n, 40] for n in range(5))]})
    (problem,) = scan("table", tmp_path).problems
    assert "column visit holds 5 whole numbers, perhaps days as a spreadsheet counts them" in str(problem)


def test_a_workbook_that_unpacks_to_too_much_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = book(tmp_path / "table.xlsx", {"s": ROWS})
    repacked(path, SHEET, lambda text: text + b" " * (1 << 24))
    assert path.stat().st_size < 1 << 16
    with pytest.raises(BadInput, match="unpacks to more than 1 MiB of text"):
        open_table(path, limits=UnpackLimits(text=1 << 20))
    assert scan("table", tmp_path).problems == ()


def shared(path: Path) -> None:
    """Keep the texts in a part of their own, as Excel does."""
    with zipfile.ZipFile(path) as archive:
        parts = {one: archive.read(one).decode() for one in archive.namelist()}
    texts: list[str] = []

    def to_number(found: re.Match[str]) -> str:
        texts.append(found[1])
        return f' t="s"><v>{len(texts) - 1}</v></c>'

    parts[SHEET] = re.sub(r' t="inlineStr"><is><t>(.*?)</t></is></c>', to_number, parts[SHEET])
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    items = "".join(f"<si><t>{text}</t></si>" for text in texts)
    parts["xl/sharedStrings.xml"] = f'<sst xmlns="{main}">{items}</sst>'
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"
    types = parts["[Content_Types].xml"]
    override = f'<Override PartName="/xl/sharedStrings.xml" ContentType="{kind}"/></Types>'
    parts["[Content_Types].xml"] = types.replace("</Types>", override)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def test_texts_that_excel_keeps_apart_are_read(tmp_path: Path) -> None:
    shared(book(tmp_path / "table.xlsx", {"s": ROWS}))
    found = scan("table", tmp_path)
    assert found.problems == () and [one.subject for one in found.samples] == [f"p{n}" for n in range(1, 7)]


def test_a_workbook_is_read_three_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To open it, for repeated rows, and for what its columns hold: each reading begins a process."""
    book(tmp_path / "table.xlsx", {"s": ROWS})
    started, lines = [], workbook_files.lines
    monkeypatch.setattr(workbook_files, "lines", lambda *given: started.append(given) or lines(*given))
    assert len(scan("table", tmp_path).samples) == 6
    assert len(started) == 3


def test_a_sheet_of_too_many_rows_or_cells_is_refused(tmp_path: Path) -> None:
    path = book(tmp_path / "table.xlsx", {"s": ROWS})
    with pytest.raises(BadInput, match="unpacks to more than 3 rows"):
        list(open_table(path, limits=UnpackLimits(rows=3)).rows())
    # A row far to the right or far below takes few bytes and very many cells.
    repacked(path, SHEET, lambda text: text.replace(b'r="D7"', b'r="XFD7"'))
    assert any("fields where there are 4 columns" in str(one) for one in scan("table", tmp_path).errors)
    repacked(path, SHEET, lambda text: text.replace(b'<row r="7"', b'<row r="99999999"'))
    with pytest.raises(BadInput, match="unpacks to more than"):
        list(open_table(path).rows())


def test_a_reader_gets_no_more_memory_than_it_may_have(tmp_path: Path) -> None:
    path = book(tmp_path / "table.xlsx", {"s": ROWS})
    repacked(path, SHEET, lambda text: text.replace(b">p1<", b">" + b"x" * (15 << 20) + b"<", 1))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(BadInput, match="more than 70 MiB in memory"):
        list(open_table(path, limits=UnpackLimits(memory=70 << 20)).rows())
    with pytest.raises(BadInput, match="of more than 8 MiB"):
        list(open_table(path).rows())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<html><table><tr><td>id</td></tr></table></html>", "is not an Excel workbook but a web page (HTML)"),
        (b"id,age\na,1\n", "is not an Excel workbook but text; name it .csv"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 64, "but an old Excel workbook (.xls), or one with a password"),
        (b"PK\x03\x04" + b"\0" * 100, "is an Excel workbook that is damaged (BadZipFile); copy it again"),
        (b"", "but an empty file"),
    ],
)
def test_what_is_called_a_workbook_and_is_none_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "table.xlsx").write_bytes(content)
    (problem,) = scan("table", tmp_path).errors
    assert said in str(problem)


def test_a_workbook_that_is_called_csv_is_named_with_the_name_to_give(tmp_path: Path) -> None:
    book(tmp_path / "other.xlsx", {"s": ROWS}).rename(tmp_path / "table.csv")
    (problem,) = scan("table", tmp_path).errors
    assert str(problem) == "table.csv: is not text but an Excel workbook; name it table.xlsx"
    with zipfile.ZipFile(tmp_path / "table.csv", "w") as archive:
        archive.writestr("a.csv", "id,age\n")
    assert "is not text but a zip archive; unpack it" in str(scan("table", tmp_path).errors[0])


def test_a_workbook_without_its_parts_is_a_damaged_one_whatever_it_is_called(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "table.csv", "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/workbook.xml", "<workbook/>")
    (problem,) = scan("table", tmp_path).errors
    assert problem.remedy == "name it table.xlsx"
    # The way out is not one back to where it came from.
    (tmp_path / "table.csv").rename(tmp_path / "table.xlsx")
    (problem,) = scan("table", tmp_path).errors
    assert problem.cause.startswith("is an Excel workbook that is damaged (") and ".csv" not in problem.remedy
    assert "copy it again from its source, or export it again" in problem.remedy


@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_half_a_workbook_under_another_name_is_damaged(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04" + b"\0" * 100)
    (problem,) = scan("table", tmp_path).errors
    assert "a zip archive or a workbook that is damaged or breaks off; copy it again" in str(problem)
