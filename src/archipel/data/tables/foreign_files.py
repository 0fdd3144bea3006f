"""Files that hold a table in a form that is not read, by their first bytes or their name, each with the way out."""

from __future__ import annotations

import codecs
import re
import zipfile
from pathlib import Path

from archipel.data.zip_archives import directory_bytes
from archipel.vocabulary import BadInput, ErrorCode, Thing

_CSV = "export the table as CSV"
_OLD_EXCEL = "an old Excel workbook (.xls), or one with a password"
_SAVE_AS_XLSX = "open it in Excel and save it without a password as .xlsx or CSV UTF-8"
_MOST_DIRECTORY = 1 << 20
"""Bytes of an archive's list of files; a workbook has some thousand."""
_BEGINS: tuple[tuple[bytes, str, str], ...] = (
    (b"PAR1", "Parquet", "name it .parquet"),
    (b"\x1f\x8b", "gzip", "name it .csv.gz, or unpack it"),
    (b"\x00\x05\x16\x07", "a resource fork", "name the file itself, not the one that begins with ._"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _OLD_EXCEL, _SAVE_AS_XLSX),
    (b"$FL2", "SPSS (.sav)", "in SPSS: File, Save As, CSV"),
    (b"$FL3", "SPSS (.zsav)", "in SPSS: File, Save As, CSV"),
    (b"HEADER RECORD*******LIB", "SAS (.xpt)", "in SAS: proc export, dbms=csv; or read it with pandas.read_sas"),
    (b"\x89HDF\r\n\x1a\n", "HDF5", _CSV),
    (b"SQLite format 3\0", "an SQLite database", _CSV),
    (b"<stata_dta>", "Stata (.dta)", "in Stata: export delimited"),
    (b"version https://git-lfs", "a pointer of Git LFS: the file itself was not fetched", "git lfs pull"),
    (b"%PDF", "PDF", _CSV),
    (b"{\\rtf", "a text document", _CSV),
)
_HTML = re.compile(rb"\s*<(!doctype\s+html|html|table|head|body|meta)\b", re.IGNORECASE)
_XML = re.compile(rb"\s*<\?xml\b")
_SUFFIXES = {
    ".sav": ("SPSS", "in SPSS: File, Save As, CSV"),
    ".zsav": ("SPSS", "in SPSS: File, Save As, CSV"),
    ".por": ("SPSS", "in SPSS: File, Save As, CSV"),
    ".xpt": ("SAS", "in SAS: proc export, dbms=csv; or read it with pandas.read_sas"),
    ".sas7bdat": ("SAS", "in SAS: proc export, dbms=csv; or read it with pandas.read_sas"),
    ".dta": ("Stata", "in Stata: export delimited"),
    ".rds": ("R", "in R: write.csv(readRDS(file), row.names = FALSE)"),
    ".rdata": ("R", "in R: write.csv(table, row.names = FALSE)"),
    ".xls": (_OLD_EXCEL, _SAVE_AS_XLSX),
    ".xlsm": ("an Excel workbook with macros", "save it as .xlsx"),
    ".xlsb": ("a binary Excel workbook", "save it as .xlsx"),
    ".ods": ("an OpenDocument table", "save it as .xlsx or CSV"),
    ".mdb": ("an Access database", _CSV),
    ".accdb": ("an Access database", _CSV),
    ".feather": ("Feather", "write it as Parquet or CSV"),
    ".pkl": ("a Python pickle", "write it as Parquet or CSV"),
}
UNREAD_SUFFIXES = tuple(_SUFFIXES)
"""Suffixes of files that hold a table and are not read, in lower case."""


def unread(name: str) -> tuple[str, str] | None:
    """What a file of this name is, and the way out; None for one whose name says nothing."""
    return _SUFFIXES.get(Path(name).suffix.lower())


def check_is_text(path: Path, first: bytes, encoding: str) -> None:
    """Raise BadInput for a file that is not text, by its first bytes (64 are enough). ``encoding`` is the given one."""
    if first[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) and not encoding.startswith("utf-16"):
        raise _bad(path, "is UTF-16", "set --option encoding=utf-16, or export it as UTF-8")
    found = _zip_archive(path) if first.startswith(b"PK\x03\x04") else _begins(first)
    if found is not None:
        raise _bad(path, f"is not text but {found[0]}", found[1])


def not_a_workbook(path: Path) -> BadInput | None:
    """The error for a file that is called .xlsx and is something else; None for a zip archive."""
    return _not_beginning(path, b"PK\x03\x04", "an Excel workbook")


def not_parquet(path: Path) -> BadInput | None:
    """The error for a file that is called .parquet and is something else; None for one that begins as Parquet does."""
    return _not_beginning(path, b"PAR1", "a Parquet file")


def _not_beginning(path: Path, begin: bytes, expected: str) -> BadInput | None:
    try:
        with path.open("rb") as file:
            first = file.read(64)
    except OSError as error:
        return _bad(path, f"cannot be read ({error.strerror})", "check the file and its permissions")
    if first.startswith(begin):
        return None
    if first.startswith(b"PK\x03\x04"):
        what, way_out = _zip_archive(path)
    else:
        what, way_out = _begins(first) or _text_or_not(first)
    return _bad(path, f"is not {expected} but {what}", way_out)


def _text_or_not(first: bytes) -> tuple[str, str]:
    if not first:
        return "an empty file", "export it again"
    if b"\0" in first:
        return "another kind of file", "export it again"
    return "text", "name it .csv"


def _begins(first: bytes) -> tuple[str, str] | None:
    for begin, what, way_out in _BEGINS:
        if first.startswith(begin):
            return what, way_out
    text = first.removeprefix(codecs.BOM_UTF8)
    if _HTML.match(text):
        return "a web page (HTML), whatever it is called", "open it in Excel and save it as .xlsx or CSV UTF-8"
    if _XML.match(text):
        return "XML", "open it in Excel and save it as .xlsx or CSV UTF-8"
    return None


def _zip_archive(path: Path) -> tuple[str, str]:
    names: set[str] = set()
    if not zipfile.is_zipfile(path):
        return "a zip archive or a workbook that is damaged or breaks off", "copy it again from its source"
    try:
        with path.open("rb") as file:
            if directory_bytes(file) <= _MOST_DIRECTORY:
                with zipfile.ZipFile(file) as archive:
                    names = set(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        names = set()
    if "xl/workbook.xml" in names:
        return "an Excel workbook", f"name it {path.with_suffix('.xlsx').name}"
    if "content.xml" in names:
        return "an OpenDocument table", "save it as .xlsx or CSV"
    return "a zip archive", "unpack it, or export the table as CSV"


def _bad(path: Path, cause: str, remedy: str) -> BadInput:
    return BadInput(Thing.file(path.name), cause, remedy, code=ErrorCode.BAD_DATA)
