"""Rows of files that unpack: a program of its own reads them, in a process that can take only so much memory."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archipel.vocabulary import BadInput, ErrorCode, Thing


@dataclass(frozen=True)
class UnpackLimits:
    """How much a Parquet file, a workbook or a compressed text may unpack to; a test passes its own."""

    memory: int = 2 << 30
    """Bytes that the reader may have at once."""
    rows: int = 4_000_000
    """Each becomes a sample that is kept in memory."""
    text: int = 16 << 30
    """Letters; they are never in memory together, but a person has to wait for them."""
    row: int = 32 << 20
    """Letters."""
    cells: int = 400_000_000
    """Cells of a sheet, empty ones among them."""


UNPACK_LIMITS = UnpackLimits()


@dataclass(frozen=True)
class Reader:
    """A program that prints the rows of one kind of file as lines of JSON, and the library that it needs."""

    program: Path
    library: str
    what: str
    """What the file should be, as ``a Parquet file``."""


def lines(
    path: Path, reader: Reader, limits: UnpackLimits, arguments: Sequence[str] = ()
) -> Generator[list[Any], None, None]:
    """What the program prints, line by line. Raises BadInput where the file breaks off, or unpacks to too much."""
    if importlib.util.find_spec(reader.library) is None:
        raise BadInput(Thing.file(path.name), f"needs {reader.library} to be read", 'pip install "archipel[tables]"')
    most = (limits.memory, limits.rows, limits.text, limits.row, limits.cells)
    # Isolated: neither the working folder nor the environment can add other code.
    command = [sys.executable, "-I", str(reader.program), str(path.absolute()), *map(str, most), *arguments]
    number, end, why = -1, "the reader ended", {}
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:
        assert run.stdout is not None
        try:
            for line in run.stdout:
                entry = json.loads(line) if line.endswith(b"\n") else {}
                if isinstance(entry, dict):
                    end, why = entry.get("end", end), entry
                    break
                number += 1
                yield entry
        finally:
            run.kill()
    if end:
        raise _fault(path, reader, number, end, why, limits)


# ``why`` is what the reading process said, checked where each part is used.
def _fault(path: Path, reader: Reader, number: int, end: str, why: dict[str, Any], limits: UnpackLimits) -> BadInput:
    """Why there is no row after ``number``; -1 before the first."""
    too_much = {
        "memory": f"{limits.memory >> 20} MiB in memory at once",
        "rows": f"{limits.rows} rows",
        "text": f"{limits.text >> 20} MiB of text",
        "cells": f"{limits.cells} cells",
    }
    remedy = "export it again"
    if end in too_much:
        cause, remedy = f"unpacks to more than {too_much[end]}", f"{remedy}, or as CSV if it is whole"
    elif end == "row":
        cause = f"has a line {number + 1} of more than {limits.row >> 20} MiB"
    elif end == "said":
        cause, remedy = str(why["cause"]), str(why["remedy"])
    elif number < 0:
        cause, remedy = f"is not {reader.what} ({end})", f"{remedy}, or name it .csv"
    else:
        cause = f"ends after row {number} ({end})"
    return BadInput(Thing.file(path.name), cause, remedy, code=ErrorCode.BAD_DATA)
