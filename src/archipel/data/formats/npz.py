"""Format ``npz``: one ``.npz`` file with arrays ``x`` and ``y``, one row a sample, and ``subject``, the ids.

Only numpy is needed, so plans on arrays start fast.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from archipel.data.files import Folder, data_changed
from archipel.data.formats.base import Options
from archipel.data.reading import Reading
from archipel.data.samples import DataSchema, Problem, Sample, Scan, problem_of
from archipel.tensors import blob_hash
from archipel.vocabulary import BadInput, DataKind, ErrorCode

_ARRAYS = ("x", "y", "subject")
_EMPTY = DataSchema(kind="arrays")


class NpzTable:
    """One file of plain arrays."""

    name: ClassVar[str] = "npz"
    kind: ClassVar[DataKind] = "arrays"
    title: ClassVar[str] = "one .npz file with arrays x, y and subject"
    options: ClassVar[Mapping[str, str]] = {}

    def fits(self, folder: Folder) -> str:
        """One .npz file, or more."""
        return "it holds a .npz file" if folder.has("*.npz") else ""

    def scan(self, folder: Folder, options: Options) -> Scan:
        """Every row of the file."""
        problems: list[Problem] = []
        files = list(folder.files("*.npz", problems))
        if len(files) != 1:
            cause = f"{len(files)} .npz files in the folder" if files else "no .npz file in the folder"
            problems.append(Problem(thing=folder.root.name, cause=cause, remedy="keep exactly one"))
            return Scan((), tuple(problems), _EMPTY)
        place = files[0]
        try:
            x, y, ids = _arrays(folder.root / place)
        except BadInput as error:
            return Scan((), (*problems, problem_of(error)), _EMPTY)
        samples, seen = [], set()
        for row, subject in enumerate(ids):
            if subject in seen:
                cause = f"is in {place} more than once"
                problems.append(Problem(thing=subject, cause=cause, remedy="keep one row per subject", subject=subject))
            elif not (_finite(x[row]) and _finite(y[row])):
                cause = f"its row of {place} holds NaN or infinities"
                problems.append(Problem(thing=subject, cause=cause, remedy="mend or remove the row", subject=subject))
            else:
                samples.append(Sample(subject=subject, files={"table": place}, row=row, hash=_row_hash(x[row], y[row])))
            seen.add(subject)
        if not ids:
            problems.append(Problem(thing=place, cause="holds no row", remedy="add the subjects' rows"))
        schema = DataSchema(
            kind="arrays",
            subjects=len(samples),
            samples=len(samples),
            arrays={name: f"{array.dtype.name} {list(array.shape[1:])}" for name, array in (("x", x), ("y", y))},
        )
        return Scan(tuple(samples), tuple(problems), schema)

    def read(self, root: Path, samples: Sequence[Sample], options: Options) -> Iterator[Reading]:
        """The rows of the samples."""
        for (x, y), _ in _rows(root, samples):
            yield Reading(arrays={"x": x, "y": y})

    def verify(self, root: Path, samples: Sequence[Sample], options: Options) -> None:
        """Hash every row again."""
        for (x, y), sample in _rows(root, samples):
            if _row_hash(x, y) != sample.hash:
                cause = f"has another row for subject {sample.subject} than when the cohort was approved"
                raise data_changed(sample.files["table"], cause)


def _rows(root: Path, samples: Sequence[Sample]) -> Iterator[tuple[tuple[NDArray[Any], NDArray[Any]], Sample]]:
    """Each sample's row, found by its place and id; several files may be concerned, each is read once."""
    held: dict[str, tuple[NDArray[Any], NDArray[Any], tuple[str, ...]]] = {}
    for sample in samples:
        place = sample.files["table"]
        if place not in held:
            if not (root / place).is_file():
                raise data_changed(place, "is gone since the cohort was approved")
            held[place] = _arrays(root / place)
        x, y, ids = held[place]
        row = sample.row
        if row is None or row >= len(ids) or ids[row] != sample.subject:
            raise data_changed(place, f"no longer holds subject {sample.subject} in the row it had")
        yield (x[row], y[row]), sample


def _finite(values: Any) -> bool:
    array = np.asarray(values)
    return array.dtype.kind not in "fc" or bool(np.isfinite(array).all())


def _row_hash(*row: Any) -> str:
    """The hash of one row's content: types, shapes and bytes of x and y."""
    parts = []
    for values in row:
        array = np.ascontiguousarray(values)
        shape = list(np.shape(values))
        parts.append(f"{array.dtype.str}{shape}".encode() + b"\0" + array.tobytes())
    return blob_hash(b"".join(parts))


def _arrays(path: Path) -> tuple[NDArray[Any], NDArray[Any], tuple[str, ...]]:
    """x, y and the ids.

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
    return x, y, tuple(str(value) for value in subject.tolist())
