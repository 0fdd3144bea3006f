"""A program that prints the rows of a file that unpacks as lines of JSON, and ends where there is too much of them.

It runs in a process of its own that limits its memory and its processor time: nothing in a workbook or in a Parquet
file bounds what it unpacks to. A module beside it, which it is given by its path, reads one kind of file. The last
line is an object that says why there are no more: ``{"end": ...}`` with ``""`` when all rows were printed. It and the
modules import nothing of Archipel, so that it starts fast.
"""

from __future__ import annotations

import json
import resource
import runpy
import sys
from typing import NoReturn


class _Ended(Exception):
    """What is printed last."""


class Allowance:
    """How much of a file may still be read: rows, letters, letters of a row, and cells."""

    def __init__(self, rows: int, text: int, row: int, cells: int) -> None:
        self.rows, self.text, self.row, self.cells = rows, text, row, cells

    def take(self, fields: list[str]) -> None:
        """Take a row off. Ends the reading where it is too much."""
        length = sum(map(len, fields)) + len(fields)
        self.rows -= 1
        self.text -= length
        if self.rows < 0:
            self.refuse("rows")
        if length > self.row:
            self.refuse("row")
        if self.text < 0:
            self.refuse("text")

    def refuse(self, what: str) -> NoReturn:
        """End the reading because of what there is too much of."""
        raise _Ended({"end": what})

    def say(self, cause: str, remedy: str) -> NoReturn:
        """End the reading with a cause and a remedy."""
        raise _Ended({"end": "said", "cause": cause, "remedy": remedy})


def main(module: str, path: str, limits: list[int], arguments: list[str]) -> None:
    """Print the file. Limits are bytes of memory, seconds of processor time, and those of an ``Allowance``."""
    memory, seconds, *most = limits
    for kind, most_of_it in (
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_CORE, 0),
    ):
        _limit(kind, most_of_it)
    last = {"end": ""}
    try:
        for line in runpy.run_path(module)["lines"](path, Allowance(*most), *arguments):
            sys.stdout.write(json.dumps(line) + "\n")
    except MemoryError:
        last = {"end": "memory"}
    except _Ended as error:
        last = error.args[0]
    except Exception as error:
        # openpyxl and pyarrow raise nearly everything on damaged files.
        last = {"end": type(error).__name__}
    sys.stdout.write(json.dumps(last) + "\n")


def _limit(kind: int, most: int) -> None:
    """Set the soft limit: at that of processor time the process ends by SIGXCPU, which says why it ended."""
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], [int(one) for one in sys.argv[3:9]], sys.argv[9:])
