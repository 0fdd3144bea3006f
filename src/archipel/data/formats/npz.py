"""Format ``npz``: one ``.npz`` file of arrays, one row per sample; only numpy is needed, so plans on arrays start fast.

Either arrays ``x``, ``y`` and ``subject``, the ids; or as MedMNIST has it: ``train_images`` with ``train_labels``, and
the same for ``val`` and ``test``. Such a file has no ids: its rows are called ``train-00000`` and so on.
"""

from __future__ import annotations

import base64
import json
import math
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archipel.data.cohorts import SPLIT, TRAINING, VALIDATION
from archipel.data.files import Folder, LeavesOut, Purpose, data_changed, short_of_memory
from archipel.data.formats.base import Options
from archipel.data.limits import DATA_LIMITS, DataLimits
from archipel.data.sample_columns import SamplesBuilder
from archipel.data.sample_data import SampleData
from archipel.data.samples import DataIssue, DataSchema, Sample, Scan
from archipel.data.text_columns import TextBuilder, TextColumn
from archipel.data.zip_archives import directory_bytes
from archipel.tensors import BlobHasher, is_finite
from archipel.vocabulary import BadInput, DataKind, ErrorCode, Record, Thing

_ARRAYS = ("x", "y", "subject")
_SPLITS = {"train": TRAINING, "val": VALIDATION, "test": ""}
_EMPTY = DataSchema(kind="arrays")
_AT_ONCE = 4096
_MOST_NAMES = 1 << 16
"""Bytes of the list of a file's arrays."""
_FEW_BYTES, _MOST_GAIN = 64 << 20, 100
"""Compressed, a file holds so many bytes and so many times its size; what unpacks to more is empty."""


class NpzFacts(Record):
    """A file of arrays. ``parts`` are its parts with the number of rows of each, one without a name if it has none.

    ``ids`` are the sound rows' subjects, one a line, ``digests`` the base64 of their hashes, 32 bytes each, and
    ``faulty`` the numbers of the other rows, also of those of patients who withdrew: in columns, as a file may have a
    million rows. ``arrays`` are type and shape of one sample by name.
    """

    parts: tuple[tuple[str, int], ...]
    ids: str
    digests: str
    faulty: tuple[int, ...]
    arrays: dict[str, str]
    problems: tuple[DataIssue, ...]

    def rows(self) -> Iterator[tuple[str, str, int, bytes]]:
        """Each sound row's subject, part of the file, number and digest."""
        digests, ids = base64.b64decode(self.digests), iter(TextColumn.of_lines(self.ids))
        faulty, row, at = frozenset(self.faulty), 0, 0
        for part, count in self.parts:
            for number in range(row, row + count):
                if number not in faulty:
                    yield next(ids), part, number, digests[at : at + 32]
                    at += 32
            row += count


