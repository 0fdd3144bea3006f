"""Which encoding a text is in, checked over all of its bytes before any of it is read as a table."""

from __future__ import annotations

import codecs
import gzip
import re
import unicodedata
import zlib
from pathlib import Path
from typing import BinaryIO, cast

from archipel.data.tables.foreign_files import check_is_text
from archipel.data.tables.reading_process import UNPACK_LIMITS, UnpackLimits
from archipel.vocabulary import BadInput, ErrorCode, Thing

PACKING_ERRORS = (EOFError, zlib.error, gzip.BadGzipFile)
"""What a damaged compressed file raises."""
_LONGEST_LINE = 8 << 20
"""Bytes; a line is taken into memory whole, and its fields one by one take many times as much."""
_GAIN = 30
"""How many times its packed size a table may have; most have 5 to 15 times."""
_SYMBOLS = frozenset("°µ²³±·§¹¼½¾ºª×÷€")
_USUAL = ("cp1252", "mac-roman", "cp850", "cp1250")
"""Encodings that are proposed, of Windows, old Macs, DOS and Windows in the east of Europe."""
_WORD = re.compile(rb"[^\s,;|\t\"]*[\x80-\xff][^,;|\t\"\r\n]{0,24}")


def is_packed(path: Path) -> bool:
    """Whether a text is compressed, by its name."""
    return path.suffix.lower() == ".gz"


def open_bytes(path: Path) -> BinaryIO:
    """The bytes of a text, unpacked. Raises OSError; reading raises PACKING_ERRORS for a damaged file."""
    return cast(BinaryIO, gzip.open(path, "rb")) if is_packed(path) else path.open("rb")


def broken_off(path: Path) -> BadInput:
    """The error for a compressed text that cannot be unpacked to its end."""
    return _bad(path, "cannot be unpacked to its end", "it is damaged or is not gzip; copy or export it again")


def encoding_of(path: Path, given: str, notes: list[tuple[str, str]], limits: UnpackLimits = UNPACK_LIMITS) -> str:
    """The encoding's name for Python. Reads the whole file once, in pieces."""
    try:
        name = codecs.lookup(given).name if given else ""
        # Codecs that are not of texts, such as base64, are refused here too.
        "".encode(given or "utf-8")
    except LookupError as error:
        raise _bad(path, f"encoding {given} is unknown", "give --option encoding=utf-8, latin-1 or cp1252") from error
    decoder = codecs.getincrementaldecoder(name or "utf-8")()
    fits, line, first, high, running, whole = True, 1, b"", set[int](), 0, 0
    try:
        limits = limits.for_file(path.stat().st_size, _GAIN)
        with open_bytes(path) as file:
            while chunk := file.read(1 << 20):
                if not first:
                    first = chunk[:64]
                    check_is_text(path, first, name)
                whole += len(chunk)
                if b"\0" in chunk and not name.startswith("utf-16"):
                    line += chunk[: chunk.index(b"\0")].count(b"\n")
                    raise _bad(
                        path, f"holds a NUL byte in line {line}", "it is damaged or is not text; export it again"
                    )
                ended = max(chunk.find(b"\n"), chunk.find(b"\r"))
                running += len(chunk) if ended < 0 else ended
                if running > _LONGEST_LINE:
                    cause = f"has a line {line} of more than {_LONGEST_LINE >> 20} MiB"
                    raise _bad(path, cause, "it is not a table, or damaged; export it again")
                if ended >= 0:
                    running = len(chunk) - 1 - max(chunk.rfind(b"\n"), chunk.rfind(b"\r"))
                high.update(set(chunk).difference(range(128)))
                try:
                    decoder.decode(chunk)
                except UnicodeDecodeError as error:
                    if name:
                        line += chunk[: error.start].count(b"\n")
                        raise _not_in(path, given, line) from error
                    fits = False
                    decoder.reset()
                line += chunk.count(b"\n")
                if is_packed(path) and (whole > limits.text or line > limits.rows):
                    what = f"{limits.text >> 20} MiB of text" if whole > limits.text else f"{limits.rows} lines"
                    raise _bad(path, f"unpacks to more than {what}", "unpack it, if it is whole")
    except PACKING_ERRORS as error:
        raise broken_off(path) from error
    except OSError as error:
        raise _bad(path, f"cannot be read ({error.strerror})", "check the file and its permissions") from error
    if not first:
        raise _bad(path, "is empty", "export the table again")
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        if name:
            raise _not_in(path, given, line) from error
        fits = False
    if name:
        return "utf-8-sig" if name == "utf-8" else name
    if fits:
        return "utf-8-sig"
    if all(_is_latin1(byte) for byte in high):
        remedy = "check its accented letters, and set --option encoding=latin-1"
        notes.append(("is not UTF-8; it was read as Latin-1", remedy))
        return "latin-1"
    raise _bad(path, *_candidates(path))


def _not_in(path: Path, told: str, line: int) -> BadInput:
    return _bad(
        path,
        f"is not in encoding {told} (line {line})",
        "set its encoding, for example --option encoding=latin-1 or --option encoding=cp1252",
    )


def _is_latin1(byte: int) -> bool:
    character = chr(byte)
    return unicodedata.category(character).startswith("L") or character in _SYMBOLS


def _candidates(path: Path) -> tuple[str, str]:
    """Cause and remedy for a text that is not UTF-8: how its first word with accents reads in the usual encodings."""
    shown: dict[str, str] = {}
    line = 1
    with open_bytes(path) as file:
        while chunk := file.read(1 << 20):
            found = _WORD.search(chunk)
            if found:
                line += chunk[: found.start()].count(b"\n")
                shown = {name: _decoded(found[0], name) for name in _USUAL}
                break
            line += chunk.count(b"\n")
    # Two encodings that read it alike are one choice.
    distinct: dict[str, str] = {}
    for name, text in shown.items():
        distinct.setdefault(text, name)
    ways = [f"--option encoding={name} reads {text}" for text, name in distinct.items() if text]
    cause = f"is not UTF-8 (line {line})"
    return cause, f"set its encoding: {', '.join(ways) or '--option encoding=cp1252 for a file from Windows'}"


def _decoded(word: bytes, encoding: str) -> str:
    try:
        text = word.decode(encoding).strip()
    except UnicodeDecodeError:
        return ""
    return text if text.isprintable() else ""


def _bad(path: Path, cause: str, remedy: str) -> BadInput:
    return BadInput(Thing.file(path.name), cause, remedy, code=ErrorCode.BAD_DATA)
