"""Rows of files that unpack: a program of its own reads them, in a process whose memory and time are limited."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from archipel.vocabulary import BadInput, ErrorCode, Thing

_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Libraries that the readers import reserve memory for each thread they might start: the limit is for the file."""


@dataclass(frozen=True)
class UnpackLimits:
    """How much a Parquet file, a workbook or a compressed text may unpack to; a test passes its own."""

    memory: int = 2 << 30
    """Bytes that the reader may have at once."""
    seconds: int = 3600
    """Processor time of the reader."""
    rows: int = 4_000_000
    """Each becomes a sample that is kept in memory."""
    text: int = 16 << 30
    """Letters; they are never in memory together, but a person has to wait for them."""
    row: int = 8 << 20
    """Letters."""
    cells: int = 400_000_000
    """Cells of a sheet, empty ones among them."""

    def for_file(self, size: int, gain: int) -> UnpackLimits:
        """The limits for a file of ``size`` bytes, which honestly unpacks to less than ``gain`` times as many letters.

        A workbook takes two or three seconds for each MiB; importing its reader takes some on a busy machine.
        """
        return replace(
            self,
            memory=min(self.memory, (512 << 20) + 50 * size),
            seconds=min(self.seconds, 20 + (8 * size >> 20)),
            rows=min(self.rows, 100_000 + size // 4),
            text=min(self.text, (16 << 20) + gain * size),
        )


UNPACK_LIMITS = UnpackLimits()
_PROGRAM = Path(__file__).with_name("limited_reader.py")


@dataclass(frozen=True)
class Reader:
    """A module with a function ``lines`` that reads one kind of file, and the library that it needs."""

    module: Path
    library: str
    what: str
    """What the file should be, as ``a Parquet file``."""
    gain: int
    """How many times its size the text of such a file may have."""


def lines(
    path: Path, reader: Reader, limits: UnpackLimits, arguments: Sequence[str] = ()
) -> Generator[list[Any], None, None]:
    """What the program prints, line by line. Raises BadInput where the file breaks off, or unpacks to too much."""
    if importlib.util.find_spec(reader.library) is None:
        raise BadInput(Thing.file(path.name), f"needs {reader.library} to be read", 'pip install "archipel[tables]"')
    limits = limits.for_file(path.stat().st_size, reader.gain)
    most = (limits.memory, limits.seconds, limits.rows, limits.text, limits.row, limits.cells)
    # Isolated: neither the working folder nor the environment can add other code.
    program = [sys.executable, "-I", str(_PROGRAM), str(reader.module)]
    command = [*program, str(path.absolute()), *map(str, most), *arguments]
    number, last, none = -1, None, subprocess.DEVNULL
    environment = {**os.environ, **_ONE_THREAD}
    with subprocess.Popen(command, stdin=none, stdout=subprocess.PIPE, stderr=none, env=environment) as run:
        assert run.stdout is not None
        try:
            for line in run.stdout:
                # A line that is not whole was cut off by the end of the process.
                last = json.loads(line) if line.endswith(b"\n") else None
                if not isinstance(last, list):
                    break
                number += 1
                yield last
            if not isinstance(last, dict):
                last = {"end": "time" if run.wait() == -signal.SIGXCPU else "the reader ended"}
        finally:
            run.kill()
    if last.get("end", "the reader ended"):
        raise _fault(path, reader, number, last, limits)


# ``why`` is what the reading process said, checked where each part is used.
def _fault(path: Path, reader: Reader, number: int, why: dict[str, Any], limits: UnpackLimits) -> BadInput:
    """Why there is no row after ``number``; -1 before the first."""
    end = str(why.get("end"))
    too_much = {
        "memory": f"{limits.memory >> 20} MiB in memory at once",
        "rows": f"{limits.rows} rows",
        "text": f"{limits.text >> 20} MiB of text",
        "cells": f"{limits.cells} cells",
    }
    remedy = "export it again"
    if end in too_much:
        cause, remedy = f"unpacks to more than {too_much[end]}", f"{remedy}, or as CSV if it is whole"
    elif end == "time":
        cause = f"needs more than {limits.seconds} s of processor time to be read"
        remedy = f"{remedy} without empty rows and columns, or as CSV"
    elif end == "row":
        cause = f"has a line {number + 1} of more than {limits.row >> 20} MiB"
    elif end == "said":
        cause, remedy = str(why["cause"]), str(why["remedy"])
    elif number < 0:
        cause, remedy = f"is {reader.what} that is damaged ({end})", f"copy it again from its source, or {remedy}"
    else:
        cause = f"ends after row {number} ({end})"
    return BadInput(Thing.file(path.name), cause, remedy, code=ErrorCode.BAD_DATA)
