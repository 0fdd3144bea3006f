"""How much a table may hold and how long its reading may take: limits that follow from the size of the file."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from archipel.data import scan
from archipel.data.files import Folder
from archipel.data.formats.covariates import compare, read_covariates
from archipel.data.formats.found_volumes import FoundVolumes
from archipel.data.limits import DATA_LIMITS
from archipel.data.tables import reading_process
from archipel.data.tables.cells import LONGEST, Form, form_of, limit_of
from archipel.data.tables.faults import Faults
from archipel.data.tables.reading_process import UNPACK_LIMITS, Reader, UnpackLimits
from archipel.data.tables.table_files import open_table
from archipel.data.tables.text_tables import Row
from archipel.vocabulary import BadInput

ENDLESS = """
def lines(path, allowance):
    while True:
        yield from ()
"""


@pytest.mark.processes
def test_a_file_that_keeps_a_processor_busy_is_named_with_its_limit(tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text(ENDLESS)
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    reader = Reader(tmp_path / "endless.py", "json", "a workbook", gain=1)
    found = reading_process.lines(tmp_path / "a.xlsx", reader, UnpackLimits(seconds=1))
    with pytest.raises(BadInput) as refused:
        next(found)
    assert str(refused.value) == (
        "a.xlsx: needs more than 1 s of processor time to be read; export it again without empty rows and columns, or "
        "as CSV"
    )


def test_what_a_file_may_unpack_to_follows_from_its_size() -> None:
    small, large = UNPACK_LIMITS.for_file(1000, 50), UNPACK_LIMITS.for_file(1 << 40, 50)
    assert (small.seconds, small.rows, small.text >> 20, small.memory >> 20) == (20, 100_250, 16, 512)
    assert large == UNPACK_LIMITS, "whatever the size, no file may take more"
    assert UNPACK_LIMITS.for_file(2 << 20, 50).seconds == 36


def test_a_packed_text_of_a_few_bytes_is_refused_by_its_lines_and_letters(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"id,age\n" + b"p,1\n" * 150_000))
    with pytest.raises(BadInput, match="unpacks to more than 100"):
        open_table(path)
    path.write_bytes(gzip.compress(b"id,age\n" + b"p,%s\n" % (b"1" * 100_000) * 200))
    with pytest.raises(BadInput, match="unpacks to more than 16 MiB of text"):
        open_table(path)


@pytest.mark.parametrize("head", [30_001, 2])
def test_a_row_of_more_fields_than_a_table_may_have_columns_is_one_error(tmp_path: Path, head: int) -> None:
    wide = b",".join(b"%d" % at for at in range(30_001)) + b"\n"
    narrow = b"id,age\n" + b"p,1\n" * 3
    (tmp_path / "a.csv").write_bytes(wide if head > 2 else narrow + wide)
    found = scan("table", tmp_path, {"subject": "id"} if head == 2 else {})
    line = 1 if head > 2 else 5
    assert [str(one) for one in found.problems] == [
        f"a.csv: has 30001 fields in line {line}; at most {DATA_LIMITS.columns} are allowed; export the columns that "
        "are needed, or a table with a row for each patient"
    ]


def test_a_long_text_is_not_searched_for_a_number() -> None:
    """Going back and trying again takes the square of its length."""
    assert limit_of("<" + "1" * (LONGEST - 1)) is not None
    assert form_of("1" * (LONGEST - 2) + "mg") is Form.UNIT
    for text in ("<" + "1" * LONGEST, "1" + " " * LONGEST + "x"):
        assert limit_of(text) is None and form_of(text) is None


def test_faulty_lines_that_each_say_another_thing_are_counted_from_some_number_on() -> None:
    faults = Faults("a.csv")
    for line in range(DATA_LIMITS.findings + 7):
        faults.line(Row(line, []), f"holds {line}", "fix it")
    found = list(faults.all())
    assert len(found) == DATA_LIMITS.findings + 1
    assert str(found[-1]).startswith("a.csv, 7 lines more: are faulty in other ways;")


def test_rows_beside_images_that_cannot_be_used_are_counted_too(tmp_path: Path) -> None:
    sound = "".join(f"p{at},1\n" for at in range(300))
    (tmp_path / "a.csv").write_text("id,age\n" + sound + "p\n" * (DATA_LIMITS.findings // 2) + "p,1,2\n" * 600)
    collector = FoundVolumes(Folder(tmp_path))
    assert read_covariates(Folder(tmp_path), "a.csv", collector) is not None
    assert len(collector.problems) == DATA_LIMITS.findings + 1
    assert str(collector.problems[-1]).startswith("a.csv: 100 lines more are left out or not used")


def test_rows_without_images_are_counted_too(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,age\n" + "".join(f"p{at},1\n" for at in range(DATA_LIMITS.findings + 5)))
    collector = FoundVolumes(Folder(tmp_path))
    table = read_covariates(Folder(tmp_path), "a.csv", collector)
    assert table is not None
    compare(collector, table, [])
    assert len(collector.problems) == DATA_LIMITS.findings + 1
    assert str(collector.problems[-1]).startswith("a.csv: 5 subjects more have a row here and no folder with volumes")
