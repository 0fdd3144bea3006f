"""The classes in a file of arrays: which name the ``y`` of each row stands for.

A ``y`` that is text has the names. Numbers 0, 1, ... and one column per class have them by the option ``classes``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archipel.data.formats.npz_files import Arrays, bad_file
from archipel.vocabulary.counting import pluralise

MOST_CLASSES = 1_000
_LONGEST = 100
_OUT = "leave the option classes out: plans then get y as it is stored"


class RowClasses(NamedTuple):
    """The names of the classes, and for each row the place of its class in them, -1 where it has none of them."""

    names: tuple[str, ...]
    places: NDArray[np.int16]


def classes_of(path: Path, found: Arrays, named: Sequence[str]) -> RowClasses | None:
    """The class of each row; None for numbers that nothing names.

    ``named`` are the names in the option. Raises BadInput where they cannot be the names of what the file holds.
    """
    if found.y.dtype.kind in "US":
        if found.y.shape not in ((), (1,)):
            cause = f"y is text with {list(found.y.shape)} values per row"
            raise bad_file(path, cause, "save the name of one class per row")
        return _by_text(path, found, named)
    if not named:
        return None
    if found.y.shape not in ((), (1,), (len(named),)):
        columns = f"y has {list(found.y.shape)} values per row"
        raise bad_file(
            path, f"{columns}, and the option classes names {pluralise(len(named), 'class', 'classes')}",
            f"name as many classes as y has columns, in their order, or {_OUT}",
        )  # fmt: skip
    if found.y.dtype.kind not in "biuf":
        raise bad_file(path, f"y has type {found.y.dtype}, and classes have numbers", _OUT)
    in_columns = found.y.shape == (len(named),) and len(named) > 1
    places = [_marked(path, found, part, len(named)) if in_columns else _numbered(part, len(named))
              for part in found.y.arrays]  # fmt: skip
    return RowClasses(tuple(named), np.concatenate(places))


def _by_text(path: Path, found: Arrays, named: Sequence[str]) -> RowClasses:
    texts = [np.char.strip(_decoded(part.reshape(len(part)))) for part in found.y.arrays]
    there = sorted({str(name) for part in texts for name in np.unique(part)})
    names = tuple(named) or tuple(name for name in there if name)
    if len(names) > MOST_CLASSES or any(len(name) > _LONGEST for name in names):
        cause = f"y is text with {len(names)} different values"
        limits = f"at most {MOST_CLASSES} classes with names of up to {_LONGEST} letters are allowed"
        raise bad_file(path, f"{cause}; {limits}", "store the names of classes in y, or numbers")
    place = {name: number for number, name in enumerate(names)}
    numbers = [[place.get(name, -1) for name in part.tolist()] for part in texts]
    return RowClasses(names, np.concatenate([np.array(part, np.int16) for part in numbers]))


def _decoded(texts: NDArray[Any]) -> NDArray[np.str_]:
    """Text as Unicode; bytes that are not UTF-8 stay visible."""
    return np.char.decode(texts, "utf-8", "backslashreplace") if texts.dtype.kind == "S" else texts


def _numbered(y: NDArray[Any], count: int) -> NDArray[np.int16]:
    """The places by numbers from 0 on."""
    numbers = y.reshape(len(y)).astype(np.float64)
    is_one = (numbers >= 0) & (numbers < count) & (numbers == np.rint(numbers))
    return np.where(is_one, numbers, -1).astype(np.int16)


def _marked(path: Path, found: Arrays, y: NDArray[Any], count: int) -> NDArray[np.int16]:
    """The places by a column for each class, of which one has 1. Raises BadInput for several classes in a row."""
    is_mark = ((y == 0) | (y == 1)).all(axis=1)
    several = is_mark & (np.count_nonzero(y, axis=1) > 1)
    if several.any():
        rows = pluralise(int(np.count_nonzero(several)), "row")
        cause = f"y marks several classes in {rows}, and a row has one class for a plan that names classes"
        raise bad_file(path, cause, _OUT)
    places = np.where(is_mark & y.any(axis=1), y.argmax(axis=1), -1)
    return places.astype(np.int16)