class NpzTable:
    """One file of plain arrays."""

    name: ClassVar[str] = "npz"
    kind: ClassVar[DataKind] = "arrays"
    title: ClassVar[str] = "one .npz file with arrays x, y and subject, or as MedMNIST has it"
    options: ClassVar[Mapping[str, str]] = {
        "split": "own: train and validate on the rows that a MedMNIST file has for it; its test rows are left out"
    }

    def fits(self, folder: Folder) -> str:
        """One .npz file, or more."""
        return "it holds a .npz file" if folder.has("*.npz") else ""

    def scan(self, folder: Folder, options: Options) -> Scan:
        """Every row of the file; a file that has not changed is not opened again."""
        own = options.get("split", "")
        if own not in ("", "own"):
            raise BadInput(
                Thing.worded(f"option split={own}", option="split", value=own),
                "is not valid",
                "give split=own, or leave it out",
            )
        problems: list[DataIssue] = []
        files = list(folder.files("*.npz", problems))
        if len(files) != 1:
            cause = f"{len(files)} .npz files in the folder" if files else "no .npz file in the folder"
            problems.append(DataIssue(thing=folder.root.name, cause=cause, remedy="keep exactly one"))
            return Scan((), tuple(problems), _EMPTY)
        place = files[0]
        # Once a patient withdrew, the facts are of the others, and what is asked for says so.
        out: LeavesOut = folder.leaves_out if folder.withdrawn else lambda _: False
        purpose = Purpose("npz/4", NpzFacts, folder.withdrawn)
        looked = folder.look(place, purpose, lambda path: _examined(path, folder.limits, out))
        if looked.problem is not None:
            return Scan((), (*problems, looked.problem), _EMPTY)
        facts = looked.require_facts()
        problems += facts.problems
        if own and not any(part for part, _ in facts.parts):
            problems.append(DataIssue(thing=place, cause="has no split of its own", remedy="leave split=own out"))
        built, left_out = SamplesBuilder(), 0
        kinds = {
            part: built.kind("blake3", {"files": {"table": place}} | ({"values": {SPLIT: side}} if side else {}))
            for part, side in ((part, _SPLITS.get(part, "") if own else "") for part, _ in facts.parts)
        }
        for subject, part, row, digest in facts.rows():
            if folder.leaves_out(subject):
                continue
            if own and part and not _SPLITS[part]:
                left_out += 1
                continue
            built.add_row(subject, "", digest, row, kinds[part])
        samples = built.samples().sorted()
        if left_out:
            cause = f"{left_out} test rows are left out"
            problems.append(_warning(place, cause, "no action is needed: they are for a test after the training"))
        counts = {"subjects": len(samples), "samples": len(samples)}
        schema = DataSchema(kind="arrays", arrays=facts.arrays, **counts)
        return Scan(samples, tuple(problems), schema)

    def read(self, root: Path, samples: Sequence[Sample], options: Options) -> Iterator[SampleData]:
        """The rows of the samples."""
        for (x, y), _ in _rows(root, samples):
            yield SampleData(arrays={"x": x, "y": y})

    def verify(self, root: Path, samples: Sequence[Sample], options: Options) -> None:
        """Hash every row again."""
        for (x, y), sample in _rows(root, samples):
            if _row_hash(x, y) != sample.hash:
                cause = f"has another row for subject {sample.subject} than when the cohort was approved"
                raise data_changed(sample.files["table"], cause)


class _Rows:
    """The rows of one or more arrays of one type and shape, one after the other; they are not copied together."""

    def __init__(self, *arrays: NDArray[Any]) -> None:
        self._arrays = arrays
        self._ends = [int(end) for end in np.cumsum([len(array) for array in arrays])]
        self.dtype, self.shape = np.result_type(*(array.dtype for array in arrays)), arrays[0].shape[1:]

    def __getitem__(self, row: int) -> Any:
        which = bisect_right(self._ends, row)
        start = self._ends[which - 1] if which else 0
        return self._arrays[which][row - start].astype(self.dtype, copy=False)


class _Arrays(NamedTuple):
    """A file's rows, and how many of them are in which part of the file ("" when it has no parts), in order."""

    x: _Rows
    y: _Rows
    ids: TextColumn
    parts: tuple[tuple[str, int], ...]


def _warning(thing: str, cause: str, remedy: str) -> DataIssue:
    return DataIssue(thing=thing, cause=cause, remedy=remedy, severity="warning")


def _examined(path: Path, limits: DataLimits, leaves_out: LeavesOut) -> NpzFacts:
    x, y, ids, parts = _arrays(path, limits)
    problems: list[DataIssue] = []
    faulty: list[int] = []
    named = 0
    seen: set[str] = set()
    sound, digests, several = TextBuilder(), bytearray(), _several(ids)
    for row, subject in enumerate(ids):
        if leaves_out(subject):
            faulty.append(row)
            continue
        problem = _problem(path, row, subject, subject in seen, _finite(x[row]) and _finite(y[row]))
        if problem is not None:
            faulty.append(row)
            named += 1
            if named <= limits.findings:
                problems.append(DataIssue(**problem))
        else:
            sound.add(f"\n{subject}" if digests else subject)
            digests += bytes.fromhex(_row_hash(x[row], y[row]).partition(":")[2])
        if hash(subject) in several:
            seen.add(subject)
    if named > limits.findings:
        cause = f"has {named - limits.findings} faulty rows more"
        # The errors above ask for a decision; these rows are left out whatever it is.
        problems.append(_warning(path.name, cause, "fix the rows above first"))
    if not len(ids):
        problems.append(DataIssue(thing=path.name, cause="holds no row", remedy="add the subjects' rows"))
    return NpzFacts(
        parts=parts,
        ids=sound.arrays()[0].tobytes().decode(),
        digests=base64.b64encode(digests).decode(),
        faulty=tuple(faulty),
        arrays={name: f"{array.dtype.name} {list(array.shape)}" for name, array in (("x", x), ("y", y))},
        problems=tuple(problems),
    )


