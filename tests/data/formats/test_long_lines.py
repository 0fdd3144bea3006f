from __future__ import annotations

import pytest

from archipel.data import scan
from archipel.data.files import Folder
from archipel.data.tables.table_files import open_table


def test_a_line_that_is_no_line_of_a_table_is_named_before_it_fills_memory(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"id,x\n1," + b"1," * (5 << 20))
    found = scan("table", tmp_path, {"subject": "id"})
    assert found.samples == () and "has a line 2 of more than 8 MiB" in str(found.problems[0])


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_long_table_of_short_lines_is_read(tmp_path, end):
    (tmp_path / "a.csv").write_bytes(b"id,x" + end + (b"1,2" + end) * (9 << 20))
    assert open_table(tmp_path / "a.csv").names == ("id", "x")


def test_no_pattern_leads_out_of_the_dataset(tmp_path):
    """An option of a format becomes part of a pattern."""
    (tmp_path / "secret.csv").write_text("id,x\n1,2\n")
    (tmp_path / "data").mkdir()
    assert not list(Folder(tmp_path / "data").files("../secret.csv", []))
    assert not list(Folder(tmp_path / "data").files("../*.csv", []))
