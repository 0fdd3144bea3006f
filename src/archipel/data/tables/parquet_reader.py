"""The rows of a Parquet file as lists of texts, the columns' names first; read by the program ``limited_reader.py``.

A text that is stored once may be the value of every row, and the sizes that the file states may be false.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from archipel.data.tables.limited_reader import Allowance

_BATCH = 4096
_CELLS_AT_ONCE = 1 << 19
"""Values that are in memory together, of some 60 bytes each."""


def lines(path: str, allowance: Allowance) -> Iterator[list[str]]:
    """The names, then the texts of each row; what the file says of itself is believed where it is too much."""
    # The usual pools keep what was freed.
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"
    from pyarrow import parquet

    file = parquet.ParquetFile(path, buffer_size=1 << 20)
    declared = file.metadata
    if declared.num_rows > allowance.rows:
        allowance.refuse("rows")
    if declared.num_rows * declared.num_columns > allowance.cells:
        allowance.refuse("cells")
    if sum(declared.row_group(place).total_byte_size for place in range(declared.num_row_groups)) > allowance.text:
        allowance.refuse("text")
    yield file.schema_arrow.names
    at_once = max(1, min(_BATCH, _CELLS_AT_ONCE // max(1, declared.num_columns)))
    for batch in file.iter_batches(batch_size=at_once, use_threads=False):
        if any(_longest(column) > allowance.row for column in batch.columns):
            allowance.refuse("row")
        for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            fields = [_text(value) for value in values]
            allowance.take(fields)
            yield fields


def _longest(column: Any) -> int:
    """The elements of the longest list of a column, 0 where it has none: few bytes may stand for very many elements."""
    from pyarrow import compute, types

    if not (types.is_list(column.type) or types.is_large_list(column.type)):
        return 0
    return compute.max(compute.list_value_length(column)).as_py() or 0


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