def _problem(path: Path, row: int, subject: str, again: bool, finite: bool) -> dict[str, str] | None:
    """What is wrong with a row, if anything is, as the fields of an issue."""
    if not _is_id(subject):
        cause = f"row {row} has no id that a subject may have"
        return {"thing": path.name, "cause": cause, "remedy": "name it without / and control characters"}
    if again:
        cause = f"is in {path.name} more than once"
        return {"thing": subject, "cause": cause, "remedy": "keep one row per subject", "subject": subject}
    if not finite:
        cause = f"its row of {path.name} contains NaN or infinite values"
        return {"thing": subject, "cause": cause, "remedy": "fix or remove the row", "subject": subject}
    return None


def _several(ids: TextColumn) -> frozenset[int]:
    """Hashes of all ids that are there more than once, and of hardly any other: a set of all ids would be large."""
    hashes, counts = np.unique(np.fromiter(map(hash, ids), np.int64, len(ids)), return_counts=True)
    return frozenset(hashes[counts > 1].tolist())


def _is_id(subject: str) -> bool:
    return 0 < len(subject) <= 200 and subject.isprintable() and not {"/", "\\"} & set(subject)


def _rows(root: Path, samples: Sequence[Sample]) -> Iterator[tuple[tuple[NDArray[Any], NDArray[Any]], Sample]]:
    """Each sample's row, found by its place and id; several files may be concerned, each is read once."""
    opened: dict[str, _Arrays] = {}
    for sample in samples:
        place = sample.files["table"]
        if place not in opened:
            if not (root / place).is_file():
                raise data_changed(place, "is missing, and was there when the cohort was approved")
            try:
                opened[place] = _arrays(root / place)
            except MemoryError as error:
                raise short_of_memory(root / place) from error
        x, y, ids, _ = opened[place]
        row = sample.row
        if row is None or row >= len(ids) or ids[row] != sample.subject:
            raise data_changed(place, f"no longer holds subject {sample.subject} in the row it had")
        yield (x[row], y[row]), sample


def _finite(values: Any) -> bool:
    array = np.asarray(values)
    return array.dtype.kind not in "fc" or is_finite(array)


def _row_hash(*row: Any) -> str:
    """The hash of one row's content: types, shapes and bytes of x and y."""
    hasher = BlobHasher()
    for values in row:
        array = np.asarray(values)
        hasher.update(f"{array.dtype.str}{list(array.shape)}".encode() + b"\0")
        hasher.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return hasher.digest()


def _bad(path: Path, cause: str, remedy: str) -> BadInput:
    return BadInput(Thing.file(path.name), cause, remedy, code=ErrorCode.BAD_DATA)


def _check_headers(path: Path, limits: DataLimits) -> None:
    """Raise BadInput for arrays of too many bytes, by what their headers say, before memory is allocated for them."""
    _check_size(path, path.stat().st_size, limits)
    with path.open("rb") as file:
        names = directory_bytes(file)
        if names == math.inf:
            raise zipfile.BadZipFile("something follows the list of arrays")
        if names > _MOST_NAMES:
            raise _bad(path, "lists more arrays than are allowed", "keep those that are used")
        with zipfile.ZipFile(file) as packed:
            # A header may be as long as the whole member.
            _check_size(path, sum(member.file_size for member in packed.infolist()), limits)
            size = 0
            for member in packed.infolist():
                with packed.open(member) as array:
                    shape, kind = _header(array)
                size += max(member.file_size, kind.itemsize * math.prod(shape))
                _check_size(path, size, limits)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    formats = np.lib.format
    first = formats.read_magic(file) == (1, 0)
    shape, _, kind = (formats.read_array_header_1_0 if first else formats.read_array_header_2_0)(file)
    return shape, kind


