"""Parquet files: columns and rows as texts, unpacked by a process of its own that can take only so much memory."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

from archipel.vocabulary import BadInput, ErrorCode, Thing

SUFFIX = ".parquet"
_PROGRAM = Path(__file__).with_name("parquet_reader.py")


@dataclass(frozen=True)
class ParquetLimits:
    """How much a Parquet file may unpack to; a test passes its own."""

    memory: int = 2 << 30
    """Bytes that the reader may have at once."""
    rows: int = 4_000_000
    """Each becomes a sample that is kept in memory."""
    text: int = 16 << 30
    """Letters; they are never in memory together, but a person has to wait for them."""
    row: int = 32 << 20
    """Letters."""


PARQUET_LIMITS = ParquetLimits()


def columns(path: Path, limits: ParquetLimits = PARQUET_LIMITS) -> tuple[str, ...]:
    """The columns' names. Raises BadInput for a file that is not Parquet, or declares too large a size."""
    lines = _lines(path, limits)
    names = next(lines)
    lines.close()
    return tuple(names)


def rows(path: Path, limits: ParquetLimits = PARQUET_LIMITS) -> Iterator[list[str]]:
    """The texts of each row. Raises BadInput where the file breaks off, or unpacks to too much."""
    lines = _lines(path, limits)
    next(lines)
    yield from lines


def _lines(path: Path, limits: ParquetLimits) -> Generator[list[str], None, None]:
    if importlib.util.find_spec("pyarrow") is None:
        raise BadInput(Thing.file(path.name), "needs pyarrow to be read", 'pip install "archipel[tables]"')
    most = (limits.memory, limits.rows, limits.text, limits.row)
    # Isolated: neither the working folder nor the environment can add other code.
    command = [sys.executable, "-I", str(_PROGRAM), str(path.absolute()), *map(str, most)]
    number, end = -1, "the reader ended"
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:
        assert run.stdout is not None
        try:
            for line in run.stdout:
                entry = json.loads(line) if line.endswith(b"\n") else {}
                if isinstance(entry, dict):
                    end = entry.get("end", end)
                    break
                number += 1
                yield entry
        finally:
            run.kill()
    if end:
        raise _fault(path, number, end, limits)


def _fault(path: Path, number: int, end: str, limits: ParquetLimits) -> BadInput:
    """Why there is no row after ``number``; -1 before the columns are known."""
    too_much = {
        "memory": f"{limits.memory >> 20} MiB in memory at once",
        "rows": f"{limits.rows} rows",
        "text": f"{limits.text >> 20} MiB of text",
    }
    remedy = "export it again"
    if end in too_much:
        cause, remedy = f"unpacks to more than {too_much[end]}", f"{remedy}, or as CSV if it is whole"
    elif end == "row":
        cause = f"has a line {number + 1} of more than {limits.row >> 20} MiB"
    elif number < 0:
        cause, remedy = f"is not a Parquet file ({end})", f"{remedy}, or name it .csv"
    else:
        cause = f"ends after row {number} ({end})"
    return BadInput(Thing.file(path.name), cause, remedy, code=ErrorCode.BAD_DATA)
