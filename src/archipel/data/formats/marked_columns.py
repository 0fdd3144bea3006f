"""Marked columns: the class of a picture in a table with one column per class, 1 for its own and 0 for the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from archipel.data.samples import CLASS
from archipel.vocabulary import Value


def class_in(row: Mapping[str, Value], columns: Sequence[str]) -> str:
    """The one of these columns that has 1, where all others have 0; "" where it is not one.

    >>> class_in({"age": 61.0, "MEL": 0.0, "NV": 1.0}, ["MEL", "NV"])
    'NV'
    """
    marks = [row.get(name) for name in columns]
    if any(mark not in (0, 1) for mark in marks) or marks.count(1) != 1:
        return ""
    return columns[marks.index(1)]


def with_class(row: Mapping[str, Value], columns: Sequence[str]) -> dict[str, Value]:
    """The values of a row with its class in the place of these columns."""
    others: dict[str, Value] = {name: value for name, value in row.items() if name not in columns}
    return others | {CLASS: class_in(row, columns)}
