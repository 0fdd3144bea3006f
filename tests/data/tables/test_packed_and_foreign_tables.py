"""Compressed texts are read; what is not read is named as what it is, with the way out."""

from __future__ import annotations

import gzip
import resource
import struct
from pathlib import Path

import pytest

from archipel.data import format_named, scan
from archipel.data.formats import detect
from archipel.data.tables.reading_process import UnpackLimits
from archipel.data.tables.table_files import open_table
from archipel.vocabulary import BadInput

TEXT = "id,age\n" + "".join(f"p{number},{number}\n" for number in range(30))


@pytest.mark.parametrize("name", ["table.csv.gz", "table.tsv.gz", "TABLE.CSV", "Table.Csv.GZ"])
def test_a_compressed_text_and_a_name_in_capitals_are_tables(tmp_path: Path, name: str) -> None:
    text = TEXT.replace(",", "\t") if "tsv" in name else TEXT
    content = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.lower().endswith("gz") else content)
    assert [fit.format for fit in detect(tmp_path)] == ["table"]
    found = scan("table", tmp_path)
    assert found.problems == () and len(found.samples) == 30
    assert [one.values["age"] for one in format_named("table").read(tmp_path, found.samples[:2], {})] == [0.0, 1.0]


def test_a_damaged_compressed_text_is_named(tmp_path: Path) -> None:
    whole = gzip.compress(TEXT.encode() * 100)
    for content in (whole[:-20], whole[:40], b"\x1f\x8b" + b"x" * 80, b"no gzip at all"):
        (tmp_path / "table.csv.gz").write_bytes(content)
        (problem,) = scan("table", tmp_path).errors
        assert "cannot be unpacked to its end" in problem.cause


def test_a_compressed_text_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(b"id,age\n" + b"p,1234567\n" * 90_000))
    assert path.stat().st_size < 1 << 18
    with pytest.raises(BadInput, match="unpacks to more than 0 MiB of text"):
        open_table(path, limits=UnpackLimits(text=1 << 19))
    with pytest.raises(BadInput, match="unpacks to more than 1000 lines"):
        open_table(path, limits=UnpackLimits(rows=1000))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("table.sav", b"$FL2@(#) SPSS DATA FILE", "table.sav is SPSS, which is not read: in SPSS: File, Save As, CSV"),
        ("table.xpt", b"HEADER RECORD*******LIBRARY", "table.xpt is SAS, which is not read: in SAS: proc export"),
        ("table.dta", b"<stata_dta>", "table.dta is Stata, which is not read: in Stata: export delimited"),
        ("table.XLS", b"\xd0\xcf\x11\xe0", "table.XLS is an old Excel workbook (.xls)"),
        ("table.ods", b"PK", "table.ods is an OpenDocument table, which is not read: save it as .xlsx or CSV"),
    ],
)
def test_a_table_in_another_form_is_named_with_the_way_out(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert [fit.format for fit in detect(tmp_path)] == ["table"]
    (problem,) = scan("table", tmp_path).errors
    assert problem.cause == "holds no table" and problem.remedy.startswith(said)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"$FL2@(#) SPSS DATA FILE", "is not text but SPSS (.sav)"),
        (b"HEADER RECORD*******LIBRARY HEADER RECORD!!!!!!!000000", "is not text but SAS (.xpt)"),
        (b"\x89HDF\r\n\x1a\n", "is not text but HDF5"),
        (b"SQLite format 3\0", "is not text but an SQLite database"),
        (b"<!DOCTYPE html><html>", "is not text but a web page (HTML)"),
        (b"\xef\xbb\xbf <HTML><table>", "is not text but a web page (HTML)"),
        (b"<?xml version='1.0'?><Workbook>", "is not text but XML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "a pointer of Git LFS"),
        (b"\x1f\x8b\x08", "is not text but gzip; name it .csv.gz, or unpack it"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook (.xls), or one with a password"),
    ],
)
def test_what_is_called_csv_and_is_none_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "table.csv").write_bytes(content)
    (problem,) = scan("table", tmp_path).errors
    assert said in str(problem)


def test_a_text_with_another_name_is_proposed_and_read_when_named(tmp_path: Path) -> None:
    (tmp_path / "table.txt").write_text(TEXT.replace(",", "\t"))
    (problem,) = scan("table", tmp_path).errors
    assert problem.remedy == "if table.txt is one: --option file=table.txt"
    assert len(scan("table", tmp_path, {"file": "table.txt"}).samples) == 30


def test_the_lock_of_an_open_workbook_is_not_a_table(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(TEXT)
    for name in ("~$table.csv", "~$table.xlsx", ".~lock.table.csv#"):
        (tmp_path / name).write_text("x")
    assert scan("table", tmp_path).problems == ()


def test_several_tables_are_named_with_an_option_that_can_be_typed(tmp_path: Path) -> None:
    for name in ("one two.csv", "b.csv"):
        (tmp_path / name).write_text(TEXT)
    (problem,) = scan("table", tmp_path).errors
    assert problem.remedy == "name one, for example --option file=b.csv"


@pytest.mark.parametrize(
    ("encoding", "word"), [("cp1252", "Müller \u2013 A"), ("mac-roman", "Müller \u2013 B"), ("cp850", "Müller")]
)
def test_how_a_word_reads_in_each_encoding_is_shown(tmp_path: Path, encoding: str, word: str) -> None:
    (tmp_path / "table.csv").write_bytes(f"id,age\n{word},40\nb,50\n".encode(encoding))
    (problem,) = scan("table", tmp_path).errors
    assert f"--option encoding={encoding} reads {word}" in problem.remedy
    found = scan("table", tmp_path, {"encoding": encoding})
    assert found.problems == () and found.samples[0].subject in (word, "b")


def test_an_archives_list_of_any_length_is_not_read(tmp_path: Path) -> None:
    """The file is sparse: it takes no room, and its list of files would take gigabytes."""
    path, size = tmp_path / "large.csv", 3 << 30
    with path.open("wb") as file:
        file.write(b"PK\x03\x04" + bytes(60))
        file.seek(size)
        file.write(struct.pack("<4sQHHLLQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, size - 64, 64))
        file.write(struct.pack("<4sLQL", b"PK\x06\x07", 0, size, 1))
        file.write(struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, 0xFFFFFFFF, 0xFFFFFFFF, 0))
    with pytest.raises(BadInput, match="is not text but a zip archive"):
        open_table(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 3 << 20
