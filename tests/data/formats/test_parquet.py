"""Parquet files made to fill memory: their size says nothing of what they unpack to."""

from __future__ import annotations

import re
import subprocess
import sys

import pyarrow
import pytest
from pyarrow import parquet

from archipel.data import scan
from archipel.data.tables.reading_process import UnpackLimits
from archipel.data.tables.table_files import open_table
from archipel.vocabulary import BadInput

pytestmark = pytest.mark.processes  # each reading of such a file is a process of its own


def repeated(value, times):
    """A column that holds its value once, in a dictionary, and in each row a place in it."""
    return pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * times, pyarrow.int32()), pyarrow.array([value]))


def written(root, *, row_group_size=None, **columns):
    path = root / "a.parquet"
    parquet.write_table(pyarrow.table(columns), path, compression="zstd", row_group_size=row_group_size)
    return path


def numbers(count):
    return pyarrow.array([str(number) for number in range(count)])


def test_a_text_that_every_row_repeats_does_not_fill_memory(tmp_path):
    path = written(tmp_path, id=numbers(4096), note=repeated("x" * (12 << 20), 4096))
    assert path.stat().st_size < 1 << 16
    footer = parquet.ParquetFile(path).metadata
    assert footer.row_group(0).total_byte_size < 13 << 20, "what the footer says is not suspicious"
    found = scan("table", tmp_path)
    assert found.samples == ()
    assert [str(one) for one in found.problems] == [
        "a.parquet: unpacks to more than 512 MiB in memory at once; export it again, or as CSV if it is whole"
    ]


def test_what_the_footer_says_is_believed_when_it_is_too_much(tmp_path):
    """Before a page is read."""
    written(tmp_path, id=repeated("a", 5_000_000), age=repeated("b", 5_000_000))
    (problem,) = scan("table", tmp_path).problems
    assert re.match(r"a.parquet: unpacks to more than 1\d{5} rows;", str(problem))


def test_texts_are_counted_as_they_come(tmp_path):
    """A file whose footer speaks of 2 MiB, and each batch of which is small, holds 300 MiB of text."""
    path = written(tmp_path, id=numbers(30_000), note=repeated("x" * 10_000, 30_000))
    table = open_table(path, limits=UnpackLimits(text=8 << 20))
    with pytest.raises(BadInput, match="unpacks to more than 8 MiB of text"):
        for row in table.rows():
            assert row.line < 1000


def test_the_footers_sizes_are_counted_together(tmp_path):
    path = written(tmp_path, id=numbers(3), note=pyarrow.array(["x" * 400_000, "y" * 400_000, "z" * 400_000]))
    with pytest.raises(BadInput, match="unpacks to more than 1 MiB of text"):
        open_table(path, limits=UnpackLimits(text=1 << 20))


def test_a_row_is_no_longer_than_a_line_of_text_may_be(tmp_path):
    path = written(tmp_path, id=numbers(2), note=pyarrow.array(["short", "x" * (9 << 20)]))
    rows = open_table(path).rows()
    assert next(rows).fields == ["0", "short"]
    with pytest.raises(BadInput, match="has a line 2 of more than 8 MiB"):
        next(rows)


def test_a_list_of_ten_million_nothings_is_too_long_for_a_row(tmp_path):
    places = pyarrow.array([0, 10_000_000, 10_000_000], pyarrow.int32())
    lists = pyarrow.ListArray.from_arrays(places, pyarrow.nulls(10_000_000))
    path = written(tmp_path, id=numbers(2), note=lists)
    assert path.stat().st_size < 1 << 16
    (problem,) = scan("table", tmp_path).problems
    assert str(problem).startswith("a.parquet: has a line 1 of more than 8 MiB;")


def test_columns_of_one_name_are_named(tmp_path):
    table = pyarrow.Table.from_arrays([numbers(2), numbers(2), numbers(2)], names=["id", "age", "age"])
    parquet.write_table(table, tmp_path / "a.parquet")
    (problem,) = scan("table", tmp_path).problems
    assert "has more than one column named age" in str(problem)


def test_a_file_that_breaks_off_is_named_with_its_last_whole_row(tmp_path):
    path = written(tmp_path, row_group_size=1000, id=numbers(3000), age=numbers(3000))
    second = parquet.ParquetFile(path).metadata.row_group(1).column(0).file_offset or 0
    start = parquet.ParquetFile(path).metadata.row_group(1).column(0).dictionary_page_offset or second
    content = bytearray(path.read_bytes())
    content[start : start + 200] = b"\xff" * 200
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"ends after row \d+ \(\w+\)"):
        list(open_table(path).rows())


def test_values_come_as_texts_that_read_back_as_the_same_values(tmp_path):
    table = {
        "id": numbers(3),
        "age": [1.5, None, 1e-7],
        "ill": [True, False, None],
        "n": [1, None, -3],
        "b": [b"x"] * 3,
    }
    found = open_table(written(tmp_path, **table))
    assert found.names == ("id", "age", "ill", "n", "b")
    assert [list(row.fields) for row in found.rows()] == [
        ["0", "1.5", "true", "1", "x"],
        ["1", "", "false", "", "x"],
        ["2", "1e-07", "", "-3", "x"],
    ]


def test_no_process_is_left_by_a_reader_who_stops(tmp_path):
    code = f"""
import os
from pathlib import Path
from archipel.data.tables.table_files import open_table
rows = open_table(Path({str(written(tmp_path, id=numbers(200_000), age=numbers(200_000)))!r})).rows()
next(rows)
rows.close()
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("nobody")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "nobody"
