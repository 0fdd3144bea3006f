"""Datasets of kind ``npz``: one ``.npz`` file with arrays ``x`` and ``y``, one row a subject, and ``subject``, the ids.

Only numpy is needed, so plans on tables start fast.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archipel.data.cohorts import Scan, Subject
from archipel.tensors import blob_hash
from archipel.vocabulary import BadInput, ErrorCode

_ARRAYS = ("x", "y", "subject")


class Table(NamedTuple):
    """Rows of a table: inputs ``x [N, ...]``, targets ``y [N, ...]`` and the subjects' ids in row order."""

    x: NDArray[Any]
    y: NDArray[Any]
    ids: tuple[str, ...]

    def rows(self, indices: Sequence[int]) -> Table:
        """These rows, in this order."""
        return Table(self.x[list(indices)], self.y[list(indices)], tuple(self.ids[index] for index in indices))


def scan(root: Path) -> Scan:
    """Read the table under ``root``; collect all problems instead of stopping at the first."""
    files = sorted(path for path in root.glob("*.npz") if not path.name.startswith("."))
    if len(files) != 1:
        cause = f"{len(files)} .npz files" if files else "no .npz file"
        return Scan((), (f"{root.name}: {cause} in the folder; keep exactly one",), {"kind": "npz", "subjects": 0})
    path = files[0]
    try:
        table = read(path)
    except BadInput as error:
        return Scan((), (str(error),), {"kind": "npz", "subjects": 0})
    problems, subjects, seen = [], [], set()
    for index, subject_id in enumerate(table.ids):
        if subject_id in seen:
            problems.append(f"{subject_id}: is in {path.name} more than once; keep one row per subject")
        elif not (_finite(table.x[index]) and _finite(table.y[index])):
            problems.append(f"{subject_id}: its row of {path.name} holds NaN or infinities; mend or remove the row")
        else:
            subjects.append(
                Subject(id=subject_id, files={"table": path.name}, index=index, hash=row_hash(table, index))
            )
        seen.add(subject_id)
    if not table.ids:
        problems.append(f"{path.name}: holds no row; add the subjects' rows")
    schema = {
        "kind": "npz",
        "subjects": len(subjects),
        "x": {"dtype": table.x.dtype.name, "shape": list(table.x.shape[1:])},
        "y": {"dtype": table.y.dtype.name, "shape": list(table.y.shape[1:])},
    }
    return Scan(tuple(subjects), tuple(problems), schema)


def _finite(values: NDArray[Any]) -> bool:
    return values.dtype.kind not in "fc" or bool(np.isfinite(values).all())


def row_hash(table: Table, index: int) -> str:
    """The hash of one row's content: types, shapes and bytes of x and y."""
    parts = []
    for values in (table.x, table.y):
        row = np.ascontiguousarray(values[index])
        parts.append(f"{row.dtype.str}{list(row.shape)}".encode() + b"\0" + row.tobytes())
    return blob_hash(b"".join(parts))


def read(path: Path) -> Table:
    """The whole table.

    Raises BadInput when the file is damaged, an array is missing or would need pickle, or the lengths differ.
    """

    def bad(cause: str, remedy: str) -> BadInput:
        return BadInput(path.name, cause, remedy, code=ErrorCode.BAD_DATA)

    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in _ARRAYS if name not in archive]
            arrays = {name: archive[name] for name in _ARRAYS if name in archive}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise bad(
            f"cannot be read ({type(error).__name__}); it is damaged or holds Python objects",
            "write it with numpy.savez from plain arrays",
        ) from error
    if missing:
        raise bad(f"has no array named {', '.join(missing)}", "save arrays x, y and subject")
    x, y, subject = (arrays[name] for name in _ARRAYS)
    if subject.ndim != 1 or not x.ndim or not y.ndim or not len(x) == len(y) == len(subject):
        raise bad(
            f"x, y and subject have shapes {list(x.shape)}, {list(y.shape)} and {list(subject.shape)}",
            "give all three the same number of rows",
        )
    return Table(x, y, tuple(str(value) for value in subject.tolist()))