def _check_size(path: Path, size: int, limits: DataLimits) -> None:
    """Raise BadInput for arrays of too many bytes, at all or for what they take on the disk."""
    if size > limits.npz_bytes:
        cause = f"would take {size >> 20} MiB in memory; at most {limits.npz_bytes >> 20} MiB are allowed"
        raise _bad(path, cause, "split it into several datasets")
    most = _FEW_BYTES + _MOST_GAIN * path.stat().st_size
    if size > most:
        cause = f"would take {size >> 20} MiB in memory; at most {most >> 20} MiB are allowed for a file of its size"
        raise _bad(path, cause, "write it again from arrays that hold values")


def _arrays(path: Path, limits: DataLimits = DATA_LIMITS) -> _Arrays:
    """x, y, the ids and the parts of the file.

    Raises BadInput when the file is damaged, an array is missing or would need pickle, the lengths differ, or it holds
    too much; and MemoryError.
    """
    try:
        _check_headers(path, limits)
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive}
        # numpy gives a member that is not an array as its bytes.
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            raise TypeError("a member is not an array")
    except (OSError, ValueError, TypeError, EOFError, KeyError, NotImplementedError, RuntimeError, AttributeError,
            OverflowError, zipfile.BadZipFile, zlib.error) as error:  # fmt: skip
        raise _bad(
            path,
            f"cannot be read ({type(error).__name__}); it is damaged or holds Python objects",
            "write it with numpy.savez from plain arrays",
        ) from error
    parts = [part for part in _SPLITS if f"{part}_images" in arrays]
    if parts and "x" not in arrays:
        return _in_parts(path, arrays, parts, limits.npz_rows)
    missing = [name for name in _ARRAYS if name not in arrays]
    if missing:
        raise _bad(path, f"has no array named {', '.join(missing)}", "save arrays x, y and subject")
    x, y, subject = (arrays[name] for name in _ARRAYS)
    if subject.ndim != 1 or not x.ndim or not y.ndim or not len(x) == len(y) == len(subject):
        raise _bad(
            path,
            f"x, y and subject have shapes {list(x.shape)}, {list(y.shape)} and {list(subject.shape)}",
            "give all three the same number of rows",
        )
    _check_rows(path, limits.npz_rows, [x], [y])
    return _Arrays(_Rows(x), _Rows(y), TextColumn.of(_texts(subject)), (("", len(subject)),))


def _check_rows(path: Path, most: int, *arrays: Sequence[NDArray[Any]]) -> None:
    rows = sum(len(array) for array in arrays[0])
    if rows > most:
        raise _bad(path, f"has {rows} rows; at most {most} are allowed", "split it into several datasets")
    if any(len(array) and not array.nbytes for several in arrays for array in several):
        raise _bad(path, "has rows that hold nothing", "save arrays whose rows hold numbers")


def _in_parts(path: Path, arrays: Mapping[str, NDArray[Any]], parts: Sequence[str], most_rows: int) -> _Arrays:
    images, labels = [], []
    for part in parts:
        x, y = arrays[f"{part}_images"], arrays.get(f"{part}_labels")
        if y is None or not x.ndim or not y.ndim or len(x) != len(y):
            shape = "nothing" if y is None else list(y.shape)
            cause = f"{part}_images and {part}_labels have shapes {list(x.shape)} and {shape}"
            raise _bad(path, cause, "give each image a label")
        images.append(x)
        # One label per row is stored as a column of its own.
        labels.append(y[:, 0] if y.shape[1:] == (1,) else y)
    _check_rows(path, most_rows, images, labels)
    shapes = {(array.dtype.str, array.shape[1:]) for array in images}
    kinds = {array.dtype.kind in "biuf" for array in labels}
    if len(shapes) > 1 or len(kinds) > 1 or len({array.shape[1:] for array in labels}) > 1:
        listed = json.dumps(sorted(str(list(shape)) for _, shape in shapes))
        raise _bad(path, f"its parts hold images of different kinds ({listed})", "give all the same size and type")
    counts = tuple((part, len(x)) for part, x in zip(parts, images, strict=True))
    ids = TextColumn.of(f"{part}-{row:05d}" for part, count in counts for row in range(count))
    return _Arrays(_Rows(*images), _Rows(*labels), ids, counts)


def _texts(subject: NDArray[Any]) -> Iterator[str]:
    for first in range(0, len(subject), _AT_ONCE):
        for value in subject[first : first + _AT_ONCE].tolist():
            # What is not Unicode gets characters that no id may have.
            yield str(value).encode("utf-8", "backslashreplace").decode()
