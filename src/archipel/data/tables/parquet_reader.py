"""A program that prints a Parquet file as lines of JSON: the columns' names, then for each row a list of its texts.

It runs in a process of its own that limits its memory, because nothing in a Parquet file bounds what it unpacks to: a
text that is stored once may be the value of every row, and the sizes that the file states may be false. The last line
is an object that says why there are no more: ``{"end": ...}`` with ``""`` when all rows were printed. It imports
nothing of Archipel, so that it starts fast.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Iterator
from typing import Any

_BATCH = 4096


class _TooMuch(Exception):
    """The text is what there is too much of."""


def main(path: str, most_memory: int, most_rows: int, most_text: int, longest_row: int) -> None:
    """Print the file. Limits are bytes, rows and letters."""
    resource.setrlimit(resource.RLIMIT_DATA, (most_memory, most_memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # The usual pools keep what was freed.
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"
    end = ""
    try:
        for line in _lines(path, most_rows, most_text, longest_row):
            sys.stdout.write(f"{line}\n")
    except MemoryError:
        end = "memory"
    except _TooMuch as error:
        end = str(error)
    except Exception as error:
        # pyarrow raises nearly everything on damaged files.
        end = type(error).__name__
    sys.stdout.write(json.dumps({"end": end}) + "\n")


def _lines(path: str, most_rows: int, most_text: int, longest_row: int) -> Iterator[str]:
    from pyarrow import parquet

    file = parquet.ParquetFile(path, buffer_size=1 << 20)
    declared = file.metadata
    if declared.num_rows > most_rows:
        raise _TooMuch("rows")
    if sum(declared.row_group(place).total_byte_size for place in range(declared.num_row_groups)) > most_text:
        raise _TooMuch("text")
    yield json.dumps(file.schema_arrow.names)
    rows = text = 0
    for batch in file.iter_batches(batch_size=_BATCH, use_threads=False):
        for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            fields = [_text(value) for value in values]
            length = sum(map(len, fields)) + len(fields)
            rows, text = rows + 1, text + length
            if rows > most_rows:
                raise _TooMuch("rows")
            if length > longest_row:
                raise _TooMuch("row")
            if text > most_text:
                raise _TooMuch("text")
            yield json.dumps(fields)


def _text(value: Any) -> str:
    """A stored value as a text that reads back as the same value."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case bytes():
            return value.decode("utf-8", errors="replace")
    return str(value)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:6]))
